//! `grpc.health.v1.Health/Check` over HTTP/2. The two messages are small enough to be written and read by hand:
//! `HealthCheckRequest { string service = 1; }` and `HealthCheckResponse { ServingStatus status = 1; }`.
use super::MAX_BODY;
use super::ProbeError;
use super::http::AGENT;
use crate::health::check;
use crate::net::stream::Stream;
use ::http::HeaderMap;
use ::http::Request;
use ::http::header;
use bytes::Bytes;
use h2::RecvStream;
use tokio::task::JoinSet;

/// The path of the call.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// A message is preceded by a flag (compressed or not) and its length in four bytes.
const PREFIX: usize = 5;
/// Field 1, of bytes with their length before them.
const SERVICE: u8 = 0x0a;
/// `ServingStatus.SERVING`
const SERVING: u64 = 1;

/// Asks over a fresh connection and judges; `host` is what the endpoint is called if the question does not say.
pub async fn ask(stream: Stream, host: &str, question: &check::Grpc) -> Result<(), ProbeError> {
    let request = request(host, question).map_err(ProbeError::Request)?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(ProbeError::H2)?;
    // Dropped with this function, whatever it returns, and the connection with it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut sender = sender.ready().await.map_err(ProbeError::H2)?;
    let (response, mut body) = sender.send_request(request, false).map_err(ProbeError::H2)?;
    body.send_data(message(&question.service), true).map_err(ProbeError::H2)?;
    let (head, mut body) = response.await.map_err(ProbeError::H2)?.into_parts();
    if head.status != ::http::StatusCode::OK {
        return Err(ProbeError::Status(head.status.as_u16()));
    }
    let answer = read(&mut body).await?;
    let trailers = body.trailers().await.map_err(ProbeError::H2)?;
    // A call that fails at once has its status among the first fields.
    check_status(trailers.as_ref().unwrap_or(&head.headers))?;
    judge(serving_status(&answer).ok_or(ProbeError::GrpcAnswer)?)
}

fn request(host: &str, question: &check::Grpc) -> Result<Request<()>, ::http::Error> {
    let host = question.host.as_deref().unwrap_or(host);
    let mut request = Request::post(format!("http://{host}{PATH}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, AGENT);
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    request.body(())
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, ProbeError> {
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(ProbeError::H2)?;
        body.flow_control().release_capacity(data.len()).map_err(ProbeError::H2)?;
        if read.len() + data.len() > MAX_BODY {
            return Err(ProbeError::GrpcAnswer);
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

fn check_status(fields: &HeaderMap) -> Result<(), ProbeError> {
    let text = |name: &str| fields.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        Some(status) => Err(ProbeError::GrpcStatus(match text("grpc-message") {
            Some(message) => format!("{status} ({})", message.chars().take(80).collect::<String>().escape_debug()),
            None => status.chars().take(8).collect(),
        })),
        None => Err(ProbeError::GrpcStatus("missing".into())),
    }
}

fn judge(status: u64) -> Result<(), ProbeError> {
    match status {
        SERVING => Ok(()),
        0 => Err(ProbeError::NotServing("UNKNOWN")),
        2 => Err(ProbeError::NotServing("NOT_SERVING")),
        3 => Err(ProbeError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(ProbeError::NotServing("a status of its own")),
    }
}

/// A `HealthCheckRequest` with its prefix. A service's name is at most 127 bytes: its length is one byte.
fn message(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(PREFIX + 2 + service.len());
    let length = if service.is_empty() { 0 } else { 2 + service.len() as u32 };
    message.push(0);
    message.extend_from_slice(&length.to_be_bytes());
    if !service.is_empty() {
        message.extend_from_slice(&[SERVICE, service.len() as u8]);
        message.extend_from_slice(service.as_bytes());
    }
    message.into()
}

/// The status in a `HealthCheckResponse` with its prefix: 0 when the field is absent, `None` when this is no such message.
fn serving_status(answer: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = answer.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || length as usize != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_protobuf_wants_it() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }

    #[test]
    fn a_status_is_found_among_fields_of_later_versions() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0), "a default is not sent");
        assert_eq!(serving_status(&[0, 0, 0, 0, 6, 0x12, 2, 7, 7, 8, 2]), Some(2));
        let fixed = [0, 0, 0, 0, 16, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1];
        assert_eq!(serving_status(&fixed), Some(1));
    }

    #[test]
    fn whatever_else_comes_is_no_answer() {
        for answer in [
            &[][..],
            &[0, 0, 0],
            &[0, 0, 0, 0, 3, 8, 1],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 8, 0x80],
            &[0, 0, 0, 0, 2, 0x0a, 9],
            &[0, 0, 0, 0, 1, 3],
            &[0, 0, 0, 0, 12, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(serving_status(answer), None, "{answer:?}");
        }
    }
}
