//! `upstream.tls`. The files it names are read here, so that what is wrong with one is told with its place.
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use crate::net::certs::TlsError;
use crate::net::settings::CertificateFiles;
use crate::net::settings::ClientTls;
use crate::net::tls_client::TlsClient;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;

/// Reads `tls` of an upstream; `None` when it is absent or wrong.
pub fn client(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<Arc<TlsClient>> {
    if !upstream.has("tls") {
        return None;
    }
    let section = upstream.table(reader, "tls", "upstream.*.tls");
    section.check_names(reader);
    let before = reader.problems.len();
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
    if reader.problems.len() > before {
        return None;
    }
    match TlsClient::load(&settings) {
        Ok(client) => Some(Arc::new(client)),
        Err(error) => {
            blame(reader, &section, &["ca", "cert", "key"], &error);
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
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn server_name(reader: &mut Reader<'_>, text: &Found<String>) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(text.value.clone()).ok();
    if name.is_none() {
        let message = format!("\"{}\" is not a server name; write \"cache.example.com\" or \"10.0.0.1\"", text.value);
        reader.problem(&text.place, message);
    }
    name
}

/// The name of a file that can be opened.
fn file(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<PathBuf> {
    section.text(reader, name).map(|text| readable(reader, &text))
}

/// Notes a file that cannot be opened.
pub fn readable(reader: &mut Reader<'_>, file: &Found<String>) -> PathBuf {
    let path = PathBuf::from(&file.value);
    if let Err(error) = std::fs::File::open(&path) {
        reader.problem(&file.place, format!("{} cannot be read: {error}", file.value));
    }
    path
}

/// Notes why TLS cannot be had, at the key that names the file to blame.
fn blame(reader: &mut Reader<'_>, section: &Section<'_>, names: &[&str], error: &TlsError) {
    let is_named = |reader: &mut Reader<'_>, name: &str| {
        section.has(name) && section.text(reader, name).is_some_and(|text| error.path() == Some(text.value.as_ref()))
    };
    let place = match names.iter().find(|name| is_named(reader, name)) {
        Some(name) => section.place(name),
        None => section.place.clone(),
    };
    reader.problem(&place, format!("failed to {error}"));
}
