//! The integration tests: one binary, one module per story, each on real sockets against the real program.
//!
//! `RINGWAY_BIN=path` runs another program than the one just built; `NO_SKIP=1` makes a skipped test fail;
//! `RINGWAY_FAILURES=file` gets a line for each failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
mod harness;

mod doors;
mod routes;
mod walls;

mod addresses;
mod admin;
mod admin_door;
mod admin_tls;
mod checks;
mod cli;
mod coalesce;
mod coalesce_fleet;
mod dashboard;
mod differential;
mod dns;
mod drain;
mod elect;
mod explained_requests;
mod faults;
mod field_blocks;
mod fill;
mod fleet;
mod fleet_check;
mod framing;
mod framing_cases;
mod grpc;
mod guards;
mod harness_works;
mod hashing;
mod health;
mod hot_keys;
mod http2;
mod http2_attacks;
mod http2_rules;
mod ketama;
mod leaving;
mod load;
mod lock_history;
mod members;
mod overload;
mod packaging;
mod past;
mod plan;
mod reload;
mod replay;
mod retry;
mod serialize;
mod serialize_redis;
mod serialize_stores;
mod serialize_zookeeper;
mod shutdown;
mod spikes;
mod stores;
mod stores_zookeeper;
mod streaming;
mod tls;
mod transition;
mod tunnels;
mod tunnels_over_h2;
mod upgrade;
mod upstream_http2;
mod upstream_tls;
