//! Why bytes were refused, by name. Which status that becomes is decided elsewhere.
use thiserror::Error;

/// A reason not to accept a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A line ends with LF alone (RFC 9112 section 2.2 allows to accept it; a front door should not).
    #[error("a line ends without CR")]
    BareLf,
    /// CR is not followed by LF.
    #[error("a CR stands alone")]
    BareCr,
    /// The start line is not one.
    #[error("the start line is malformed")]
    StartLine,
    /// The method is not a token.
    #[error("the method is malformed")]
    Method,
    /// The target has none of the four forms, or bytes no URI has.
    #[error("the request target is malformed")]
    Target,
    /// The start line is longer than a head may be.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The version is not HTTP/1.0 or HTTP/1.1, but may be one of HTTP.
    #[error("the version is not supported")]
    Version,
    /// A field line starts with white space (obs-fold), or the name is followed by it.
    #[error("white space around a field name")]
    FieldSpace,
    /// A field name is empty or not a token.
    #[error("a field name is malformed")]
    FieldName,
    /// A field value has control characters.
    #[error("a field value is malformed")]
    FieldValue,
    /// A field that belongs to one connection, over HTTP/2 (RFC 9113 section 8.2.2).
    #[error("a field belongs to one connection")]
    ConnectionField,
    /// All fields together are over the limit.
    #[error("the header is too large")]
    HeadTooLarge,
    /// There are more fields than allowed.
    #[error("there are too many fields")]
    TooManyFields,
    /// Host is missing, doubled or malformed.
    #[error("the host is missing, doubled or malformed")]
    Host,
    /// Content-Length is doubled, a list, or not a plain number.
    #[error("the content length is malformed")]
    ContentLength,
    /// Transfer-Encoding is anything but `chunked` alone.
    #[error("the transfer encoding is not exactly chunked")]
    TransferEncoding,
    /// Content-Length with Transfer-Encoding, or Transfer-Encoding on HTTP/1.0.
    #[error("the framing is ambiguous")]
    ConflictingFraming,
    /// A chunk's size line is malformed or the number too large.
    #[error("a chunk's size is malformed")]
    ChunkSize,
    /// A chunk's extension is malformed or too long.
    #[error("a chunk's extension is malformed")]
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    #[error("a chunk's end is malformed")]
    ChunkEnd,
    /// A stream or connection that breaks the rules of HTTP/2.
    #[error("the rules of HTTP/2 are broken")]
    Http2,
    /// An interim response nobody asked for, or too many.
    #[error("an interim response came that nobody asked for")]
    UnexpectedInterim,
    /// A success that is no switch, although the client would take it for one.
    #[error("the protocol asked for was not switched to")]
    NotSwitched,
}

/// What a refusal is to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Malformed or ambiguous.
    BadRequest,
    /// The start line is over the limit.
    UriTooLong,
    /// The fields are over a limit.
    HeadersTooLarge,
    /// A version of HTTP that is not spoken here.
    UnsupportedVersion,
}

impl Refusal {
    /// What it is to the client.
    pub fn kind(self) -> RefusalKind {
        match self {
            Self::TargetTooLong => RefusalKind::UriTooLong,
            Self::HeadTooLarge | Self::TooManyFields => RefusalKind::HeadersTooLarge,
            Self::Version => RefusalKind::UnsupportedVersion,
            _ => RefusalKind::BadRequest,
        }
    }
}
