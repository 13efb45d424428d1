//! Exact and prefix paths, and the normal form that shows whether a path means something else than it says.
use regex::bytes::Regex;

/// The paths a route is for.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// This path.
    Exact(String),
    /// `/api` and everything below it, never `/apikey`.
    Prefix(String),
    /// What a regular expression finds a match in.
    Regex(Box<Regex>),
}

impl PathPattern {
    /// One path.
    ///
    /// # Errors
    /// When it does not begin with a slash.
    pub fn exact(text: &str) -> Result<Self, String> {
        check(text).map(|()| Self::Exact(text.to_string()))
    }

    /// A path and everything below it.
    ///
    /// # Errors
    /// When it does not begin with a slash.
    pub fn prefix(text: &str) -> Result<Self, String> {
        check(text).map(|()| Self::Prefix(text.to_string()))
    }

    /// What a regular expression matches; it is not anchored.
    ///
    /// # Errors
    /// When it is not one.
    pub fn regex(text: &str) -> Result<Self, String> {
        let regex = Regex::new(text).map_err(|error| format!("the regex is not one: {error}"))?;
        Ok(Self::Regex(Box::new(regex)))
    }

    /// How specific a match is; `None` when there is none. Exact beats prefix, longer beats shorter, a regex beats nothing.
    pub fn rank(&self, path: &[u8]) -> Option<(u8, usize)> {
        match self {
            Self::Any => Some((0, 0)),
            Self::Exact(exact) => (exact.as_bytes() == path).then_some((3, exact.len())),
            Self::Prefix(prefix) => is_below(prefix.as_bytes(), path).then_some((2, prefix.len())),
            Self::Regex(regex) => regex.is_match(path).then_some((1, 0)),
        }
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("/"),
            Self::Exact(path) => write!(f, "={path}"),
            Self::Prefix(path) => f.write_str(path),
            Self::Regex(regex) => write!(f, "~{}", regex.as_str()),
        }
    }
}

fn check(text: &str) -> Result<(), String> {
    if text.starts_with('/') && !text.contains(['?', '#', ' ']) {
        return Ok(());
    }
    Err(format!("\"{text}\" is not a path: it begins with \"/\" and has no \"?\", \"#\" or space"))
}

fn is_below(prefix: &[u8], path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    prefix.ends_with(b"/") || matches!(rest.first(), None | Some(b'/'))
}

/// Whether all readers take a raw path for what it says: [`normalise`], [`lenient`] and [`cut`] have nothing to do.
pub fn is_plain(path: &[u8]) -> bool {
    // Without an early end: so it is done for many bytes at a time.
    let odd = |odd: bool, byte: &u8| odd | (*byte == b'%') | (*byte == b'\\') | (*byte == b';');
    let odd_pair =
        |odd: bool, (before, byte): (&u8, &u8)| odd | ((*before == b'/') & ((*byte == b'/') | (*byte == b'.')));
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    !path.iter().fold(false, odd) && !pairs.fold(false, odd_pair)
}

/// The normal form of a raw path (RFC 3986 sections 5.2.4 and 6.2.2): percent-encoded unreserved characters decoded, dot
/// segments removed. `None` when the path is in normal form as it stands.
pub fn normalise(path: &[u8]) -> Option<Vec<u8>> {
    let has_dots = path.windows(2).any(|pair| pair == b"/.");
    if !has_dots && memchr::memchr(b'%', path).is_none() {
        return None;
    }
    let decoded = decode(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let normal = without_dots(decoded.split(|byte| *byte == b'/'));
    (normal != path).then_some(normal)
}

/// How often a lenient reader may decode one path.
const MAX_DECODINGS: usize = 3;

/// Characters written in more bytes than they need, which no reader of UTF-8 should take: some do.
const OVERLONG: [(&[u8], u8); 6] = [
    (b"\xc0\xae", b'.'),
    (b"\xc0\xaf", b'/'),
    (b"\xc1\x9c", b'\\'),
    (b"\xe0\x80\xae", b'.'),
    (b"\xe0\x80\xaf", b'/'),
    (b"\xe0\x81\x9c", b'\\'),
];

/// What lenient origins may make of a raw path: every character decoded, as often as it goes, `\\` taken for `/`, `..;x` and `..%00`
/// for `..`, several slashes for one. `None` when they have no choice.
pub fn lenient(path: &[u8]) -> Option<Vec<u8>> {
    let is_plain = memchr::memchr3(b'%', b'\\', b';', path).is_none() && memchr::memmem::find(path, b"//").is_none();
    if is_plain {
        return None;
    }
    let mut read = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        read = decode(&read, |_| true);
    }
    shorten(&mut read);
    let segments = read.split(|byte| matches!(byte, b'/' | b'\\')).map(|segment| match segment {
        [b'.', b';' | 0, ..] => &b"."[..],
        [b'.', b'.', b';' | 0, ..] => b"..",
        segment => segment,
    });
    // The first segment is the nothing before the first slash, the last one may be the nothing after the last.
    let count = segments.clone().count();
    let merged = segments.enumerate().filter(|(at, segment)| *at == 0 || at + 1 == count || !segment.is_empty());
    let meant = without_dots(merged.map(|(_, segment)| segment));
    (meant != path).then_some(meant)
}

