//! `[server]`, `[admin]` and `[log]`.
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use super::tls;
use crate::admin;
use crate::base::address::Address;
use crate::base::files;
use crate::base::token::Token;
use crate::lifecycle;
use crate::lifecycle::settings::ReloadOn;
use crate::telemetry;
use crate::telemetry::settings::AccessFormat;
use crate::telemetry::settings::Level;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A token shorter than this is worth a word.
const SHORT_TOKEN: usize = 16;

/// Reads `[server]`.
pub fn server(reader: &mut Reader<'_>, section: &Section<'_>) -> lifecycle::settings::Settings {
    section.check_names(reader);
    let default = lifecycle::settings::Settings::default();
    lifecycle::settings::Settings {
        workers: section.integer(reader, "workers").map(|workers| workers as usize),
        shutdown_timeout: section.duration(reader, "shutdown_timeout").unwrap_or(default.shutdown_timeout),
        shutdown_delay: section.duration(reader, "shutdown_delay").unwrap_or(default.shutdown_delay),
        drain_timeout: section.duration(reader, "drain_timeout").unwrap_or(default.drain_timeout),
        reload: match section.choice(reader, "reload") {
            "signal" => ReloadOn::Signal,
            _ => ReloadOn::Watch,
        },
        guard_config: section.bool(reader, "guard_config"),
        upgrade_socket: section.text(reader, "upgrade_socket").and_then(|path| socket_path(reader, &path)),
        upgrade_timeout: section.duration(reader, "upgrade_timeout").unwrap_or(default.upgrade_timeout),
    }
}

/// A path at which a unix socket can be, with or without `unix:` before it.
fn socket_path(reader: &mut Reader<'_>, written: &Found<String>) -> Option<Arc<Path>> {
    let path = written.value.strip_prefix("unix:").unwrap_or(&written.value);
    match format!("unix:{path}").parse::<Address>() {
        Ok(Address::Unix(path)) => Some(path),
        Ok(Address::Ip(_)) => None,
        Err(error) => {
            reader.problem(&written.place, format!("\"{}\" is not the path of a socket: {error}", written.value));
            None
        }
    }
}

/// Reads `[admin]`.
pub fn admin(reader: &mut Reader<'_>, section: &Section<'_>) -> admin::settings::Settings {
    section.check_names(reader);
    let default = admin::settings::Settings::default();
    let token = section.text(reader, "token_file").and_then(|path| token(reader, &path));
    let debug_token = section.text(reader, "debug_token_file").and_then(|path| self::token(reader, &path));
    if debug_token.is_some() && debug_token == token {
        let message = "\"debug_token_file\" holds the same token as \"token_file\": whoever may ask about a request could then act; use another";
        reader.problem(&section.place("debug_token_file"), message);
    }
    let tls = tls::admin(reader, section);
    let hosts = section.texts(reader, "hosts").into_iter().map(|host| host.value).collect();
    let address = section.text(reader, "address").and_then(|text| match text.value.parse::<SocketAddr>() {
        Ok(address) => {
            if !address.ip().is_loopback() && !section.has("token_file") {
                reader.problem(&text.place, format!(
                    "\"{}\" is not a loopback address: anybody who reaches it could read everything; give it a token_file, or write \"127.0.0.1:9900\"",
                    text.value
                ));
            }
            Some(address)
        }
        Err(_) => {
            reader.problem(&text.place, format!("\"{}\" is not an address; write \"127.0.0.1:9900\"", text.value));
            None
        }
    });
    admin::settings::Settings { address: address.unwrap_or(default.address), token, hosts, tls, debug_token }
}

fn token(reader: &mut Reader<'_>, path: &Found<String>) -> Option<Token> {
    if reader.is_closed {
        return None;
    }
    let text = match files::read_text(path.value.as_ref(), files::MAX_WORD) {
        Ok(text) => text,
        Err(error) => {
            reader.problem(&path.place, format!("{} cannot be read: {error}", path.value));
            return None;
        }
    };
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message =
            format!("{} does not hold a token: one word of ASCII; make it by: openssl rand -hex 32", path.value);
        reader.problem(&path.place, message);
        return None;
    }
    if text.len() < SHORT_TOKEN {
        reader.warn(
            &path.place,
            format!("{} holds a token that can be guessed: it is shorter than {SHORT_TOKEN}", path.value),
        );
    }
    Some(Token::new(text))
}

/// Reads `[log]`.
pub fn log(reader: &mut Reader<'_>, section: &Section<'_>) -> telemetry::settings::Settings {
    section.check_names(reader);
    let path = section.text(reader, "access_path").map_or_else(|| "-".into(), |path| path.value);
    telemetry::settings::Settings {
        level: Level::of(section.choice(reader, "level")).unwrap_or(Level::Info),
        access: match section.choice(reader, "access") {
            "text" => AccessFormat::Text,
            "off" => AccessFormat::Off,
            _ => AccessFormat::Json,
        },
        access_path: (path != "-").then(|| path.into()),
        sample: section.share(reader, "sample").unwrap_or(telemetry::settings::Settings::default().sample),
    }
}
