//! A response's head: what is accepted is clean, and frames the same body after it was encoded again. The first byte of the
//! input says which request it answers.
use crate::ROOMY;
use crate::check_clean;
use crate::check_prefixes;
use crate::passed_on;
use bytes::BytesMut;
use ringway::head::Head;
use ringway::head::Method;
use ringway::head::edits::Edits;
use ringway::http1::encode;
use ringway::http1::encode::Connection;
use ringway::http1::framing;
use ringway::http1::framing::BodyLength;
use ringway::http1::parse;
use ringway::http1::parse::Progress;

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((first, input)) = input.split_first() else { return };
    let method = if first % 2 == 0 { Method::Get } else { Method::Head };
    let Ok((Progress::Complete { consumed }, head)) = check_prefixes(input, parse::response) else { return };
    assert!(consumed <= input.len());
    check_clean(&head);
    assert!((100..600).contains(&head.status()));
    let Ok(length) = framing::of_response(&head, method) else { return };
    let has_none = method == Method::Head || matches!(head.status(), 100..200 | 204 | 304);
    assert_eq!(has_none, length == BodyLength::Empty);
    let mut out = BytesMut::new();
    encode::response(&head, &Edits::default(), length, Connection::Default, &mut out);
    let mut again = Head::default();
    let progress = parse::response(&out, &ROOMY, &mut again).expect("what we send would be accepted by ourselves");
    assert_eq!(progress, Progress::Complete { consumed: out.len() });
    assert_eq!(again.status(), head.status());
    assert!(head.reason().is_empty() || again.reason() == head.reason());
    assert_eq!(passed_on(&again), passed_on(&head));
    assert_eq!(framing::of_response(&again, method), Ok(length));
}
