//! `check`: every problem of a configuration, or what it amounts to. Binds nothing.
use super::OK;
use super::WRONG;
use super::say::complain;
use super::say::say;
use crate::config;
use crate::config::Config;
use crate::ring::Member;
use crate::ring::Ring;
use crate::ring::fingerprint;
use crate::ring::movement;
use crate::snapshot::settings::Upstream;
use std::path::Path;

/// A ring less even than this is worth a word.
const UNEVEN: f64 = 1.25;

/// Prints the problems and says 2, or the summary and says 0.
pub fn run(path: &Path) -> u8 {
    let mut config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            complain!("{problems}");
            return WRONG;
        }
    };
    let without = config.fill_members();
    print_summary(path, &config);
    for warning in without {
        say!("warning: {warning}");
    }
    OK
}

fn print_summary(path: &Path, config: &Config) {
    say!("{}: fine", path.display());
    for listener in &config.listeners {
        let mut protocols = Vec::new();
        protocols.extend(listener.protocols.http1.then_some("http1"));
        protocols.extend(listener.protocols.h2.then_some("h2"));
        let tls = if listener.tls.is_some() { " tls" } else { "" };
        say!("  listener {} {}{tls}", listener.name, protocols.join("+"));
    }
    for route in &config.routes {
        say!("  route {} -> {}", route.name, route.action);
    }
    for upstream in &config.upstreams {
        print_upstream(upstream);
        if let Some(discovery) = config.discoveries.get(&upstream.name) {
            say!("    members from {}", discovery.source);
        }
    }
    for (name, store) in &config.stores {
        let servers: Vec<String> = store.servers.iter().map(ToString::to_string).collect();
        say!("  store {name} {} at {}", store.engine.name(), servers.join(" "));
    }
    for warning in &config.warnings {
        say!("warning: {warning}");
    }
}

fn print_upstream(upstream: &Upstream) {
    let member =
        |endpoint: &crate::snapshot::settings::Endpoint| Member { id: endpoint.id.clone(), weight: endpoint.weight };
    let members: Vec<Member> = upstream.endpoints.iter().map(member).collect();
    let name = &upstream.name;
    let tls = match &upstream.tls {
        None => "",
        Some(tls) if tls.settings().verify => " tls",
        Some(_) => " tls (not verified)",
    };
    match Ring::build(&upstream.ring, &members) {
        Err(error) => say!("warning: the ring of {name} cannot be built: {error}"),
        Ok(ring) => {
            let uneven = movement::peak_to_mean(ring.members(), &movement::shares(&ring));
            say!(
                "  upstream {name}{tls}: {} endpoints, {} points, {:.1} KiB, expected peak/mean {uneven:.2}, ring {}",
                members.len(),
                ring.point_count(),
                ring.memory_bytes() as f64 / 1024.0,
                fingerprint::of(&upstream.ring, &members),
            );
            if uneven > UNEVEN {
                say!(
                    "warning: {name}: the busiest endpoint gets {uneven:.2} times its part of the keys; raise ring.vnodes or ring.probes"
                );
            }
        }
    }
}
