//! `host`: the authority in lower case without the default port of its scheme, so that HTTP/1.1, HTTP/2 and TLS agree.
use crate::head::Client;
use crate::head::Head;

/// Appends the host a request is for.
pub fn write_host(head: &Head, client: &Client, out: &mut Vec<u8>) {
    let authority = head.authority().unwrap_or_default();
    let default_port: &[u8] = if client.secure { b":443" } else { b":80" };
    let host = authority.strip_suffix(default_port).or(authority.strip_suffix(b":")).unwrap_or(authority);
    out.extend(host.iter().map(u8::to_ascii_lowercase));
}
