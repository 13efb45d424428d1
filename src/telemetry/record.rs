//! One finished request, as the access log tells it. Formats are `access_log`'s.
use crate::telemetry::labels::Coalesced;
use crate::telemetry::labels::Position;
use std::net::IpAddr;
use std::time::Duration;

/// Everything the access log may say of a request. Borrowed from the request: made only when there is a log.
#[derive(Debug)]
pub struct RequestRecord<'a> {
    /// When it ended, since the epoch.
    pub time: Duration,
    /// The listener it came in by.
    pub listener: &'a str,
    /// The route, if one was found.
    pub route: Option<&'a str>,
    /// Its upstream.
    pub upstream: Option<&'a str>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// What that endpoint is to the key.
    pub position: Option<Position>,
    /// What its answer has to do with those of others; nothing on routes that do not coalesce.
    pub coalesced: Option<Coalesced>,
    /// The method's bytes.
    pub method: &'a [u8],
    /// The host as received.
    pub host: Option<&'a [u8]>,
    /// Path and query as received.
    pub path: &'a [u8],
    /// The status told to the client; 499 when it left before one.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the head to the end.
    pub duration: Duration,
    /// From the last attempt's request to its response head.
    pub upstream_duration: Option<Duration>,
    /// Attempts made.
    pub attempts: u32,
    /// The key's hash.
    pub key_hash: Option<u64>,
    /// Which alternative gave the key, as written.
    pub key_source: Option<&'a str>,
    /// The client.
    pub client_ip: IpAddr,
    /// The version spoken with the client.
    pub protocol: &'static str,
    /// The request's name in logs.
    pub request_id: &'a [u8],
    /// The stable word of what went wrong.
    pub error: Option<&'static str>,
}
