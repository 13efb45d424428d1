//! `[server]`, `[admin]` and `[log]`.
use super::table::Reader;
use super::table::Section;
use crate::admin;
use crate::lifecycle;
use crate::lifecycle::settings::ReloadOn;
use crate::telemetry;
use crate::telemetry::settings::AccessFormat;
use crate::telemetry::settings::Level;
use std::net::SocketAddr;

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
    }
}

/// Reads `[admin]`.
pub fn admin(reader: &mut Reader<'_>, section: &Section<'_>) -> admin::settings::Settings {
    section.check_names(reader);
    let default = admin::settings::Settings::default();
    let Some(text) = section.text(reader, "address") else { return default };
    match text.value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => admin::settings::Settings { address },
        Ok(_) => {
            reader.problem(&text.place, format!(
                "\"{}\" is not a loopback address: anybody who reaches it could read everything; write \"127.0.0.1:9900\"",
                text.value
            ));
            default
        }
        Err(_) => {
            reader.problem(&text.place, format!("\"{}\" is not an address; write \"127.0.0.1:9900\"", text.value));
            default
        }
    }
}

/// Reads `[log]`.
pub fn log(reader: &mut Reader<'_>, section: &Section<'_>) -> telemetry::settings::Settings {
    section.check_names(reader);
    let path = section.text(reader, "access_path").map_or_else(|| "-".into(), |path| path.value);
    telemetry::settings::Settings {
        level: match section.choice(reader, "level") {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => Level::Info,
        },
        access: match section.choice(reader, "access") {
            "text" => AccessFormat::Text,
            "off" => AccessFormat::Off,
            _ => AccessFormat::Json,
        },
        access_path: (path != "-").then(|| path.into()),
    }
}
