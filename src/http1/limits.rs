//! What a head may cost.

/// Limits of one head; what is over them is refused, never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All bytes of a head, start line included (default 32 KiB).
    pub max_head_bytes: usize,
    /// Field lines of a head (default 100).
    pub max_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head_bytes: 32 << 10, max_fields: 100 }
    }
}
