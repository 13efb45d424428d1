//! The chunked transfer coding (RFC 9112 section 7.1): a decoder that takes bytes as they come, and the encoder.
use super::limits::Limits;
use super::parse;
use super::parse::Progress;
use super::refusal::Refusal;
use super::syntax;
use crate::head::Head;
use crate::head::is_token_byte;
use crate::head::names::Name;
use bytes::BytesMut;
use std::io::Write;
use std::ops::Range;

/// Longest size line, its extension included. Extensions are rare and never useful to us.
const MAX_SIZE_LINE: usize = 256;
/// Most hexadecimal digits of a size: sixteen would overflow what the rest of the house can add up.
const MAX_DIGITS: usize = 15;

/// Fields of that kind that nobody else in the house knows by name.
const NO_TRAILERS: [&[u8]; 11] = [
    b"age",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"location",
    b"max-forwards",
    b"pragma",
    b"proxy-authorization",
    b"range",
    b"set-cookie",
    b"vary",
];

/// What one call found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Data lies in this range of the input; `consumed` bytes are used up.
    Data {
        /// Bytes of the input used up.
        consumed: usize,
        /// Where the data lies.
        data: Range<usize>,
    },
    /// The body is over.
    End {
        /// Bytes of the input used up.
        consumed: usize,
    },
    /// Nothing more can be said without more input. What is not consumed must be there again.
    NeedMore {
        /// Bytes of the input used up.
        consumed: usize,
    },
}

/// Decodes one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    limits: Limits,
    trailers: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Over,
}

impl Decoder {
    /// A decoder at the beginning of a body; `limits` are those of its trailers.
    pub fn new(limits: &Limits) -> Self {
        Self { state: State::Size, limits: *limits, trailers: Head::default() }
    }

    /// The trailers, if there were any that may be passed on.
    pub fn take_trailers(&mut self) -> Option<Head> {
        let trailers = std::mem::take(&mut self.trailers);
        (!trailers.fields().is_empty()).then_some(trailers)
    }

    /// Looks at what is there.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Refusal> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Over => return Ok(Decoded::End { consumed: at }),
                State::Size => match size_line(rest)? {
                    None => return Ok(Decoded::NeedMore { consumed: at }),
                    Some((size, length)) => {
                        at += length;
                        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                    }
                },
                State::Data(_) if rest.is_empty() => return Ok(Decoded::NeedMore { consumed: at }),
                State::Data(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - count as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data { consumed: at + count, data: at..at + count });
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::NeedMore { consumed: at }),
                    _ => return Err(Refusal::ChunkEnd),
                },
                State::Trailers => match self.read_trailers(rest)? {
                    None => return Ok(Decoded::NeedMore { consumed: at }),
                    Some(length) => {
                        at += length;
                        self.state = State::Over;
                    }
                },
            }
        }
    }

    fn read_trailers(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        let mut all = Head::default();
        let Progress::Complete { consumed } = parse::trailers(rest, &self.limits, &mut all)? else { return Ok(None) };
        for field in all.fields().iter().filter(|field| may_trail(field.known, all.name_of(field))) {
            self.trailers.push(all.name_of(field), all.value_of(field));
        }
        Ok(Some(consumed))
    }
}

/// Fields that frame, route, identify or rule a message have no business after it (RFC 9110 section 6.5.1): whoever merges
/// trailers into the head would be led by them.
pub fn may_trail(known: Name, name: &[u8]) -> bool {
    matches!(known, Name::Other | Name::Date | Name::Expires | Name::LastModified)
        && !NO_TRAILERS.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// A size line: the size, and the line's length; `None` when it is not whole.
fn size_line(rest: &[u8]) -> Result<Option<(u64, usize)>, Refusal> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_DIGITS || (digits == 0 && !rest.is_empty()) {
        return Err(Refusal::ChunkSize);
    }
    let Some(next) = rest.get(digits) else { return Ok(None) };
    if !matches!(next, b'\r' | b';') {
        return Err(Refusal::ChunkSize);
    }
    let window = &rest[..rest.len().min(MAX_SIZE_LINE)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let has_bad = window[digits..].iter().any(|byte| !matches!(byte, b'\r' | b'\t' | 0x20..=0x7e | 0x80..));
        let is_over = rest.len() > MAX_SIZE_LINE;
        return if is_over || has_bad { Err(Refusal::ChunkExtension) } else { early_cr(window).map(|()| None) };
    };
    if rest[end - 1] != b'\r' {
        return Err(Refusal::ChunkSize);
    }
    extension(&rest[digits..end - 1])?;
    let size = rest[..digits].iter().fold(0, |size, digit| size * 16 + u64::from(hex_value(*digit)));
    Ok(Some((size, end + 1)))
}

