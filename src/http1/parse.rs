//! Bytes to a head, or a named refusal (RFC 9112 sections 2 to 5).
use super::limits::Limits;
use super::refusal::Refusal;
use super::syntax;
use crate::head::Head;
use crate::head::Method;
use crate::head::Span;
use crate::head::Version;
use crate::head::is_token;
use crate::head::is_token_byte;
use crate::head::names::Name;

/// How far parsing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The head is whole.
    Complete {
        /// Bytes of the input that belong to it.
        consumed: usize,
    },
}

/// A method is shorter than this, whether or not its line has come whole.
const MAX_METHOD: usize = 64;

/// Reads a request's head into `head`, which is empty. Called again with all the bytes when more have come.
pub fn request(input: &[u8], limits: &Limits, head: &mut Head) -> Result<Progress, Refusal> {
    // One empty line before a request is allowed (RFC 9112 section 2.2).
    let lead = match input {
        [b'\r', b'\n', ..] => 2,
        [b'\r'] => return Ok(Progress::Partial),
        _ => 0,
    };
    let input = &input[lead..];
    let first = take_line(input, limits, Refusal::TargetTooLong);
    if !matches!(first, Ok(Some(_)) | Err(Refusal::BareLf)) {
        early_method(input)?;
    }
    let Some((line, rest)) = first? else {
        early_target(input)?;
        return Ok(Progress::Partial);
    };
    let line = request_line(line)?;
    let Some(end) = fields(input, rest, limits, head)? else { return Ok(Progress::Partial) };
    head.append(&input[..end]);
    line.apply(input, head)?;
    check_host(head)?;
    Ok(Progress::Complete { consumed: lead + end })
}

/// Reads a response's head into `head`, which is empty.
pub fn response(input: &[u8], limits: &Limits, head: &mut Head) -> Result<Progress, Refusal> {
    let Some((line, rest)) = take_line(input, limits, Refusal::HeadTooLarge)? else {
        let known = input.len().min(5);
        return if input[..known] == b"HTTP/"[..known] { Ok(Progress::Partial) } else { Err(Refusal::StartLine) };
    };
    let (version, status, reason) = status_line(line)?;
    let Some(end) = fields(input, rest, limits, head)? else { return Ok(Progress::Partial) };
    head.append(&input[..end]);
    head.set_version(version);
    head.set_response(status, reason);
    Ok(Progress::Complete { consumed: end })
}

/// Reads a block of fields up to its empty line, as trailers are: the head gets the fields and the bytes.
pub fn trailers(input: &[u8], limits: &Limits, head: &mut Head) -> Result<Progress, Refusal> {
    let Some(end) = fields(input, 0, limits, head)? else { return Ok(Progress::Partial) };
    head.append(&input[..end]);
    Ok(Progress::Complete { consumed: end })
}

/// The first line without its CRLF, and where the next begins; `None` when it is not whole yet.
fn take_line<'a>(input: &'a [u8], limits: &Limits, too_long: Refusal) -> Result<Option<(&'a [u8], usize)>, Refusal> {
    match memchr::memchr(b'\n', input) {
        Some(end) if end > limits.max_head_bytes => Err(too_long),
        Some(0) => Err(Refusal::BareLf),
        Some(end) if input[end - 1] == b'\r' => Ok(Some((&input[..end - 1], end + 1))),
        Some(_) => Err(Refusal::BareLf),
        None if input.len() > limits.max_head_bytes => Err(too_long),
        None => Ok(None),
    }
}

/// Refuses what cannot become a request line, without waiting for its end: a TLS hello, say.
fn early_method(input: &[u8]) -> Result<(), Refusal> {
    let method = &input[..input.len().min(MAX_METHOD)];
    match method.iter().position(|byte| !is_token_byte(*byte)) {
        Some(at) if at > 0 && method[at] == b' ' => Ok(()),
        Some(_) => Err(Refusal::Method),
        None if method.len() == MAX_METHOD => Err(Refusal::Method),
        None => Ok(()),
    }
}

/// Refuses the beginning of a request line without an end that cannot become good.
fn early_target(input: &[u8]) -> Result<(), Refusal> {
    // A CR that is followed by anything but LF, or a NUL, never becomes good.
    match memchr::memchr2(b'\r', 0, input) {
        Some(at) if input[at] == 0 => Err(Refusal::Target),
        Some(at) if at + 1 < input.len() => Err(Refusal::BareCr),
        _ => Ok(()),
    }
}

