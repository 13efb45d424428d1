//! One connection of HTTP/1.1 to a store: JSON there and back, one call at a time, or one answer that does not end.
use super::StoreError;
use super::dial::dial;
use super::settings::Settings;
use crate::base::address::Location;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest time for an answer, unless it is sooner too late.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Largest answer: 100,000 members are less than half of it.
const MAX_ANSWER: usize = 64 << 20;
/// Largest line of an endless answer: it tells that something has changed, the rest is asked for.
const MAX_LINE: usize = 8 << 20;
/// What is told of a refusal.
const MAX_WORDS: usize = 300;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Whose, as it is told.
    pub server: String,
    host: String,
    sender: SendRequest<Full<Bytes>>,
    authorization: Option<String>,
    /// Dropped with this, and the connection with it.
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects to one server.
    ///
    /// # Errors
    /// When it cannot be reached in time, or does not prove who it is.
    pub async fn open(settings: &Settings, server: &Location) -> Result<Self, StoreError> {
        let told = server.to_string();
        let stream = dial(settings, server).await?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| StoreError::Http(told.clone(), error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection to a store has ended.");
            }
        });
        Ok(Self { server: told, host: server.authority(None), sender, authorization: None, _driver: driver })
    }

    /// Shows this with every call from now on.
    pub fn authorize(&mut self, token: String) {
        self.authorization = Some(token);
    }

    /// Calls by POST and reads the whole answer, which has to be there within [`ANSWER`].
    ///
    /// # Errors
    /// When there is no answer in time, or it is a refusal or no JSON.
    pub async fn call(&mut self, path: &str, body: &Value) -> Result<Value, StoreError> {
        self.call_within(ANSWER, path, body).await
    }

    /// As [`call`](Self::call), with a time of one's own.
    ///
    /// # Errors
    /// As there.
    pub async fn call_within(&mut self, time: Duration, path: &str, body: &Value) -> Result<Value, StoreError> {
        let answer = self.ask(time, Method::POST, path, Some(body)).await?;
        answer.accepted(&self.server)?.json(&self.server)
    }

    /// Asks and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn ask(
        &mut self,
        time: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, StoreError> {
        let server = self.server.clone();
        let asked = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            let body = read(&server, body, MAX_ANSWER).await?;
            Ok(Answer { status: head.status.as_u16(), fields: head.headers, body })
        };
        tokio::time::timeout(time, asked).await.map_err(|_| StoreError::Timeout(server.clone()))?
    }

    /// Calls by POST and gives the answer's lines as they come. The connection is for nothing else then.
    ///
    /// # Errors
    /// When there is no answer in time, or it is a refusal.
    pub async fn follow(mut self, path: &str, body: &Value) -> Result<Lines, StoreError> {
        let server = self.server.clone();
        let asked = async {
            let (head, body) = self.send(Method::POST, path, Some(body)).await?.into_parts();
            if head.status.is_success() {
                return Ok(body);
            }
            let body = read(&server, body, MAX_LINE).await?;
            Err(refusal(&server, head.status.as_u16(), &body))
        };
        let body = tokio::time::timeout(ANSWER, asked).await.map_err(|_| StoreError::Timeout(server.clone()))??;
        Ok(Lines { connection: self, body, read: Vec::new(), searched: 0 })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, StoreError> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if let Some(token) = &self.authorization {
            request = request.header(header::AUTHORIZATION, token);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body)).map_err(|_| StoreError::Answer(self.server.clone()))?;
        let http = |error| StoreError::Http(self.server.clone(), error);
        self.sender.ready().await.map_err(http)?;
        self.sender.send_request(request).await.map_err(http)
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Itself, unless it is a refusal.
    ///
    /// # Errors
    /// When it is one.
    pub fn accepted(self, server: &str) -> Result<Self, StoreError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(refusal(server, self.status, &self.body))
    }

    /// What it says.
    ///
    /// # Errors
    /// When that is no JSON.
    pub fn json(&self, server: &str) -> Result<Value, StoreError> {
        serde_json::from_slice(&self.body).map_err(|_| StoreError::Answer(server.into()))
    }
}

fn refusal(server: &str, status: u16, words: &[u8]) -> StoreError {
    let words = String::from_utf8_lossy(&words[..words.len().min(MAX_WORDS)]).trim().to_string();
    StoreError::Refused(server.into(), status, words)
}

async fn read(server: &str, mut body: Incoming, max: usize) -> Result<Vec<u8>, StoreError> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| StoreError::Http(server.into(), error))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > max {
                return Err(StoreError::TooLarge(server.into(), max));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

/// An answer that does not end.
#[derive(Debug)]
pub struct Lines {
    connection: Connection,
    body: Incoming,
    read: Vec<u8>,
    /// So many bytes of it have no end of a line.
    searched: usize,
}

impl Lines {
    /// Waits for the next line. Cancelling it loses none.
    ///
    /// # Errors
    /// When it ends after all, or a line is too long or no JSON.
    pub async fn next(&mut self) -> Result<Value, StoreError> {
        let server = || self.connection.server.clone();
        loop {
            if let Some(end) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=self.searched + end).collect();
                self.searched = 0;
                return serde_json::from_slice(&line).map_err(|_| StoreError::Answer(server()));
            }
            self.searched = self.read.len();
            if self.searched > MAX_LINE {
                return Err(StoreError::TooLarge(server(), MAX_LINE));
            }
            let Some(frame) = self.body.frame().await else {
                return Err(StoreError::Ended(format!("an answer of {}", server())));
            };
            let frame = frame.map_err(|error| StoreError::Http(server(), error))?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}
