//! Active health checks as people write them: the question, how often, and what makes a verdict. Who asks is not known here.
use std::ops::RangeInclusive;
use std::time::Duration;

/// The policy of one upstream's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub question: Question,
    /// Time between two checks of one endpoint (default 2 s); each time a tenth more or less.
    pub interval: Duration,
    /// Longest time for one check, the connect included (default 1 s).
    pub timeout: Duration,
    /// Failures in a row that take an endpoint that was up down, at least 1 (default 3).
    pub fall: u32,
    /// Successes in a row that bring it up again, at least 1 (default 2).
    pub rise: u32,
    /// The port to ask at; `None`: the endpoint's own.
    pub port: Option<u16>,
    /// What has one proxy of a fleet ask for all; `None`: each asks for itself.
    pub elect: Option<Elect>,
}

/// How one proxy of a fleet asks for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elect {
    /// The store's name.
    pub store: String,
    /// What happens while nobody does, as far as is known.
    pub on_loss: OnLoss,
}

/// What a proxy does while the store is lost, or nobody tells verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// It asks for itself.
    CheckLocally,
    /// It keeps the last verdicts.
    Freeze,
}

impl OnLoss {
    /// Both.
    pub const ALL: [Self; 2] = [Self::CheckLocally, Self::Freeze];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CheckLocally => "check-locally",
            Self::Freeze => "freeze",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether a connection is accepted.
    Tcp,
    /// A request, and what its response must be.
    Http(Http),
    /// `grpc.health.v1.Health/Check`.
    Grpc(Grpc),
}

/// A request over HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Its method, `GET` say.
    pub method: String,
    /// Its path, with a slash at the beginning.
    pub path: String,
    /// Its `Host`; `None`: the address that is asked.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Statuses that are healthy.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// A text that the first 64 KiB of the body must hold.
    pub expect_body: Option<String>,
}

/// A call of the standard gRPC health service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// The service that is asked about; empty: the server as a whole.
    pub service: String,
    /// Its `:authority`; `None`: the address that is asked.
    pub host: Option<String>,
    /// Further metadata.
    pub headers: Vec<(String, String)>,
}
