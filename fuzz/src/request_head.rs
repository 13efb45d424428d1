//! A request's head: what is accepted is clean, framed as RFC 9112 says, and the same after it was encoded again.
use crate::LIMITS;
use crate::ROOMY;
use crate::check_clean;
use crate::check_prefixes;
use crate::passed_on;
use bytes::BytesMut;
use ringway::head::Head;
use ringway::head::Version;
use ringway::head::edits::Edits;
use ringway::http1::encode;
use ringway::http1::encode::Connection;
use ringway::http1::framing;
use ringway::http1::framing::BodyLength;
use ringway::http1::parse;
use ringway::http1::parse::Progress;

/// Checks one input.
pub fn check(input: &[u8]) {
    let Ok((Progress::Complete { consumed }, head)) = check_prefixes(input, parse::request) else { return };
    assert!(consumed <= input.len() && consumed <= LIMITS.max_head_bytes + 2);
    check_clean(&head);
    check_target(&head);
    let length = framing::of_request(&head);
    assert_eq!(length.ok(), plain_length(&head));
    let (Ok(length), true) = (length, head.authority().is_some()) else { return };
    let mut out = BytesMut::new();
    encode::request(&head, &Edits::default(), length, Connection::Default, &mut out);
    let mut again = Head::default();
    let progress = parse::request(&out, &ROOMY, &mut again).expect("what we send would be accepted by ourselves");
    assert_eq!(progress, Progress::Complete { consumed: out.len() });
    assert_eq!((again.method_text(), again.target()), (head.method_text(), head.target()));
    assert_eq!(again.authority(), head.authority());
    assert_eq!(passed_on(&again), passed_on(&head));
    assert_eq!(framing::of_request(&again), Ok(length));
}

fn check_target(head: &Head) {
    let target = head.target();
    assert!(target.iter().all(u8::is_ascii_graphic) && !target.contains(&b'#'));
    match head.method_text() {
        b"CONNECT" => assert_eq!(Some(target), head.authority()),
        b"OPTIONS" => assert!(target == b"*" || target.starts_with(b"/")),
        _ => assert!(target.starts_with(b"/")),
    }
    if let Some(authority) = head.authority() {
        assert!(!authority.is_empty() && !authority.iter().any(|byte| b"@/?#\\ ".contains(byte)));
    }
}

/// RFC 9112 section 6.3, as strict as we want it, said once more.
fn plain_length(head: &Head) -> Option<BodyLength> {
    let lengths: Vec<&[u8]> = head.all_named(b"content-length").collect();
    let codings: Vec<&[u8]> = head.all_named(b"transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(BodyLength::Empty),
        ([length], []) if length.iter().all(u8::is_ascii_digit) && length.len() < 20 => {
            std::str::from_utf8(length).ok()?.parse().ok().map(BodyLength::Length)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && head.version() == Version::Http11 => {
            Some(BodyLength::Chunked)
        }
        _ => None,
    }
}
