//! Fields that change on the way: hop-by-hop ones go, `X-Forwarded-*`, `Via` and `X-Request-Id` are set. Routing is not known here.
use crate::base::address::write_ip;
use crate::head::Client;
use crate::head::Head;
use crate::head::Version;
use crate::head::edits::Edits;
use crate::head::names::Name;
use crate::head::tokens;
use crate::proxy::context::ConnInfo;
use crate::proxy::forwarded;
use ipnet::IpNet;
use smallvec::SmallVec;
use std::net::IpAddr;

/// Longest `X-Request-Id` that is kept from a client.
const MAX_ID: usize = 128;

/// Prepares a request for its endpoint. Says whether it asks for an upgrade, which is left out here.
pub fn to_endpoint(head: &Head, edits: &mut Edits, conn: &ConnInfo, client: &Client, id: &[u8], via: bool) -> bool {
    let is_trusted = is_trusted(&conn.trusted_proxies, conn.peer.ip());
    let mut asks_for_upgrade = false;
    let (mut has_id, mut has_forwarded) = (false, [false; 3]);
    for (index, field) in head.fields().iter().enumerate() {
        match field.known {
            Name::Other => continue,
            Name::Connection => drop_named(head, edits, head.value_of(field)),
            Name::KeepAlive | Name::ProxyConnection | Name::Reserved => {}
            Name::Upgrade => asks_for_upgrade = true,
            Name::Te if is_just_trailers(head.value_of(field)) => continue,
            Name::Te => {
                if tokens(head.value_of(field)).any(|token| token.eq_ignore_ascii_case(b"trailers")) {
                    edits.add(b"TE", b"trailers");
                }
            }
            Name::XRequestId if !has_id && head.value_of(field) == id => {
                has_id = true;
                continue;
            }
            Name::XRequestId => {}
            Name::Forwarded | Name::XForwardedOther if is_trusted => continue,
            Name::Forwarded | Name::XForwardedOther => {}
            Name::XForwardedFor => has_forwarded[0] = true,
            Name::XForwardedProto if is_trusted && !has_forwarded[1] => {
                has_forwarded[1] = true;
                continue;
            }
            Name::XForwardedHost if is_trusted && !has_forwarded[2] => {
                has_forwarded[2] = true;
                continue;
            }
            Name::XForwardedProto | Name::XForwardedHost => {}
            Name::Expect if head.version() != Version::Http10 => continue,
            Name::Expect => {}
            _ => continue,
        }
        edits.drop_field(index);
    }
    add_forwarded_for(head, edits, conn.peer.ip(), is_trusted && has_forwarded[0]);
    if !has_forwarded[1] {
        edits.add(b"X-Forwarded-Proto", if client.secure { b"https" } else { b"http" });
    }
    if let (false, Some(authority)) = (has_forwarded[2], head.authority()) {
        edits.add(b"X-Forwarded-Host", authority);
    }
    if !has_id {
        edits.add(b"X-Request-Id", id);
    }
    if via {
        let version: &[u8] = match head.version() {
            Version::Http10 => b"1.0 ringway",
            Version::Http11 => b"1.1 ringway",
            Version::Http2 => b"2 ringway",
        };
        edits.add(b"Via", version);
    }
    if let Some(certificate) = &conn.client_certificate {
        edits.add(b"Client-Cert", certificate.whole.as_bytes());
        if !certificate.subject.is_empty() {
            edits.add(b"Client-Cert-Subject", certificate.subject.as_bytes());
        }
    }
    asks_for_upgrade
}

/// Prepares a response for the client; says whether it tells its date.
pub fn to_client(head: &Head, edits: &mut Edits) -> bool {
    let mut has_date = false;
    for (index, field) in head.fields().iter().enumerate() {
        match field.known {
            Name::Connection => drop_named(head, edits, head.value_of(field)),
            Name::KeepAlive | Name::ProxyConnection | Name::Upgrade | Name::Te | Name::Reserved => {}
            Name::Date => {
                has_date = true;
                continue;
            }
            _ => continue,
        }
        edits.drop_field(index);
    }
    has_date
}