fn without_dots<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." && kept.len() > 1 {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    kept.join(&b'/')
}

/// What an origin may make of a path that ends for it at a NUL, as its file names do. `None` when there is none in it.
pub fn cut(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr2(b'%', 0, path)?;
    let mut read = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        read = decode(&read, |_| true);
    }
    read.truncate(memchr::memchr(0, &read)?);
    Some(lenient(&read).or_else(|| normalise(&read)).unwrap_or(read))
}

/// Writes what is overlong as short as it goes.
fn shorten(path: &mut Vec<u8>) {
    if memchr::memchr3(0xc0, 0xc1, 0xe0, path).is_none() {
        return;
    }
    let mut at = 0;
    while at < path.len() {
        let overlong = OVERLONG.iter().find(|(bytes, _)| path[at..].starts_with(bytes));
        if let Some((bytes, short)) = overlong {
            path.splice(at..at + bytes.len(), [*short]);
        }
        at += 1;
    }
}

/// Decodes the percent-encoded bytes that are `wanted`.
fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let value = path.get(at + 1..at + 3).filter(|_| path[at] == b'%').and_then(hex);
        match value.filter(|byte| wanted(*byte)) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(path[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let matches = |prefix: &str, path: &str| PathPattern::prefix(prefix).unwrap().rank(path.as_bytes()).is_some();
        assert!(matches("/api", "/api") && matches("/api", "/api/") && matches("/api", "/api/x"));
        assert!(!matches("/api", "/apikey") && !matches("/api/", "/api") && matches("/", "/anything"));
    }

    #[test]
    fn the_normal_form_shows_what_a_path_means() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(normalise(path.as_bytes()), expected.map(|text| text.as_bytes().to_vec()), "{path}");
        };
        check("/a/b", None);
        check("/a//b", None);
        check("/a/.b/..c", None);
        check("/a%2Fb%20", None);
        check("/a/../b", Some("/b"));
        check("/a/./b", Some("/a/b"));
        check("/a/b/..", Some("/a/"));
        check("/a/%2e%2E/b", Some("/b"));
        check("/%61dmin", Some("/admin"));
        check("/../../x", Some("/x"));
        check("/a/.", Some("/a/"));
        check("/%zz%4", None);
    }

    #[test]
    fn a_plain_path_has_no_other_form() {
        for path in ["/", "/a/b.c/", "/a~b/..", "/a.b", "/.a", "/a//b", "/a;b", "/a%41", "/a\\b", "//", "/a/."] {
            let path = path.as_bytes();
            let is_other = normalise(path).is_some() || lenient(path).is_some() || cut(path).is_some();
            assert!(!(is_plain(path) && is_other), "{}", path.escape_ascii());
        }
        assert!(["/", "/a/b.c/", "/a~b", "/a.b"].iter().all(|path| is_plain(path.as_bytes())));
        for path in ["/a/..", "/.a", "/a//b", "/a;b", "/a%41", "/a\\b"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn the_lenient_form_shows_what_an_origin_may_make_of_a_path() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(lenient(path.as_bytes()), expected.map(|text| text.as_bytes().to_vec()), "{path}");
        };
        check("/a/b/", None);
        check("/a;v=1/b", None);
        check("//a///b//", Some("/a/b/"));
        check("/a%2Fb", Some("/a/b"));
        check("/x%2f..%2Fadmin", Some("/admin"));
        check("/%2561dmin", Some("/admin"));
        check("/x/%25252e%25252e/admin", Some("/admin"));
        check("/x\\..\\admin", Some("/admin"));
        check("/x/..%5cadmin", Some("/admin"));
        check("/x/..;/admin", Some("/admin"));
        check("/x/..;a=b/./admin", Some("/admin"));
        check("/x//../admin", Some("/admin"));
        check("/x/..%00/admin", Some("/admin"));
        check("/x/%c0%ae%c0%ae/admin", Some("/admin"));
        check("/x%c0%af..%e0%80%afadmin", Some("/admin"));
        check("/%c3%a9", Some("/\u{e9}"));
        check("/100%", None);
        check("/100%25", Some("/100%"));
    }

    #[test]
    fn a_path_may_end_at_a_nul() {
        assert_eq!(cut(b"/a%2fb"), None);
        assert_eq!(cut(b"/admin%00.jpg").unwrap(), b"/admin");
        assert_eq!(cut(b"/x/..%2fadmin%2500/y").unwrap(), b"/admin");
    }
}
