//! HTTP/1.1 as bytes and events, both sides, strict by RFC 9112. Pure: no sockets, no async, no routes.
pub mod limits;
