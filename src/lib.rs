//! Ringway: a layer-7 load-balancing reverse proxy for cache and service fleets. This is the map of its house.
//!
//! Arrows point from user to used, downward only; `tests/tidy.rs` checks it.
//!
//! ```text
//!               main ──► cli                  commands
//!                         │
//!                        app                  builds and wires; the one file that sees every part
//!                         │
//!                      config                 text → checked settings; the only part that knows TOML
//!         ┌───────────────┼────────────┐
//!      listener         admin      lifecycle  edges: where the outside comes in │ signals, order of the end
//!         │               │
//!       proxy          control  analysis      engines: one request │ one owner of changing state │ pure answers
//!         │               │                   (they never call each other; they meet in `snapshot`)
//!       pool      discovery  fleet            connections to endpoints │ who belongs to an upstream │ do others agree
//!         │             probe                 asks whether endpoints are healthy
//!         └── wire ───────┤                   HTTP/1.1 heads and bodies on a stream
//!             worker ─────┤                   one thread's own world: view, buffers, deadlines
//!          snapshot ──────┤                   the immutable view both engines share
//!            lock         │                   who may act for all: one at a time, with a lease and a token
//!            store        │                   small clients of stores
//!             │           │
//!   http2  route  telemetry                   heads over HTTP/2 │ request → route │ what the outside sees
//!  ring key hotkeys health retry limit http1          PURE: no I/O, no async, no clock, no log  │  net (sockets, TLS)
//!             │
//!           head                              one message head for HTTP/1.1 and HTTP/2
//!             │
//!           base                              words: ids, hash, units, clock
//! ```
//!
//! The path of a request, front to back: `listener::accept` (socket to task), `listener::connection` (TLS, protocol),
//! `listener::http1` or `listener::h2` (bytes to head), [`proxy::Proxy::handle`] (view, route, key, then
//! `proxy::attempt` over the ring's candidates: `pool`, `proxy::forward`), `proxy::response` (back to the client),
//! `proxy::finish` (one record, however it ends).
//!
//! The other path, for change: file, signal or admin → `app` → `config::load` → `control` builds and verifies a
//! [`snapshot::Snapshot`] → `snapshot::handle` publishes it → each worker's next request sees it. Answers of `probe` and the
//! outcomes that workers count become a new mask over the rings the same way (`control::apply`), without a new generation.
pub mod admin;
pub mod analysis;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod discovery;
pub mod fleet;
pub mod head;
pub mod health;
pub mod hotkeys;
pub mod http1;
pub mod http2;
pub mod key;
pub mod lifecycle;
pub mod limit;
pub mod listener;
pub mod lock;
pub mod net;
pub mod pool;
pub mod probe;
pub mod proxy;
pub mod retry;
pub mod ring;
pub mod route;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod wire;
pub mod worker;
