//! What went wrong with a request: side, phase and kind. Which status that becomes is `reply`'s business.
use crate::http1::refusal::RefusalKind;
use crate::wire::body::BodyError;
use std::error::Error;
use std::fmt;

/// A request that did not get its response.
#[derive(Debug)]
pub struct ProxyError {
    /// What happened.
    pub kind: Kind,
    /// The cause, for the log only.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Everything that can go wrong, by side and phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Downstream: the request itself is refused.
    Request(RefusalKind),
    /// Downstream: the body is larger than allowed.
    TooLarge,
    /// Downstream: the client was silent for too long.
    ClientTimeout,
    /// Downstream: the client left.
    ClientClosed,
    /// Downstream: the connection was made for another host.
    Misdirected,
    /// Routing: nothing matches.
    NoRoute,
    /// Routing: the method is not allowed here, or nowhere (CONNECT, TRACE).
    MethodNotAllowed,
    /// Routing: the route is not for this client.
    Denied,
    /// Routing: the route was asked too often; seconds until it may be asked again.
    RateLimited(u32),
    /// Key: no part of the key is present and the route wants one.
    KeyMissing,
    /// Upstream: nobody is left to ask.
    NoEndpoint,
    /// Upstream: the store that knows whom to ask is lost.
    StoreLost,
    /// Lock: as many requests as may wait for their turn.
    LockQueueFull,
    /// Lock: others had their turn for too long.
    LockTimeout,
    /// Lock: it was lost before the response was there.
    LeaseLost,
    /// Lock: the store that knows whose turn it is is lost.
    LockStoreLost,
    /// Upstream: it has as many requests as it may take.
    Overloaded,
    /// Upstream: no connection.
    UpstreamConnect,
    /// Upstream: a connection, but no TLS on it.
    UpstreamTls,
    /// Upstream: the connection died before a response head.
    UpstreamReset,
    /// Upstream: the response is not HTTP that may be passed on.
    BadUpstreamResponse,
    /// Upstream: no response head in time.
    UpstreamTimeout,
    /// Ourselves.
    Internal,
}

impl Kind {
    /// What it is that a client's body did not come whole.
    pub fn of_client(cause: &BodyError) -> Self {
        match cause {
            BodyError::Timeout => Self::ClientTimeout,
            BodyError::TooLarge => Self::TooLarge,
            BodyError::Refused(refusal) => Self::Request(refusal.kind()),
            BodyError::Io(_) | BodyError::Truncated => Self::ClientClosed,
        }
    }
}

impl ProxyError {
    /// An error without a cause.
    pub fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    /// An error with its cause.
    pub fn with(kind: Kind, source: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Some(Box::new(source)) }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for ProxyError {}
