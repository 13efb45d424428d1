//! Which upgrades are asked for and which are granted (RFC 9110 section 7.8). Moving the bytes that follow is `tunnel`'s.
use crate::head::Head;
use crate::head::Method;
use crate::head::Version;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::head::tokens;
use crate::http1::framing::BodyLength;
use crate::proxy::context::RequestContext;
use crate::worker::buffers::Draft;
use std::sync::Arc;

/// Lets a request that asks for an upgrade its route lists ask the endpoint for it. Every other one goes on without: its
/// `Upgrade` has been left out already.
pub fn ask(ctx: &mut RequestContext, length: BodyLength) {
    let Some(protocol) = wanted(ctx.head(), length, &ctx.action().upgrade) else { return };
    announce(&mut ctx.request, protocol);
}

/// Tells the other side of the protocol that the connection switches to.
pub fn announce(draft: &mut Draft, protocol: Arc<str>) {
    put(&mut draft.edits, &protocol);
    draft.upgrade = Some(protocol);
}

/// Whether a 101 switches to what was asked for, and to nothing else.
pub fn is_granted(head: &Head, asked: &str) -> bool {
    let mut named = head.all(Name::Upgrade).flat_map(tokens);
    let is_the_one = |name: &[u8]| name.eq_ignore_ascii_case(asked.as_bytes());
    head.lists(Name::Connection, b"upgrade") && named.next().is_some_and(is_the_one) && named.next().is_none()
}

fn put(edits: &mut Edits, protocol: &str) {
    edits.add(b"Connection", b"upgrade");
    edits.add(b"Upgrade", protocol.as_bytes());
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
            assert_eq!(is_granted(&head(fields), "websocket"), expected, "{fields:?}");
        };
        check(&[("Connection", "Upgrade"), ("Upgrade", "WebSocket")], true);
        check(&[("Connection", "Upgrade"), ("Upgrade", "h2c")], false);
        check(&[("Connection", "Upgrade"), ("Upgrade", "websocket, h2c")], false);
        check(&[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")], false);
        check(&[("Upgrade", "websocket")], false);
        check(&[("Connection", "Upgrade")], false);
    }
}
