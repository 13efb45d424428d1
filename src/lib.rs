//! Ringway: a layer-7 load-balancing reverse proxy for cache and service fleets.
pub mod admin;
pub mod base;
pub mod config;
pub mod head;
pub mod health;
pub mod http1;
pub mod key;
pub mod lifecycle;
pub mod listener;
pub mod net;
pub mod retry;
pub mod ring;
pub mod route;
pub mod snapshot;
pub mod telemetry;
