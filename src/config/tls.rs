//! `listener.tls` and `upstream.tls`. The files it names are read here, so that what is wrong with one is told with its place.
use super::table::Found;
use super::table::Place;
use super::table::Reader;
use super::table::Section;
use crate::base::clock;
use crate::base::files;
use crate::listener::settings::Protocols;
use crate::net::certs::TlsError;
use crate::net::settings::CertificateFiles;
use crate::net::settings::ClientAuth;
use crate::net::settings::ClientTls;
use crate::net::settings::ServerTls;
use crate::net::settings::TlsVersion;
use crate::net::tls_client::TlsClient;
use crate::net::tls_server::TlsServer;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;

/// Reads `tls` of a listener; `None` when it is absent or wrong.
pub fn listener(reader: &mut Reader<'_>, listener: &Section<'_>, protocols: Protocols) -> Option<Arc<TlsServer>> {
    server(reader, listener, ["listener.tls", "listener.tls.certificates"], &protocols.alpn())
}

/// Reads `tls` of the admin interface; `None` when it is absent or wrong.
pub fn admin(reader: &mut Reader<'_>, admin: &Section<'_>) -> Option<Arc<TlsServer>> {
    server(reader, admin, ["admin.tls", "admin.tls.certificates"], &[b"http/1.1"])
}

/// Reads `tls` of `owner`, whose keys are those of the first of `names`, with certificates by those of the second.
fn server(
    reader: &mut Reader<'_>,
    owner: &Section<'_>,
    names: [&'static str; 2],
    alpn: &[&[u8]],
) -> Option<Arc<TlsServer>> {
    if !owner.has("tls") {
        return None;
    }
    let section = owner.table(reader, "tls", names[0]);
    let before = reader.problems.len();
    section.check_names(reader);
    let pairs = section.tables(reader, "certificates", names[1]);
    let certificates: Vec<CertificateFiles> =
        pairs.iter().filter_map(|pair| server_certificate(reader, pair)).collect();
    if section.has("certificates") && pairs.is_empty() {
        reader.problem(&section.place("certificates"), "TLS needs at least one certificate");
    }
    let min_version = match section.choice(reader, "min_version") {
        "1.3" => TlsVersion::V13,
        _ => TlsVersion::V12,
    };
    let settings = ServerTls { certificates, clients: client_auth(reader, &section), min_version };
    // What could not be read was told already.
    if reader.problems.len() > before || reader.is_closed {
        return None;
    }
    match TlsServer::load(&settings, alpn) {
        Ok(server) => {
            warn_of_ended(reader, &pairs, &server);
            Some(Arc::new(server))
        }
        Err(error) => {
            let of_pair = pairs.iter().find_map(|pair| named(reader, pair, &["cert", "key", "ocsp"], &error));
            let place = of_pair.or_else(|| named(reader, &section, &["client_ca"], &error)).unwrap_or(section.place);
            reader.problem(&place, format!("failed to {error}"));
            None
        }
    }
}

fn server_certificate(reader: &mut Reader<'_>, pair: &Section<'_>) -> Option<CertificateFiles> {
    pair.check_names(reader);
    let (cert, key, ocsp) = (file(reader, pair, "cert"), file(reader, pair, "key"), file(reader, pair, "ocsp"));
    Some(CertificateFiles { cert: cert?, key: key?, ocsp })
}

fn client_auth(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<ClientAuth> {
    let is_required = section.choice(reader, "client_auth") == "required";
    let ca = file(reader, section, "client_ca");
    if ca.is_none() && section.has("client_auth") && !section.has("client_ca") {
        let message = "nobody's certificate would be good without a \"client_ca\"; name the file of its authorities";
        reader.problem(&section.place("client_auth"), message);
    }
    Some(ClientAuth { ca: ca?, is_required })
}

fn warn_of_ended(reader: &mut Reader<'_>, pairs: &[Section<'_>], server: &TlsServer) {
    let now = clock::since_epoch().as_secs() as i64;
    for (pair, certificate) in pairs.iter().zip(server.certificates().iter()) {
        if certificate.not_after < now {
            let message = format!("the certificate of {} has ended: clients will refuse it", certificate.name);
            reader.warn(&pair.place("cert"), message);
        }
    }
}

/// Reads `tls` of an upstream; `None` when it is absent or wrong.
pub fn client(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Arc<TlsClient>> {
    client_of(reader, upstream, "upstream.*.tls")
}

/// Reads `tls` of any table, by the keys of `name`; `None` when it is absent or wrong.
pub fn client_of(reader: &mut Reader<'_>, parent: &Section<'_>, name: &'static str) -> Option<Arc<TlsClient>> {
    if !parent.has("tls") {
        return None;
    }
    let section = parent.table(reader, "tls", name);
    let before = reader.problems.len();
    section.check_names(reader);
    let settings = ClientTls {
        server_name: section.text(reader, "server_name").and_then(|name| server_name(reader, &name)),
        ca: file(reader, &section, "ca"),
        certificate: client_certificate(reader, &section),
        verify: section.bool(reader, "verify"),
    };
    if !settings.verify {
        let message = "\"verify\" is false: whoever is on the way to the endpoints can read and change what is sent";
        reader.warn(&section.place("verify"), message);
    }
    // What could not be read was told already.
    if reader.problems.len() > before || reader.is_closed {
        return None;
    }
    match TlsClient::load(&settings) {
        Ok(client) => Some(Arc::new(client)),
        Err(error) => {
            let place = named(reader, &section, &["ca", "cert", "key"], &error).unwrap_or(section.place);
            reader.problem(&place, format!("failed to {error}"));
            None
        }
    }
}

fn client_certificate(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<CertificateFiles> {
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if section.has(one) && !section.has(other) {
            let message = format!("a \"{one}\" without a \"{other}\" proves nothing; name both");
            reader.problem(&section.place(one), message);
        }
    }
    let (cert, key) = (file(reader, section, "cert"), file(reader, section, "key"));
    Some(CertificateFiles { cert: cert?, key: key?, ocsp: None })
}

fn server_name(reader: &mut Reader<'_>, text: &Found<String>) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(text.value.clone()).ok();
    if name.is_none() {
        let message = format!("\"{}\" is not a server name; write \"cache.example.com\" or \"10.0.0.1\"", text.value);
        reader.problem(&text.place, message);
    }
    name
}

/// The name of a file that can be read.
fn file(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<PathBuf> {
    section.text(reader, name).map(|text| readable(reader, &text))
}

/// Notes a file that cannot be read.
pub(super) fn readable(reader: &mut Reader<'_>, file: &Found<String>) -> PathBuf {
    let path = PathBuf::from(&file.value);
    if !reader.is_closed
        && let Err(error) = files::read(&path, files::MAX_PEM)
    {
        reader.problem(&file.place, format!("{} cannot be read: {error}", file.value));
    }
    path
}

/// Where the file that is to blame is named, if it is under one of these keys.
fn named(reader: &mut Reader<'_>, section: &Section<'_>, names: &[&str], error: &TlsError) -> Option<Place> {
    let is_named = |reader: &mut Reader<'_>, name: &str| {
        section.has(name) && section.text(reader, name).is_some_and(|text| error.path() == Some(text.value.as_ref()))
    };
    names.iter().find(|name| is_named(reader, name)).map(|name| section.place(name))
}