/// A CR that is followed by anything but LF never becomes good.
fn early_cr(window: &[u8]) -> Result<(), Refusal> {
    match memchr::memchr(b'\r', window) {
        Some(at) if at + 1 < window.len() => Err(Refusal::ChunkSize),
        _ => Ok(()),
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`, without the white space that RFC 9112 calls bad.
fn extension(mut text: &[u8]) -> Result<(), Refusal> {
    while let [b';', rest @ ..] = text {
        let name = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        if name == 0 {
            return Err(Refusal::ChunkExtension);
        }
        text = &rest[name..];
        if let [b'=', value @ ..] = text {
            let length = match value.first() {
                Some(b'"') => quoted(value).ok_or(Refusal::ChunkExtension)?,
                _ => value.iter().take_while(|byte| is_token_byte(**byte)).count(),
            };
            if length == 0 {
                return Err(Refusal::ChunkExtension);
            }
            text = &value[length..];
        }
    }
    if text.is_empty() { Ok(()) } else { Err(Refusal::ChunkExtension) }
}

/// Length of the quoted string that `text` begins with.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if syntax::is_field_value(text.get(at + 1..at + 2)?) => at += 2,
            byte if syntax::is_field_value(&[*byte]) => at += 1,
            _ => return None,
        }
    }
}

/// Appends `data`, which is not empty, as one chunk.
pub fn encode_chunk(data: &[u8], out: &mut BytesMut) {
    debug_assert!(!data.is_empty(), "an empty chunk would end the body");
    out.reserve(data.len() + 20);
    let mut size = [0u8; 18];
    let mut left = &mut size[..];
    write!(left, "{:x}\r\n", data.len()).expect("sixteen digits and CRLF fit");
    let unused = left.len();
    out.extend_from_slice(&size[..18 - unused]);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers.
pub fn encode_last(trailers: Option<&Head>, out: &mut BytesMut) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers.iter().flat_map(|trailers| trailers.fields()) {
        let trailers = trailers.expect("a field lies in a head");
        out.extend_from_slice(trailers.name_of(field));
        out.extend_from_slice(b": ");
        out.extend_from_slice(trailers.value_of(field));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, how much of the input it took, the trailers.
    type Body = (Vec<u8>, usize, Option<Head>);

    /// Feeds `input` in pieces of `step` bytes, as a connection would.
    fn decode(input: &[u8], step: usize) -> Result<Option<Body>, Refusal> {
        let mut decoder = Decoder::new(&Limits::default());
        let (mut data, mut used, mut seen) = (Vec::new(), 0, 0);
        loop {
            match decoder.decode(&input[used..seen])? {
                Decoded::Data { consumed, data: range } => {
                    data.extend_from_slice(&input[used..seen][range]);
                    used += consumed;
                }
                Decoded::End { consumed } => return Ok(Some((data, used + consumed, decoder.take_trailers()))),
                Decoded::NeedMore { consumed } => {
                    used += consumed;
                    if seen == input.len() {
                        return Ok(None);
                    }
                    seen = (seen + step).min(input.len());
                }
            }
        }
    }

    #[test]
    fn chunks_are_decoded_whatever_the_split() {
        let input =
            b"5\r\nhello\r\n00a;x;y=1;z=\"q\\\"\xff\"\r\n, world...\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\nNEXT";
        for step in 1..input.len() {
            let (data, used, trailers) = decode(input, step).unwrap().unwrap();
            assert_eq!(data, b"hello, world...", "{step}");
            assert_eq!(&input[used..], b"NEXT");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.fields().len(), 1);
            assert_eq!(trailers.all_named(b"x-sum").next(), Some(&b"1"[..]));
        }
    }

    #[test]
    fn malformed_chunks_are_refused_whatever_the_split() {
        let check = |input: &[u8], refusal: Refusal| {
            for step in 1..=input.len() {
                assert_eq!(decode(input, step).err(), Some(refusal), "{} by {step}", input.escape_ascii());
            }
        };
        for size in ["+5", "-5", " 5", "5 ", "0x5", "g", "\n", "\r\n", "1000000000000000"] {
            check(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), Refusal::ChunkSize);
        }
        check(b"5\nhello\r\n0\r\n\r\n", Refusal::ChunkSize);
        check(b"5\r\nhelloX\r\n0\r\n\r\n", Refusal::ChunkEnd);
        check(b"5\r\nhello\n0\r\n\r\n", Refusal::ChunkEnd);
        check(b"5\r\nhello\rX0\r\n\r\n", Refusal::ChunkEnd);
        for extension in [";", ";=1", ";a=", ";a=\"x", "; a", ";a b", ";a=\"\x01\"", ";a\x7f"] {
            check(format!("5{extension}\r\nhello\r\n0\r\n\r\n").as_bytes(), Refusal::ChunkExtension);
        }
        check(b"0\r\nA : 1\r\n\r\n", Refusal::FieldSpace);
        check(b"0\r\nA: 1\n\r\n", Refusal::BareLf);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let mut trailers = Head::default();
        trailers.push(b"X-T", b"v");
        let mut out = BytesMut::new();
        encode_chunk(b"abc", &mut out);
        encode_chunk(&[7; 70_000], &mut out);
        encode_last(Some(&trailers), &mut out);
        let (data, used, trailers) = decode(&out, 1000).unwrap().unwrap();
        assert_eq!((data.len(), used), (70_003, out.len()));
        assert_eq!(trailers.unwrap().all_named(b"x-t").next(), Some(&b"v"[..]));
    }
}
