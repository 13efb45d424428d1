//! One line of an access log, read back: Ringway's own JSON, or the common and combined formats that other servers write. Nothing is
//! copied but a path that was escaped. Where lines come from is not known here.
use memchr::memchr;
use memchr::memchr2;

/// What a line says of a request. Texts are as written, escapes included, but for the target.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogLine<'a> {
    /// The second it was written in, in whatever form.
    pub second: &'a [u8],
    /// The milliseconds of it, by Ringway alone.
    pub millis: u16,
    /// The listener's name, by Ringway alone.
    pub listener: Option<&'a [u8]>,
    /// The route's name, by Ringway alone.
    pub route: Option<&'a [u8]>,
    /// The upstream's name, by Ringway alone.
    pub upstream: Option<&'a [u8]>,
    /// The method.
    pub method: &'a [u8],
    /// The host.
    pub host: Option<&'a [u8]>,
    /// Path and query.
    pub target: &'a [u8],
    /// The status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// How long it took, in milliseconds, by Ringway alone.
    pub duration_ms: Option<f64>,
    /// The key's hash, by Ringway alone.
    pub key_hash: Option<u64>,
    /// Which alternative gave the key, by Ringway alone.
    pub key_source: Option<&'a [u8]>,
    /// The client's address.
    pub client_ip: &'a [u8],
    /// Whether Ringway wrote it.
    pub is_own: bool,
}

impl<'a> LogLine<'a> {
    /// Reads a line without its end; `None` when it is none of a known format. A path that was escaped is written to `scratch`.
    pub fn parse(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<Self> {
        match line.first()? {
            b'{' => json(line, scratch),
            _ => combined(line),
        }
    }
}

/// A flat object; names that are not known are skipped.
fn json<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<LogLine<'a>> {
    let mut said = LogLine { is_own: true, ..LogLine::default() };
    let mut has_escaped_target = false;
    let mut rest = &line[1..];
    loop {
        rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let end = memchr(b'"', rest)?;
        let name = &rest[..end];
        rest = rest[end + 1..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if let Some(text) = rest.strip_prefix(b"\"") {
            let (value, is_escaped, after) = quoted(text)?;
            said.text(name, value);
            has_escaped_target |= is_escaped && name == b"path";
            rest = after;
        } else {
            let end = memchr2(b',', b'}', rest)?;
            said.number(name, rest[..end].trim_ascii_end());
            rest = &rest[end..];
        }
        rest = rest.trim_ascii_start();
        match rest.first()? {
            b',' => rest = &rest[1..],
            b'}' => break,
            _ => return None,
        }
    }
    if has_escaped_target {
        unescape(said.target, scratch);
        said.target = scratch;
    }
    (!said.method.is_empty()).then_some(said)
}

impl<'a> LogLine<'a> {
    fn text(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"time" => {
                self.second = value.get(..19).unwrap_or(value);
                self.millis = value.get(20..23).and_then(decimal).unwrap_or(0) as u16;
            }
            b"listener" => self.listener = Some(value),
            b"route" => self.route = Some(value),
            b"upstream" => self.upstream = Some(value),
            b"method" => self.method = value,
            b"host" => self.host = Some(value),
            b"path" => self.target = value,
            b"key_hash" => self.key_hash = hexadecimal(value),
            b"key_source" => self.key_source = Some(value),
            b"client_ip" => self.client_ip = value,
            _ => {}
        }
    }

    fn number(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"status" => self.status = status(value).unwrap_or(0),
            b"bytes_out" => self.bytes = decimal(value).unwrap_or(0),
            b"duration_ms" => self.duration_ms = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
}

/// `CLIENT IDENT USER [TIME] "METHOD TARGET VERSION" STATUS BYTES ...`, with a host before it or not.
fn combined(line: &[u8]) -> Option<LogLine<'_>> {
    let open = memchr(b'[', line)?;
    let close = open + memchr(b']', &line[open..])?;
    let (client_ip, host) = sender(&line[..open])?;
    let quote = close + memchr(b'"', &line[close..])?;
    let (request, _, rest) = quoted(&line[quote + 1..])?;
    let mut numbers = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let status = status(numbers.next()?)?;
    // A hyphen stands for nothing.
    let bytes = numbers.next().and_then(decimal).unwrap_or(0);
    let space = memchr(b' ', request).filter(|space| *space > 0)?;
    let (method, target) = (&request[..space], &request[space + 1..]);
    let target = match memchr::memrchr(b' ', target) {
        Some(at) if target[at..].starts_with(b" HTTP/") => &target[..at],
        _ => target,
    };
    let (asked, target) = origin_form(target);
    let second = line[open + 1..close].split(|byte| *byte == b' ').next().unwrap_or_default();
    Some(LogLine { second, method, host: asked.or(host), target, status, bytes, client_ip, ..LogLine::default() })
}

