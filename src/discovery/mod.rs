//! Who belongs to an upstream, and where: what is asked of the outside, again and again. What the answers change is decided
//! elsewhere.
pub mod names;
