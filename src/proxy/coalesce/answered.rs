//! What is told of an answer: its head, who gave it, and how its body ended.
use crate::head::Head;
use crate::http1::framing::BodyLength;
use crate::http1::refusal::Refusal;
use crate::proxy::coalesce::judge::Verdict;
use crate::ring::Slot;
use crate::telemetry::labels::Position;
use crate::wire::body::BodyError;
use std::time::Duration;

/// An answer's head and what was found out on the way to it.
#[derive(Debug)]
pub struct Answered {
    /// As it came from the endpoint.
    pub head: Head,
    /// How its body is framed.
    pub length: BodyLength,
    /// What may be done with it.
    pub verdict: Verdict,
    /// The values of the fields it depends on, as whoever asked first had them.
    pub values: Vec<u8>,
    /// Who gave it.
    pub by: By,
}

/// Who gave an answer, for the records of all who get it.
#[derive(Debug, Clone, Copy)]
pub struct By {
    /// The endpoint, whatever place it has in another's view.
    pub uid: u64,
    /// Its place in the view of whoever asked first.
    pub slot: Slot,
    /// What it is to the key.
    pub position: Option<Position>,
    /// Attempts made.
    pub attempts: u32,
    /// From the last attempt's request to the response head.
    pub upstream_time: Option<Duration>,
}

/// How a body ended.
#[derive(Debug, Clone)]
pub enum End {
    /// All of it came, and then these trailers.
    Whole(Option<Box<Head>>),
    /// It broke off.
    Broken(Fault),
}

/// Why a body broke off, to be told more than once.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing came for too long.
    Timeout,
    /// What came may not be passed on.
    Refused(Refusal),
    /// The endpoint's side ended.
    Truncated,
}

impl From<&BodyError> for Fault {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Timeout => Self::Timeout,
            BodyError::Refused(refusal) => Self::Refused(*refusal),
            BodyError::Io(_) | BodyError::Truncated | BodyError::TooLarge => Self::Truncated,
        }
    }
}

impl From<Fault> for BodyError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Timeout => Self::Timeout,
            Fault::Refused(refusal) => Self::Refused(refusal),
            Fault::Truncated => Self::Truncated,
        }
    }
}