/// A request line, checked, as offsets into the input.
struct RequestLine {
    method: Method,
    method_end: usize,
    target: Form,
    version: Version,
}

/// The form of a request target (RFC 9112 section 3.2), as offsets into the input.
enum Form {
    /// `/path?query`
    Origin(usize, usize),
    /// `http://authority/path?query`: the authority, and what follows it (maybe nothing).
    Absolute { authority: (usize, usize), rest: (usize, usize) },
    /// `host:port`, for CONNECT alone.
    Authority(usize, usize),
    /// `*`, for OPTIONS alone.
    Asterisk(usize, usize),
}

fn request_line(line: &[u8]) -> Result<RequestLine, Refusal> {
    let method_end = memchr::memchr(b' ', line).ok_or(Refusal::StartLine)?;
    let method_text = &line[..method_end];
    if method_end >= MAX_METHOD || !is_token(method_text) {
        return Err(Refusal::Method);
    }
    let target_start = method_end + 1;
    let target_end = memchr::memrchr(b' ', line).filter(|at| *at > method_end).ok_or(Refusal::StartLine)?;
    let version = version(&line[target_end + 1..])?;
    let method = Method::of(method_text);
    let target = &line[target_start..target_end];
    if !syntax::is_target(target) {
        return Err(Refusal::Target);
    }
    let form = match (method, target[0]) {
        (Method::Connect, _) if syntax::is_authority(target) => Form::Authority(target_start, target_end),
        (Method::Connect, _) => return Err(Refusal::Target),
        (_, b'/') => Form::Origin(target_start, target_end),
        (Method::Options, b'*') if target.len() == 1 => Form::Asterisk(target_start, target_end),
        _ => absolute(target, target_start)?,
    };
    Ok(RequestLine { method, method_end, target: form, version })
}

fn version(text: &[u8]) -> Result<Version, Refusal> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal::Version)
        }
        _ => Err(Refusal::StartLine),
    }
}

fn absolute(target: &[u8], offset: usize) -> Result<Form, Refusal> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme));
    let start = scheme.ok_or(Refusal::Target)?.len();
    let end = target[start..].iter().position(|b| matches!(b, b'/' | b'?')).map_or(target.len(), |at| start + at);
    if !syntax::is_authority(&target[start..end]) {
        return Err(Refusal::Target);
    }
    Ok(Form::Absolute { authority: (offset + start, offset + end), rest: (offset + end, offset + target.len()) })
}

impl RequestLine {
    /// Fills the head, whose buffer begins with the input.
    fn apply(self, input: &[u8], head: &mut Head) -> Result<(), Refusal> {
        head.set_version(self.version);
        let method = Span::new(0, self.method_end);
        let target = match self.target {
            Form::Origin(start, end) | Form::Asterisk(start, end) => Span::new(start, end),
            Form::Authority(start, end) => {
                head.set_authority(Span::new(start, end));
                Span::new(start, end)
            }
            Form::Absolute { authority: (start, end), rest } => {
                head.set_authority(Span::new(start, end));
                self::origin_of(&input[rest.0..rest.1], rest, self.method, head)
            }
        };
        head.set_request_spans(self.method, method, target);
        Ok(())
    }
}

/// The origin-form of what follows an absolute target's authority (RFC 9112 section 3.2.1 and 3.2.4).
fn origin_of(rest: &[u8], (start, end): (usize, usize), method: Method, head: &mut Head) -> Span {
    match rest.first() {
        Some(b'/') => Span::new(start, end),
        Some(_) => {
            let slash = head.append(b"/");
            let query = head.append(rest);
            Span { start: slash.start, len: slash.len + query.len }
        }
        None if method == Method::Options => head.append(b"*"),
        None => head.append(b"/"),
    }
}

fn status_line(line: &[u8]) -> Result<(Version, u16, Span), Refusal> {
    if line.len() < 12 || line[8] != b' ' {
        return Err(Refusal::StartLine);
    }
    let version = version(&line[..8])?;
    let digits = &line[9..12];
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::StartLine);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    // The space before an empty reason is required, but many servers leave it out; nothing is ambiguous without it.
    let reason = match line.get(12) {
        None => 12,
        Some(b' ') => 13,
        Some(_) => return Err(Refusal::StartLine),
    };
    if !(100..600).contains(&status) || !syntax::is_field_value(&line[reason..]) {
        return Err(Refusal::StartLine);
    }
    Ok((version, status, Span::new(reason, line.len())))
}

