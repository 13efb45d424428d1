//! What HTTP/2 may say of a request, and how it is said.
use super::read;
use super::write;
use crate::head::Head;
use crate::head::Method;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::http1::framing::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::refusal::Refusal;
use http::HeaderValue;
use http::Request;

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> http::request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn judged(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(Head, BodyLength), Refusal> {
    let mut head = Head::default();
    let length = read::request(&parts(method, uri, fields), true, &Limits::default(), &mut head)?;
    Ok((head, length))
}

#[test]
fn a_request_is_the_one_it_would_be_over_http1() {
    let fields = [("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-a", "2")];
    let (head, length) = judged("GET", "https://A.example:8443/p?q=1", &fields).unwrap();
    assert_eq!((head.target(), head.authority()), (&b"/p?q=1"[..], Some(&b"A.example:8443"[..])));
    assert_eq!((head.get(Name::Cookie), head.get(Name::Host)), (Some(&b"a=1; b=2"[..]), None));
    assert_eq!(head.all_named(b"x-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!((head.fields().len(), length), (4, BodyLength::Empty));
    let (head, _) = judged("OPTIONS", "*", &[("host", "a")]).unwrap();
    assert_eq!((head.target(), head.authority()), (&b"*"[..], Some(&b"a"[..])));
    let (head, _) = judged("GET", "http://a/", &[("host", "A")]).unwrap();
    assert_eq!(head.authority(), Some(&b"a"[..]));
    let (head, _) = judged("CONNECT", "a:443", &[]).unwrap();
    assert_eq!((head.method(), head.target()), (Method::Connect, &b"a:443"[..]));
}

#[test]
fn what_http1_may_not_carry_is_refused() {
    let check = |uri: &str, fields: &[(&str, &str)], refusal| {
        assert_eq!(judged("GET", uri, fields).err(), Some(refusal), "{uri} {fields:?}");
    };
    check("http://a/", &[("host", "b")], Refusal::Host);
    check("/", &[("host", "a"), ("host", "a")], Refusal::Host);
    check("/", &[], Refusal::Host);
    check("http://u@a/", &[], Refusal::Host);
    check("*", &[("host", "a")], Refusal::Target);
    check("ftp://a/", &[], Refusal::Target);
    check("/\u{e4}", &[("host", "a")], Refusal::Target);
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        check("http://a/", &[(name, "x")], Refusal::ConnectionField);
    }
    check("http://a/", &[("te", "gzip")], Refusal::ConnectionField);
    check("http://a/", &[("x", " a")], Refusal::FieldSpace);
    check("http://a/", &[("x", "a\t")], Refusal::FieldSpace);
    check("http://a/", &[("content-length", "0"), ("content-length", "0")], Refusal::ContentLength);
    check("http://a/", &[("content-length", "+1")], Refusal::ContentLength);
    check("http://a/", &[("content-length", "1")], Refusal::ContentLength);
    check("http://a/", &[("x", &"a".repeat(40_000))], Refusal::HeadTooLarge);
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    check("http://a/", &many, Refusal::TooManyFields);
}

#[test]
fn a_head_goes_out_in_lower_case_with_its_edits() {
    let mut head = Head::default();
    head.set_response(200, Default::default());
    for (name, value) in [("Date", "now"), ("X-Kept", "1"), ("X-Gone", "1"), ("Transfer-Encoding", "chunked")] {
        head.push(name.as_bytes(), value.as_bytes());
    }
    let mut edits = Edits::default();
    edits.drop_field(2);
    edits.add(b"Via", b"1.1 ringway");
    let response = write::response(&head, &edits, BodyLength::Length(7)).unwrap();
    let shown: Vec<_> =
        response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(shown, [("date", "now"), ("x-kept", "1"), ("via", "1.1 ringway"), ("content-length", "7")]);
    let is_sensitive = |name: &str| response.headers().get(name).is_some_and(HeaderValue::is_sensitive);
    assert!(is_sensitive("date") && !is_sensitive("x-kept"), "what changes stays out of HPACK's table");
}

#[test]
fn a_request_goes_out_with_its_authority() {
    let mut head = Head::default();
    head.set_request(Method::Post, b"POST", b"/p?q");
    let authority = head.append(b"a.example:81");
    head.set_authority(authority);
    head.push(b"Host", b"a.example:81");
    head.push(b"Content-Length", b"0");
    let request = write::request(&head, &Edits::default(), BodyLength::Empty, false).unwrap();
    assert_eq!(request.uri().to_string(), "http://a.example:81/p?q");
    let shown: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(shown, [("content-length", "0")]);
}
