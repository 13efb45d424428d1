//! HTTP/1.1 as bytes and events, both sides, strict by RFC 9112. Pure: no sockets, no async, no routes.
//!
//! What is ambiguous is refused, never repaired: a front door that guesses differently from the server behind it is how
//! requests are smuggled.
pub mod chunked;
pub mod encode;
pub mod framing;
pub mod limits;
pub mod parse;
pub mod refusal;
pub mod syntax;

#[cfg(test)]
mod tests;
