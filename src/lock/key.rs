//! What is locked, under a name that is the same on every proxy.
use crate::telemetry::labels::LockUse;
use std::fmt;
use xxhash_rust::xxh3::xxh3_128;

/// A lock's name: what it is for, and a hash of what it protects. Two things of one hash would wait for each other, no more.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockKey {
    used_for: LockUse,
    hash: u128,
}

impl LockKey {
    /// The lock for a use of what these parts make together; no other split of them is the same.
    pub fn new(used_for: LockUse, parts: &[&[u8]]) -> Self {
        let mut framed = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
        Self { used_for, hash: xxh3_128(&framed) }
    }

    /// Its hash.
    pub fn hash(&self) -> u128 {
        self.hash
    }
}

/// `serialize/` and 32 hexadecimal digits: a part of keys in any store.
impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:032x}", self.used_for.as_str(), self.hash)
    }
}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_everywhere_and_splits_differ() {
        let name = |parts: &[&[u8]]| LockKey::new(LockUse::Serialize, parts).to_string();
        // Another name for the same thing would be two holders while a fleet is upgraded.
        assert_eq!(name(&[b"orders", b"/17"]), "serialize/83c9b70772eb1860ddb3f13b3d0cfde2");
        assert_ne!(name(&[b"orders/", b"17"]), name(&[b"orders", b"/17"]));
        assert_ne!(name(&[b"orders"]), name(&[b"orders", b""]));
    }
}
