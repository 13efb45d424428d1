//! Key extraction from a request's head: agrees with a plain reading of RFC 6265 and of the query, joins can be taken apart
//! again, and the same fields as HTTP/2 writes them give the same key.
use crate::LIMITS;
use ringway::base::hash::PlacementHash;
use ringway::head::Client;
use ringway::head::Head;
use ringway::head::Version;
use ringway::head::names::Name;
use ringway::http1::parse;
use ringway::http1::parse::Progress;
use ringway::key::KeySpec;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

const CLIENT: Client = Client { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), secure: false };

/// Parts that are looked at alone.
const PARTS: [&str; 8] =
    ["cookie:sid", "query:id", "header:x-user", "path", "path:^/([^/]*)/", "path_and_query", "host", "method"];

static SPECS: LazyLock<Vec<KeySpec>> = LazyLock::new(|| PARTS.iter().map(|part| spec(&[part])).collect());
static JOINED: LazyLock<KeySpec> = LazyLock::new(|| spec(&["cookie:sid + query:id + path", "header:x-user + host"]));
static ALTERNATIVES: LazyLock<KeySpec> = LazyLock::new(|| spec(&PARTS));

fn spec(alternatives: &[&str]) -> KeySpec {
    KeySpec::parse(alternatives, PlacementHash::default()).expect("these are keys")
}

/// Checks one input.
pub fn check(input: &[u8]) {
    let mut head = Head::default();
    let Ok(Progress::Complete { .. }) = parse::request(input, &LIMITS, &mut head) else { return };
    let alone: Vec<Option<Vec<u8>>> = SPECS.iter().map(|spec| bytes(spec, &head)).collect();
    assert_eq!(alone[0], plain_cookie(&head, b"sid"));
    assert_eq!(alone[1], plain_query(&head, b"id"));
    assert_eq!(alone[3].as_deref(), Some(head.target().split(|byte| *byte == b'?').next().unwrap_or_default()));
    check_alternatives(&head, &alone);
    check_joined(&head, &alone);
    let http2 = as_http2(&head);
    let specs = SPECS.iter().chain([&*JOINED, &*ALTERNATIVES]);
    specs.for_each(|spec| assert_eq!(bytes(spec, &http2), bytes(spec, &head), "HTTP/2 gives another key"));
}

fn bytes(spec: &KeySpec, head: &Head) -> Option<Vec<u8>> {
    let mut scratch = vec![7; 9];
    let found = spec.extract(head, &CLIENT, &mut scratch)?;
    assert!(!scratch.is_empty(), "an empty key is a missing one");
    assert_eq!(found.key.0, PlacementHash::default().hash(&scratch));
    Some(scratch)
}

/// The first part that is there wins.
fn check_alternatives(head: &Head, alone: &[Option<Vec<u8>>]) {
    let mut scratch = Vec::new();
    let found = ALTERNATIVES.extract(head, &CLIENT, &mut scratch).and_then(|found| found.source);
    assert_eq!(found, alone.iter().position(Option::is_some));
    assert_eq!(found.map(|_| &scratch), alone.iter().flatten().next());
}

/// A join says where each of its parts ends.
fn check_joined(head: &Head, alone: &[Option<Vec<u8>>]) {
    let joined = |parts: [usize; 3], count: usize| -> Option<Vec<u8>> {
        let parts: Option<Vec<&Vec<u8>>> = parts[..count].iter().map(|part| alone[*part].as_ref()).collect();
        let framed = |part: &Vec<u8>| [&(part.len() as u32).to_le_bytes()[..], part].concat();
        parts.map(|parts| parts.into_iter().flat_map(framed).collect())
    };
    assert_eq!(bytes(&JOINED, head), joined([0, 1, 3], 3).or_else(|| joined([2, 6, 0], 2)));
}

fn plain_cookie(head: &Head, name: &[u8]) -> Option<Vec<u8>> {
    let all: Vec<&[u8]> = head.all(Name::Cookie).collect();
    let all = all.join(&b';');
    let mut pairs = all.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..equals] == name).then(|| pair[equals + 1..].to_vec())
    });
    value.filter(|value| !value.is_empty())
}

fn plain_query(head: &Head, name: &[u8]) -> Option<Vec<u8>> {
    let query = head.target().splitn(2, |byte| *byte == b'?').nth(1)?;
    let mut pairs = query.split(|byte| *byte == b'&').map(|pair| match pair.iter().position(|byte| *byte == b'=') {
        Some(equals) => (&pair[..equals], &pair[equals + 1..]),
        None => (pair, &[][..]),
    });
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_vec()).filter(|value| !value.is_empty())
}

/// The same request as an HTTP/2 client sends it: names in lower case, the authority in `:authority`, no Host.
fn as_http2(head: &Head) -> Head {
    let mut other = Head::default();
    other.set_version(Version::Http2);
    other.set_request(head.method(), head.method_text(), head.target());
    if let Some(authority) = head.authority() {
        let authority = other.append(authority);
        other.set_authority(authority);
    }
    for field in head.fields().iter().filter(|field| field.known != Name::Host) {
        other.push(&head.name_of(field).to_ascii_lowercase(), head.value_of(field));
    }
    other
}