/// The client's address: the peer's, or what the nearest trusted proxies reported, right to left, in `X-Forwarded-For` or, when
/// there is none, in `Forwarded`.
pub fn client_ip(head: &Head, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    if trusted.is_empty() || !is_trusted(trusted, peer) {
        return peer;
    }
    let values = |name: Name| head.all(name).collect::<SmallVec<[&[u8]; 8]>>().into_iter().rev();
    if head.get(Name::XForwardedFor).is_some() {
        nearest_untrusted(peer, trusted, values(Name::XForwardedFor).flat_map(forwarded::of_x_forwarded_for))
    } else {
        nearest_untrusted(peer, trusted, values(Name::Forwarded).flat_map(forwarded::of_forwarded))
    }
}

fn nearest_untrusted(peer: IpAddr, trusted: &[IpNet], reported: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut client = peer;
    for address in reported {
        // What is not an address was written by somebody nobody vouches for: the last good one stands.
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// The id of a request: its own if it has a decent one, else `random`.
pub fn request_id(head: &Head, random: [u64; 2]) -> SmallVec<[u8; 32]> {
    let is_decent = |id: &&[u8]| {
        (1..=MAX_ID).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    match head.get(Name::XRequestId).filter(is_decent) {
        Some(id) => SmallVec::from_slice(id),
        None => hex(random),
    }
}

fn hex(words: [u64; 2]) -> SmallVec<[u8; 32]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    let [first, second] = words.map(u64::to_be_bytes);
    for (pair, byte) in text.chunks_exact_mut(2).zip(first.iter().chain(&second)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    SmallVec::from_buf(text)
}

fn is_just_trailers(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"trailers")
}

fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// Leaves out what a Connection field names, save what frames or identifies the message.
fn drop_named(head: &Head, edits: &mut Edits, value: &[u8]) {
    for token in tokens(value) {
        match Name::of(token) {
            Name::Host | Name::ContentLength | Name::TransferEncoding | Name::XRequestId => {}
            Name::XForwardedFor | Name::XForwardedHost | Name::XForwardedProto | Name::XForwardedOther => {}
            Name::Via | Name::Te => {}
            _ => edits.remove_named(head, token),
        }
    }
}

fn add_forwarded_for(head: &Head, edits: &mut Edits, peer: IpAddr, append: bool) {
    edits.add_with(b"X-Forwarded-For", |text| {
        if append {
            for value in head.all(Name::XForwardedFor) {
                text.extend_from_slice(value);
                text.extend_from_slice(b", ");
            }
        }
        write_ip(peer.to_canonical(), text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ListenerName;
    use crate::head::Method;
    use crate::proxy::context::ClientCertificate;
    use crate::telemetry::cells::PerWorker;
    use std::sync::Arc;

    fn conn(trusted: &[&str]) -> ConnInfo {
        ConnInfo {
            listener: ListenerName::new("l"),
            stats: Arc::new(PerWorker::new(1)),
            peer: "10.0.0.9:1".parse().unwrap(),
            secure: false,
            client_certificate: None,
            trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            named: None,
        }
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", b"/");
        let authority = head.append(b"a.example");
        head.set_authority(authority);
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn sent(head: &Head, conn: &ConnInfo) -> Vec<String> {
        let mut edits = Edits::default();
        let ip = client_ip(head, conn.peer.ip(), &conn.trusted_proxies);
        let client = Client { ip, secure: conn.secure };
        to_endpoint(head, &mut edits, conn, &client, &request_id(head, [1, 2]), true);
        let kept = head.fields().iter().enumerate().filter(|(index, _)| !edits.is_dropped(*index));
        let kept = kept.map(|(_, field)| (head.name_of(field), head.value_of(field)));
        let text = |(name, value): (&[u8], &[u8])| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        kept.chain(edits.added()).map(text).collect()
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_stay_behind() {
        let fields = [
            ("Connection", "close, X-Hop, Host, Content-Length, Via"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "close"),
            ("TE", "gzip, trailers"),
            ("Upgrade", "h2c"),
            ("Via", "1.0 a"),
            ("Ringway-Explain", "x"),
            ("Proxy", "evil"),
            ("X-Kept", "1"),
        ];
        let id = "00000000000000010000000000000002";
        assert_eq!(
            sent(&head(&fields), &conn(&[])),
            [
                "Via: 1.0 a",
                "X-Kept: 1",
                "TE: trailers",
                "X-Forwarded-For: 10.0.0.9",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: a.example",
                &format!("X-Request-Id: {id}"),
                "Via: 1.1 ringway",
            ]
        );
    }

    #[test]
    fn a_clients_certificate_is_told_by_us_alone() {
        let fields = [
            ("Client-Cert", ":AAAA:"),
            ("client-cert-subject", "CN=root"),
            ("Client-Cert-Chain", ":AAAA:"),
            ("Connection", "client-cert"),
        ];
        let told = |conn: &ConnInfo| -> Vec<String> {
            let all = sent(&head(&fields), conn);
            all.into_iter().filter(|field| field.to_ascii_lowercase().starts_with("client-cert")).collect()
        };
        let mut conn = conn(&["10.0.0.0/8"]);
        assert!(told(&conn).is_empty());
        conn.client_certificate =
            Some(Box::new(ClientCertificate { whole: ":AQID:".into(), subject: "CN=alice".into() }));
        assert_eq!(told(&conn), ["Client-Cert: :AQID:", "Client-Cert-Subject: CN=alice"]);
        conn.client_certificate = Some(Box::new(ClientCertificate::new(&vec![1, 2, 3].into())));
        assert_eq!(told(&conn), ["Client-Cert: :AQID:"]);
    }

    #[test]
    fn forwarded_fields_are_believed_from_trusted_peers_only() {
        let fields = [
            ("X-Forwarded-For", "1.1.1.1, 2.2.2.2"),
            ("X-Forwarded-For", "10.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Forwarded-Prefix", "/admin"),
            ("X-Request-Id", "abc-1"),
        ];
        let head = head(&fields);
        let untrusted = sent(&head, &conn(&[]));
        assert!(untrusted.contains(&"X-Forwarded-For: 10.0.0.9".into()), "{untrusted:?}");
        assert!(untrusted.contains(&"X-Forwarded-Proto: http".into()) && !untrusted.join("").contains("1.1.1.1"));
        assert!(!untrusted.join("").contains("Prefix"), "{untrusted:?}");
        let trusted = sent(&head, &conn(&["10.0.0.0/8"]));
        assert!(trusted.contains(&"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.1.1.1, 10.0.0.9".into()), "{trusted:?}");
        assert!(trusted.contains(&"X-Forwarded-Prefix: /admin".into()), "{trusted:?}");
        assert!(
            trusted.contains(&"X-Forwarded-Proto: https".into()) && trusted.contains(&"X-Request-Id: abc-1".into())
        );
    }

    #[test]
    fn the_client_is_the_right_most_untrusted_address() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        let nets: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let check = |reported: &str, nets: &[IpNet], expected: &str| {
            let head = head(&[("X-Forwarded-For", reported)]);
            assert_eq!(client_ip(&head, peer, nets), expected.parse::<IpAddr>().unwrap(), "{reported}");
        };
        check("1.1.1.1, 2.2.2.2, 10.1.1.1", &nets, "2.2.2.2");
        check("1.1.1.1", &[], "10.0.0.9");
        check("evil, 10.1.1.1", &nets, "10.1.1.1");
        check("10.3.3.3, 10.1.1.1", &nets, "10.3.3.3");
        check("", &nets, "10.0.0.9");
        let by_forwarded = |fields: &[(&str, &str)]| client_ip(&head(fields), peer, &nets).to_string();
        assert_eq!(
            by_forwarded(&[("Forwarded", "for=1.1.1.1, for=\"2.2.2.2:80\""), ("Forwarded", "for=10.1.1.1")]),
            "2.2.2.2"
        );
        assert_eq!(by_forwarded(&[("Forwarded", "for=1.1.1.1"), ("X-Forwarded-For", "3.3.3.3")]), "3.3.3.3");
        assert_eq!(by_forwarded(&[("Forwarded", "for=\"x, for=3.3.3.3")]), "3.3.3.3");
    }
}