/// Reads field lines from `start` on; the end of the empty line, or `None` when it has not come.
fn fields(input: &[u8], start: usize, limits: &Limits, head: &mut Head) -> Result<Option<usize>, Refusal> {
    let mut at = start;
    loop {
        let rest = &input[at..];
        match rest {
            [b'\r', b'\n', ..] => return check_size(at + 2, limits).map(|()| Some(at + 2)),
            [b'\r', _, ..] => return Err(Refusal::BareCr),
            [b' ' | b'\t', ..] => return Err(Refusal::FieldSpace),
            _ => {}
        }
        if let Some((colon, end)) = whole_field(rest) {
            check_size(at + end + 1, limits)?;
            check_count(head, limits)?;
            push_field(rest, at, colon, end, head);
            at += end + 2;
            continue;
        }
        let Some(end) = memchr::memchr(b'\n', rest) else {
            check_size(input.len(), limits)?;
            early_field(rest)?;
            return Ok(None);
        };
        if end == 0 || rest[end - 1] != b'\r' {
            return Err(Refusal::BareLf);
        }
        check_size(at + end, limits)?;
        check_count(head, limits)?;
        field(&rest[..end - 1], at, head)?;
        at += end + 1;
    }
}

fn check_size(bytes: usize, limits: &Limits) -> Result<(), Refusal> {
    if bytes > limits.max_head_bytes { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

fn check_count(head: &Head, limits: &Limits) -> Result<(), Refusal> {
    if head.fields().len() == limits.max_fields { Err(Refusal::TooManyFields) } else { Ok(()) }
}

/// The places of the colon and of the CR that ends the line, if a whole one comes first and is as it should be: one pass over
/// what nearly all lines are. What is wrong with the others, or whether more must come, [`field`] and its caller find out.
fn whole_field(rest: &[u8]) -> Option<(usize, usize)> {
    let colon = rest.iter().position(|byte| !is_token_byte(*byte)).filter(|at| *at > 0 && rest[*at] == b':')?;
    let end = colon + 1 + syntax::field_value_len(&rest[colon + 1..]);
    (rest.get(end..end + 2) == Some(b"\r\n")).then_some((colon, end))
}

/// Refuses the beginning of a field line that cannot become good.
fn early_field(partial: &[u8]) -> Result<(), Refusal> {
    let name = memchr::memchr(b':', partial).map_or(partial, |colon| &partial[..colon]);
    let is_begun = name.is_empty() || name == b"\r" || is_token(name);
    match memchr::memchr2(b'\r', 0, partial) {
        _ if !is_begun => Err(bad_name(name)),
        Some(at) if partial[at] == 0 => Err(Refusal::FieldValue),
        Some(at) if at + 1 < partial.len() => Err(Refusal::BareCr),
        _ => Ok(()),
    }
}

fn bad_name(name: &[u8]) -> Refusal {
    let has_space = name.last().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    if has_space { Refusal::FieldSpace } else { Refusal::FieldName }
}

fn field(line: &[u8], offset: usize, head: &mut Head) -> Result<(), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::FieldName)?;
    let name = &line[..colon];
    if !is_token(name) {
        return Err(bad_name(name));
    }
    let value = &line[colon + 1..];
    if !syntax::is_field_value(value) {
        return Err(if value.contains(&b'\r') { Refusal::BareCr } else { Refusal::FieldValue });
    }
    push_field(line, offset, colon, line.len(), head);
    Ok(())
}

/// Adds the field of a checked line: its name ends at `colon`, its value is what is before `end` without the white space around.
fn push_field(line: &[u8], offset: usize, colon: usize, mut end: usize, head: &mut Head) {
    let mut start = colon + 1;
    while start < end && matches!(line[start], b' ' | b'\t') {
        start += 1;
    }
    while end > start && matches!(line[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    let known = Name::of(&line[..colon]);
    head.push_span(Span::new(offset, offset + colon), Span::new(offset + start, offset + end), known);
}

/// HTTP/1.1 wants exactly one Host; an absolute target's authority replaces its value (RFC 9112 section 3.2).
fn check_host(head: &mut Head) -> Result<(), Refusal> {
    let mut hosts = head.fields().iter().filter(|field| field.known == Name::Host);
    let host = hosts.next().copied();
    if hosts.next().is_some() || (host.is_none() && head.version() == Version::Http11) {
        return Err(Refusal::Host);
    }
    if let Some(host) = host {
        if !syntax::is_authority(head.value_of(&host)) {
            return Err(Refusal::Host);
        }
        if head.authority().is_none() {
            head.set_authority(host.value);
        }
    }
    Ok(())
}
