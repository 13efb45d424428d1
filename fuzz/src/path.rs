//! The normal form of a path: that of RFC 3986, written down once more here; and no path that leads elsewhere in its normal
//! form gets past the routes.
use ringway::base::ids::ListenerName;
use ringway::config;
use ringway::head::Head;
use ringway::head::Method;
use ringway::route::Miss;
use ringway::route::RouteTable;
use ringway::route::path;
use std::sync::LazyLock;

const CONFIGURATION: &str = r#"
listener = [{ name = "l", address = "127.0.0.1:1" }]
upstream.u.endpoints = [{ id = "a", address = "127.0.0.1:2" }]
route = [
  { upstream = "u", path_prefix = "/admin" },
  { upstream = "u", path_prefix = "/a/b" },
  { upstream = "u", path = "/a/x" },
  { upstream = "u", path_regex = "^/r[0-9]+/secret" },
  { upstream = "u" },
]
"#;

static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let config = config::parse("routes.toml", CONFIGURATION, &|_| None).expect("the configuration is fine");
    RouteTable::new(config.routes).expect("no two routes are equal")
});

/// Checks one input.
pub fn check(input: &[u8]) {
    let visible = input.iter().filter(|byte| byte.is_ascii_graphic() && !b"?#".contains(byte));
    let raw: Vec<u8> = [b'/'].iter().chain(visible).copied().collect();
    let normal = path::normalise(&raw);
    let plain = remove_dot_segments(&decode_unreserved(&raw));
    assert_eq!(normal.as_deref().unwrap_or(&raw), plain);
    assert_ne!(normal.as_deref(), Some(&raw[..]), "a normal form is told only when it differs");
    assert!(plain.starts_with(b"/"), "a path begins with a slash");
    assert!(!plain.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b".."));
    // With broken escapes, what is decoded may look like an escape: `/%%361`.
    if is_well_escaped(&raw) {
        assert_eq!(path::normalise(&plain), None, "a normal form is its own");
    }
    let listener = ListenerName::new("l");
    let find = |path: &[u8]| {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", path);
        ROUTES.find(&listener, &head)
    };
    let found = find(&raw);
    let meant = if is_well_escaped(&raw) { find(&plain) } else { found };
    assert!(found == meant || found == Err(Miss::AmbiguousPath), "{found:?}, but {meant:?} is meant");
}

fn is_well_escaped(path: &[u8]) -> bool {
    let is_escape = |after: &[u8]| matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    (0..path.len()).all(|at| path[at] != b'%' || is_escape(&path[at + 1..]))
}

/// RFC 3986 section 6.2.2.2.
fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| *first == b'%' && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// RFC 3986 section 5.2.4, step by step, for paths that begin with a slash.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let (mut input, mut output) = (path.to_vec(), Vec::new());
    while !input.is_empty() {
        if input.starts_with(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input.truncate(1);
        } else if input.starts_with(b"/../") || input == b"/.." {
            input.splice(..input.len().min(4), *b"/");
            let end = output.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            output.truncate(end);
        } else {
            let end = input[1..].iter().position(|byte| *byte == b'/').map_or(input.len(), |at| at + 1);
            output.extend(input.drain(..end));
        }
    }
    output
}
