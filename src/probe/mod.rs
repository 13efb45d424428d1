//! Active health checks: asks, again and again. What the answers mean is decided elsewhere.
//!
//! The first check of an endpoint goes out at once, unless somebody asked it lately, the second within one interval, at random: then
//! checks of endpoints that came together are spread. No more than [`MAX_AT_ONCE`] are under way at one time; others wait for their turn.
pub mod grpc;
pub mod http;
pub mod tcp;

use crate::base::address::Address;
use crate::base::address::Location;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::base::ids::EndpointId;
use crate::base::ids::UpstreamName;
use crate::health::check::HealthCheck;
use crate::health::check::Question;
use crate::net::tls_client::TlsClient;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Checks under way at one time, over all upstreams.
pub const MAX_AT_ONCE: usize = 256;
/// Answers that may wait; a check that has one more waits with it.
const MAX_ANSWERS: usize = 1024;
/// How much of a body is looked at.
const MAX_BODY: usize = 64 << 10;

/// Who is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The endpoint's uid: one id may have had several addresses.
    pub uid: u64,
    /// Its upstream.
    pub upstream: UpstreamName,
    /// Its id.
    pub endpoint: EndpointId,
    /// What it is called in requests that say nothing else.
    pub host: String,
    /// Where it is, as written: its certificate has to say so.
    pub location: Location,
    /// Where it listens: tried in turn.
    pub addresses: Arc<[Address]>,
    /// What secures connections to it; `None` is in clear.
    pub tls: Option<Arc<TlsClient>>,
}

/// What came of one check.
#[derive(Debug)]
pub struct Answer {
    /// Who was asked.
    pub target: Target,
    /// When it was over.
    pub at: Instant,
    /// What it found.
    pub result: Result<(), ProbeError>,
}

/// Why a check failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Nobody accepted the connection.
    #[error("connect to {0}: {1}")]
    Connect(Address, #[source] io::Error),
    /// Nothing came of it in time.
    #[error("get an answer within {0:?}")]
    Timeout(Duration),
    /// The request cannot be made of its settings.
    #[error("make the request: {0}")]
    Request(#[source] ::http::Error),
    /// The exchange over HTTP/1.1 failed.
    #[error("get a response: {0}")]
    Http(#[source] hyper::Error),
    /// The exchange over HTTP/2 failed.
    #[error("get a response: {0}")]
    H2(#[source] h2::Error),
    /// Another status was expected.
    #[error("get an expected status: it was {0}")]
    Status(u16),
    /// The body did not hold the expected text.
    #[error("find the expected text in the body")]
    Body,
    /// The gRPC call failed.
    #[error("get gRPC status 0: it was {0}")]
    GrpcStatus(String),
    /// The service says it is not serving.
    #[error("find the service serving: it said {0}")]
    NotServing(&'static str),
    /// The answer is no `HealthCheckResponse`.
    #[error("understand the gRPC answer")]
    GrpcAnswer,
}

/// Starts checks and hands their answers over.
#[derive(Debug)]
pub struct Prober {
    slots: Arc<Semaphore>,
    answers: mpsc::Sender<Answer>,
}

/// Checks of one endpoint, which end when this is dropped.
#[derive(Debug)]
pub struct Probing(JoinHandle<()>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prober {
    /// A prober, and where its answers arrive.
    pub fn new() -> (Self, mpsc::Receiver<Answer>) {
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        (Self { slots: Arc::new(Semaphore::new(MAX_AT_ONCE)), answers }, receiver)
    }

    /// Begins to check one endpoint, at random `within` a time; none is at once.
    pub fn start(&self, target: Target, check: Arc<HealthCheck>, within: Duration) -> Probing {
        let (slots, answers) = (self.slots.clone(), self.answers.clone());
        Probing(tokio::spawn(async move {
            let mut dice = Dice::new(target.uid ^ clock::since_epoch().as_nanos() as u64);
            tokio::time::sleep(dice.within(within)).await;
            let mut pause = dice.within(check.interval);
            loop {
                let Ok(slot) = slots.acquire().await else { return };
                let started = clock::now();
                let result = ask(&target, &check).await;
                drop(slot);
                let answer = Answer { target: target.clone(), at: clock::now(), result };
                if answers.send(answer).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause.saturating_sub(started.elapsed())).await;
                pause = dice.around(check.interval);
            }
        }))
    }
}

/// Asks once.
async fn ask(target: &Target, check: &HealthCheck) -> Result<(), ProbeError> {
    let answer = async {
        let alpn: &[&[u8]] = match &check.question {
            Question::Tcp => &[],
            Question::Http(_) => &[b"http/1.1"],
            Question::Grpc(_) => &[b"h2"],
        };
        let stream = tcp::connect(target, check.port, alpn, check.timeout).await?;
        match &check.question {
            Question::Tcp => Ok(()),
            Question::Http(question) => http::ask(stream, &target.host, question).await,
            Question::Grpc(question) => grpc::ask(stream, &target.host, question).await,
        }
    };
    tokio::time::timeout(check.timeout, answer).await.unwrap_or(Err(ProbeError::Timeout(check.timeout)))
}
