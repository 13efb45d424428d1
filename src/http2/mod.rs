//! Heads between HTTP/2 as the `h2` crate has it and the one head of the house, strict by RFC 9113. Pure: no sockets, no
//! async, no routes.
//!
//! `h2` keeps frames, HPACK and pseudo-fields in order; what it lets pass and HTTP/1.1 must never see is refused here, so
//! that a request is judged alike over both versions.
pub mod glance;
pub mod huffman;
pub mod read;
pub mod write;

#[cfg(test)]
mod tests;
