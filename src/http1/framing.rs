//! Which body follows a head, by the rules of RFC 9112 section 6.3, and whether the connection goes on after it.
use super::refusal::Refusal;
use crate::head::Head;
use crate::head::Method;
use crate::head::Version;
use crate::head::names::Name;

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// The body of a request.
pub fn of_request(head: &Head) -> Result<BodyLength, Refusal> {
    Ok(announced(head)?.unwrap_or(BodyLength::Empty))
}

/// The body of a response to a request of `method`. An interim response has none, and may not announce one.
pub fn of_response(head: &Head, method: Method) -> Result<BodyLength, Refusal> {
    let announced = announced(head)?;
    match head.status() {
        100..200 if announces_one(announced) => Err(Refusal::ConflictingFraming),
        100..200 | 204 | 304 => Ok(BodyLength::Empty),
        _ if method == Method::Head => Ok(BodyLength::Empty),
        _ => Ok(announced.unwrap_or(BodyLength::UntilClose)),
    }
}

fn announced(head: &Head) -> Result<Option<BodyLength>, Refusal> {
    let mut lengths = head.all(Name::ContentLength);
    let mut codings = head.all(Name::TransferEncoding);
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::ConflictingFraming),
        (Some(length), None) => {
            let length = decimal(length).ok_or(Refusal::ContentLength)?;
            // A second field is refused even if equal: merging is repairing.
            if lengths.next().is_some() { Err(Refusal::ContentLength) } else { Ok(Some(BodyLength::Length(length))) }
        }
        (None, Some(coding)) => {
            if !coding.eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
                return Err(Refusal::TransferEncoding);
            }
            if head.version() == Version::Http10 {
                return Err(Refusal::ConflictingFraming);
            }
            Ok(Some(BodyLength::Chunked))
        }
    }
}

fn announces_one(announced: Option<BodyLength>) -> bool {
    !matches!(announced, None | Some(BodyLength::Length(0)))
}

/// Digits alone, at most 19 of them so that no number overflows.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Whether another message may follow on the connection (RFC 9112 section 9.3).
pub fn keep_alive(head: &Head) -> bool {
    if head.lists(Name::Connection, b"close") {
        return false;
    }
    head.version() != Version::Http10 || head.lists(Name::Connection, b"keep-alive")
}

/// Whether another response may follow on the connection after this one, whose body is of `length`. A 204 that announces a
/// body ends it: that body may be on its way, and would be taken for the next response.
pub fn keep_alive_after(head: &Head, length: BodyLength) -> bool {
    let is_204_with_body = head.status() == 204 && announced(head).map_or(true, announces_one);
    keep_alive(head) && length != BodyLength::UntilClose && !is_204_with_body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let (cl, te) = ("Content-Length", "Transfer-Encoding");
        let check =
            |fields: &[(&str, &str)], refusal| assert_eq!(of_request(&head(fields)), Err(refusal), "{fields:?}");
        check(&[(cl, "5"), (te, "chunked")], Refusal::ConflictingFraming);
        check(&[(cl, "5"), (cl, "5")], Refusal::ContentLength);
        for value in ["", "+5", "-5", "5, 5", "5 5", "0x5", "5a", "99999999999999999999", "٥"] {
            check(&[(cl, value)], Refusal::ContentLength);
        }
        for value in ["", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;a=b", "chunked,"] {
            check(&[(te, value)], Refusal::TransferEncoding);
        }
        check(&[(te, "chunked"), (te, "chunked")], Refusal::TransferEncoding);
        let mut old = head(&[(te, "chunked")]);
        old.set_version(Version::Http10);
        assert_eq!(of_request(&old), Err(Refusal::ConflictingFraming));
    }

    #[test]
    fn a_body_is_as_long_as_announced() {
        assert_eq!(of_request(&head(&[])), Ok(BodyLength::Empty));
        assert_eq!(of_request(&head(&[("content-length", "007")])), Ok(BodyLength::Length(7)));
        assert_eq!(of_request(&head(&[("transfer-encoding", "CHUNKED")])), Ok(BodyLength::Chunked));
        let mut response = head(&[("content-length", "7")]);
        response.set_response(200, Default::default());
        assert_eq!(of_response(&response, Method::Get), Ok(BodyLength::Length(7)));
        assert_eq!(of_response(&response, Method::Head), Ok(BodyLength::Empty));
        response.set_response(304, Default::default());
        assert_eq!(of_response(&response, Method::Get), Ok(BodyLength::Empty));
        response.set_response(103, Default::default());
        assert_eq!(of_response(&response, Method::Get), Err(Refusal::ConflictingFraming));
        response.set_response(204, Default::default());
        assert_eq!(of_response(&response, Method::Get), Ok(BodyLength::Empty));
        assert!(!keep_alive_after(&response, BodyLength::Empty), "its body may still come");
        let mut empty = head(&[("content-length", "0")]);
        empty.set_response(204, Default::default());
        assert!(keep_alive_after(&empty, BodyLength::Empty));
        let mut endless = head(&[]);
        endless.set_response(200, Default::default());
        assert_eq!(of_response(&endless, Method::Get), Ok(BodyLength::UntilClose));
    }

    #[test]
    fn a_connection_goes_on_unless_somebody_says_close() {
        assert!(keep_alive(&head(&[])) && !keep_alive(&head(&[("Connection", "x, CLOSE")])));
        let mut old = head(&[("Connection", "Keep-Alive")]);
        old.set_version(Version::Http10);
        assert!(keep_alive(&old));
        let mut old = head(&[]);
        old.set_version(Version::Http10);
        assert!(!keep_alive(&old));
    }
}
