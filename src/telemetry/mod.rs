//! What the outside sees of us: metrics, access log, log. Knows no snapshot, no proxy, no control.
pub mod settings;
