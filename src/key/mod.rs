//! Bytes to hash, taken from a request head. Pure: knows no ring, no upstream, no body.
