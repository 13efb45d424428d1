//! `[upstream.NAME.health_check]`.
use super::serialize;
use super::store::Stores;
use super::table::Found;
use super::table::Reader;
use super::table::Section;
use crate::health::check::Elect;
use crate::health::check::Grpc;
use crate::health::check::HealthCheck;
use crate::health::check::Http;
use crate::health::check::OnLoss;
use crate::health::check::Question;
use std::ops::RangeInclusive;

/// Keys that a kind of check has no use for.
const USELESS: [(&str, &[&str]); 3] = [
    ("http", &["service"]),
    ("tcp", &["path", "method", "service", "host", "headers", "expect_status", "expect_body"]),
    ("grpc", &["path", "method", "expect_status", "expect_body"]),
];
/// Fields that the check itself sets, or that frame its message.
const RESERVED: [&str; 6] = ["host", "connection", "content-length", "transfer-encoding", "content-type", "te"];
/// A service's name has its length in one byte.
const MAX_SERVICE: usize = 127;

/// Reads the table; nothing when a value is wrong (the problem is noted).
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, stores: &Stores) -> Option<HealthCheck> {
    section.check_names(reader);
    let kind = section.choice(reader, "kind");
    for key in USELESS.iter().filter(|(name, _)| *name == kind).flat_map(|(_, keys)| *keys) {
        if section.has(key) {
            reader.problem(&section.place(key), format!("a \"{kind}\" check has no \"{key}\""));
        }
    }
    let question = match kind {
        "tcp" => Some(Question::Tcp),
        "grpc" => grpc(reader, section).map(Question::Grpc),
        _ => http(reader, section).map(Question::Http),
    };
    let interval = section.duration(reader, "interval");
    let timeout = section.duration(reader, "timeout");
    let [fall, rise] = ["fall", "rise"].map(|name| section.integer(reader, name).map(|count| count as u32));
    let port = section.integer(reader, "port").map(|port| port as u16);
    let elect = elect(reader, section, stores);
    Some(HealthCheck {
        question: question?,
        interval: interval?,
        timeout: timeout?,
        fall: fall?,
        rise: rise?,
        port,
        elect,
    })
}

fn elect(reader: &mut Reader<'_>, section: &Section<'_>, stores: &Stores) -> Option<Elect> {
    let wanted = section.choice(reader, "on_store_loss");
    let on_loss = OnLoss::ALL.into_iter().find(|on_loss| on_loss.as_str() == wanted)?;
    let Some(store) = section.text(reader, "elect") else {
        if section.has("on_store_loss") && !section.has("elect") {
            let message =
                "\"on_store_loss\" is for checks by one proxy of a fleet; leave it out, or write elect = \"NAME\"";
            reader.problem(&section.place("on_store_loss"), message);
        }
        return None;
    };
    if !stores.contains_key(&store.value) {
        serialize::no_store(reader, &store, stores);
    }
    Some(Elect { store: store.value, on_loss })
}

fn http(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Http> {
    let method = section.text(reader, "method").and_then(|text| {
        let is_valid = http::Method::from_bytes(text.value.as_bytes()).is_ok() && text.value != "CONNECT";
        if !is_valid {
            reader
                .problem(&text.place, format!("\"{}\" is not a method a check could have; write \"GET\"", text.value));
        }
        is_valid.then_some(text.value)
    });
    let path = section.text(reader, "path").and_then(|text| {
        let is_valid = text.value.starts_with('/') && text.value.parse::<http::uri::PathAndQuery>().is_ok();
        if !is_valid {
            reader.problem(&text.place, format!("\"{}\" is not a path; write \"/healthz\"", text.value));
        }
        is_valid.then_some(text.value)
    });
    let expect_status = section.text(reader, "expect_status").and_then(|text| statuses(reader, &text));
    let expect_body = section.text(reader, "expect_body").map(|text| text.value);
    let (host, headers) = (host(reader, section), headers(reader, section));
    Some(Http { method: method?, path: path?, host, headers, expect_status: expect_status?, expect_body })
}

fn grpc(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Grpc> {
    let service = section.text(reader, "service").map_or_else(String::new, |text| {
        if text.value.len() > MAX_SERVICE {
            reader.problem(&text.place, format!("a service's name is at most {MAX_SERVICE} bytes"));
        }
        text.value
    });
    Some(Grpc { service, host: host(reader, section), headers: headers(reader, section) })
}

fn host(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let text = section.text(reader, "host")?;
    if text.value.parse::<http::uri::Authority>().is_err() || text.value.contains('@') {
        reader.problem(&text.place, format!("\"{}\" is not a host; write \"example.com\"", text.value));
    }
    Some(text.value)
}

fn headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in section.map(reader, "headers") {
        let lower = name.value.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) {
            let instead = if lower == "host" { "; there is the key \"host\" for it" } else { "" };
            reader.problem(&name.place, format!("a check sets \"{}\" itself{instead}", name.value));
        } else if http::HeaderName::from_bytes(name.value.as_bytes()).is_err()
            || http::HeaderValue::from_str(&value).is_err()
        {
            reader.problem(&name.place, format!("\"{}: {value}\" is not a field that can be sent", name.value));
        } else {
            headers.push((lower, value));
        }
    }
    headers
}

/// `"200-399"`, `"200, 204, 300-399"`
fn statuses(reader: &mut Reader<'_>, text: &Found<String>) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |part: &str| -> Option<RangeInclusive<u16>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
        let (from, to) = (number(from)?, number(to)?);
        (from <= to).then_some(from..=to)
    };
    let ranges: Option<Vec<_>> = text.value.split(',').map(range).collect();
    if ranges.is_none() {
        let message = format!("\"{}\" is not a list of statuses from 100 to 599; write \"200-399\"", text.value);
        reader.problem(&text.place, message);
    }
    ranges
}
