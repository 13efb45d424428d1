//! Which upgrades are asked for and which are granted (RFC 9110 section 7.8). Moving the bytes that follow is `tunnel`'s.
use crate::head::Head;
use crate::head::Method;
use crate::head::Version;
use crate::head::names::Name;
use crate::head::tokens;
use crate::http1::framing::BodyLength;
use crate::proxy::error::Kind;
use crate::proxy::error::ProxyError;
use crate::worker::buffers::Draft;
use crate::worker::buffers::Upgrade;
use std::sync::Arc;

/// What a WebSocket server proves itself with (RFC 6455 section 4.2.2).
const WEBSOCKET_ID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Lets a request that asks for an upgrade its route lists ask the endpoint for it. Every other one goes on without, for its
/// `Upgrade` has been left out already; but an extended CONNECT means nothing else.
pub fn ask(draft: &mut Draft, length: BodyLength, listed: &[Arc<str>], random: [u64; 2]) -> Result<(), ProxyError> {
    let Some(mut asked) = draft.upgrade.take() else {
        if let Some(protocol) = wanted(&draft.head, length, listed) {
            announce(draft, Upgrade { protocol, is_connect: false, accept: None });
        }
        return Ok(());
    };
    if !listed.contains(&asked.protocol) {
        return Err(ProxyError::new(Kind::MethodNotAllowed));
    }
    if &*asked.protocol == "websocket" {
        let key = base64(&[random[0].to_be_bytes(), random[1].to_be_bytes()].concat());
        draft.edits.remove_named(&draft.head, b"sec-websocket-key");
        draft.edits.add(b"Sec-WebSocket-Key", &key);
        asked.accept = Some(accept_of(&key));
    }
    announce(draft, asked);
    Ok(())
}

/// Whether a 101 switches to what was asked for, and to nothing else.
pub fn is_granted(head: &Head, asked: &Upgrade) -> bool {
    let mut named = head.all(Name::Upgrade).flat_map(tokens);
    let is_the_one = |name: &[u8]| name.eq_ignore_ascii_case(asked.protocol.as_bytes());
    let is_proven = |accept: &Vec<u8>| head.all_named(b"sec-websocket-accept").eq([accept.as_slice()]);
    head.lists(Name::Connection, b"upgrade")
        && named.next().is_some_and(is_the_one)
        && named.next().is_none()
        && asked.accept.as_ref().is_none_or(is_proven)
}

/// Tells the client of the switch, in the words of its version.
pub fn grant(response: &mut Draft) {
    let Some(granted) = response.upgrade.take() else { return };
    if granted.is_connect {
        response.edits.remove(&response.head, Name::ContentLength);
        response.edits.remove_named(&response.head, b"sec-websocket-accept");
        response.head.set_response(200, Default::default());
        response.upgrade = Some(granted);
    } else {
        announce(response, granted);
    }
}

fn announce(draft: &mut Draft, upgrade: Upgrade) {
    draft.edits.add(b"Connection", b"upgrade");
    draft.edits.add(b"Upgrade", upgrade.protocol.as_bytes());
    draft.upgrade = Some(upgrade);
}

fn accept_of(key: &[u8]) -> Vec<u8> {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(WEBSOCKET_ID);
    base64(&hash.digest().bytes())
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digits = (0..=group.len()).map(|at| DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
        text.extend(digits.chain(std::iter::repeat(b'=')).take(4));
    }
    text
}

/// The client's first choice among the protocols listed. With a body to follow there is none: where it ends and the other
/// protocol begins is too easily misunderstood.
fn wanted(head: &Head, length: BodyLength, listed: &[Arc<str>]) -> Option<Arc<str>> {
    let may_ask = head.method() == Method::Get
        && head.version() == Version::Http11
        && matches!(length, BodyLength::Empty | BodyLength::Length(0))
        && head.lists(Name::Connection, b"upgrade");
    if !may_ask {
        return None;
    }
    let of_list = |name: &[u8]| listed.iter().find(|protocol| name.eq_ignore_ascii_case(protocol.as_bytes()));
    head.all(Name::Upgrade).flat_map(tokens).find_map(of_list).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", b"/");
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn only_what_is_listed_and_asked_for_properly_is_an_upgrade() {
        let listed = [Arc::from("websocket"), Arc::from("other/2")];
        let check = |fields: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(wanted(&head(fields), BodyLength::Empty, &listed).as_deref(), expected, "{fields:?}");
        };
        let (connection, upgrade) = ("Connection", "Upgrade");
        check(&[(connection, "keep-alive, UPGRADE"), (upgrade, "WebSocket")], Some("websocket"));
        check(&[(connection, "upgrade"), (upgrade, "h2c, Other/2"), (upgrade, "websocket")], Some("other/2"));
        check(&[(connection, "upgrade"), (upgrade, "h2c")], None);
        check(&[(connection, "upgrade"), (upgrade, "other")], None);
        check(&[(connection, "upgrade")], None);
        check(&[(upgrade, "websocket")], None);
        let asking = head(&[(connection, "upgrade"), (upgrade, "websocket")]);
        assert_eq!(wanted(&asking, BodyLength::Length(1), &listed), None);
        assert_eq!(wanted(&asking, BodyLength::Chunked, &listed), None);
        assert_eq!(wanted(&asking, BodyLength::Empty, &[]), None);
        let mut posted = asking.clone();
        posted.set_request(Method::Post, b"POST", b"/");
        assert_eq!(wanted(&posted, BodyLength::Length(0), &listed), None);
        let mut old = asking;
        old.set_version(Version::Http10);
        assert_eq!(wanted(&old, BodyLength::Empty, &listed), None);
    }

    #[test]
    fn a_switch_is_to_exactly_what_was_asked_for() {
        let check = |fields: &[(&str, &str)], expected| {
            let asked = Upgrade { protocol: Arc::from("websocket"), is_connect: false, accept: None };
            assert_eq!(is_granted(&head(fields), &asked), expected, "{fields:?}");
        };
        check(&[("Connection", "Upgrade"), ("Upgrade", "WebSocket")], true);
        check(&[("Connection", "Upgrade"), ("Upgrade", "h2c")], false);
        check(&[("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")], false);
        check(&[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")], false);
        check(&[("Upgrade", "websocket")], false);
        check(&[("Connection", "Upgrade")], false);
    }

    #[test]
    fn a_key_of_ours_wants_its_proof() {
        // The example of RFC 6455 section 1.3.
        let accept = accept_of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let asked = Upgrade { protocol: Arc::from("websocket"), is_connect: true, accept: Some(accept) };
        let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        let proof = |value| ("Sec-WebSocket-Accept", value);
        assert!(!is_granted(&head(&fields), &asked));
        let good = proof("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_granted(&head(&[fields[0], fields[1], good]), &asked));
        assert!(!is_granted(&head(&[fields[0], fields[1], good, good]), &asked));
        assert!(!is_granted(&head(&[fields[0], fields[1], proof("x")]), &asked));
        assert_eq!((base64(b""), base64(b"a"), base64(b"ab")), (b"".to_vec(), b"YQ==".to_vec(), b"YWI=".to_vec()));
    }
}