/// The client, and the host that some servers write before it.
fn sender(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut words = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let first = words.next()?;
    let second = words.next();
    match words.count() {
        2.. if second.is_some_and(is_address) => Some((second?, Some(first))),
        _ => Some((first, None)),
    }
}

fn is_address(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}

/// The host of an absolute target, and its path.
fn origin_form(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(rest) = [&b"http://"[..], b"https://"].iter().find_map(|scheme| target.strip_prefix(*scheme)) else {
        return (None, target);
    };
    match memchr(b'/', rest) {
        Some(at) => (Some(&rest[..at]), &rest[at..]),
        None => (Some(rest), b"/"),
    }
}

/// A text up to its closing quote, whether it has escapes, and what follows the quote.
fn quoted(text: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (mut at, mut is_escaped) = (0, false);
    loop {
        at += memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return Some((&text[..at], is_escaped, &text[at + 1..]));
        }
        is_escaped = true;
        at += 2;
        if at >= text.len() {
            return None;
        }
    }
}

/// A number that is too large to be a status is none.
fn status(text: &[u8]) -> Option<u16> {
    decimal(text).and_then(|number| u16::try_from(number).ok())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.split(|byte| *byte == b'.').next().unwrap_or_default();
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, digit| Some(sum << 4 | u64::from((*digit as char).to_digit(16)?)))
}

/// JSON's escapes as the access log writes them; others stay as they are.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = text;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let code = rest.get(2..6).filter(|_| rest[1] == b'u').and_then(hexadecimal);
        match (rest.get(1), code.and_then(|code| char::from_u32(code as u32))) {
            (Some(b'u'), Some(character)) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[6..];
            }
            (Some(character @ (b'"' | b'\\' | b'/')), _) => {
                out.push(*character);
                rest = &rest[2..];
            }
            _ => {
                out.push(b'\\');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, look: impl FnOnce(LogLine<'_>)) {
        look(LogLine::parse(line.as_bytes(), &mut Vec::new()).unwrap_or_else(|| panic!("not read: {line}")));
    }

    #[test]
    fn our_own_lines_are_read_back() {
        let golden = include_str!("../../tests/golden/access_log.json");
        check(golden.trim_end(), |line| {
            assert_eq!((line.method, line.target), (&b"GET"[..], "/a\"b\u{fffd}\n".as_bytes()));
            assert_eq!((line.status, line.bytes, line.duration_ms), (200, 1024, Some(1.5)));
            assert_eq!((line.key_hash, line.key_source), (Some(255), Some(&b"path"[..])));
            assert_eq!((line.upstream, line.client_ip), (Some(&b"cache"[..]), &b"10.0.0.1"[..]));
            assert_eq!((line.second, line.host), (&b"2023-11-14T22:13:20"[..], Some(&b"example.com"[..])));
            assert_eq!(line.millis, 123);
        });
    }

    #[test]
    fn common_and_combined_lines_are_read() {
        let common = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif?x=1 HTTP/1.0\" 200 2326";
        check(common, |line| {
            assert_eq!((line.method, line.target, line.status), (&b"GET"[..], &b"/a.gif?x=1"[..], 200));
            assert_eq!((line.bytes, line.client_ip, line.host), (2326, &b"127.0.0.1"[..], None));
            assert_eq!(line.second, b"10/Oct/2000:13:55:36");
        });
        check(&format!("{common} \"http://r/\" \"Mozilla/5.0 (x; \\\"y\\\")\""), |line| assert_eq!(line.bytes, 2326));
        check(&format!("a.example:80 {common}"), |line| {
            assert_eq!((line.host, line.client_ip), (Some(&b"a.example:80"[..]), &b"127.0.0.1"[..]));
        });
        check("::1 - - [x] \"HEAD http://b.example/z HTTP/1.1\" 304 -", |line| {
            assert_eq!((line.host, line.target, line.bytes), (Some(&b"b.example"[..]), &b"/z"[..], 0));
        });
    }

    #[test]
    fn what_is_no_line_is_none() {
        let too_large = "1 - - [t] \"GET / HTTP/1.1\" 65736 1";
        let no_method = "1 - - [t] \" / HTTP/1.1\" 200 1";
        let short =
            ["", "{", "{\"a\"", "{}", "{\"method\":", "hello", "[x]", "1 - - [t] \"GET / HTTP/1.1\"", "{\"a\":\"\\"];
        let lines = short.into_iter().chain([too_large, no_method]);
        for line in lines {
            assert_eq!(LogLine::parse(line.as_bytes(), &mut Vec::new()), None, "{line}");
        }
    }
}
