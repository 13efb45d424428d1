//! What a configuration that somebody sent would do in place of the one that runs.
use crate::analysis::plan::LiveTraffic;
use crate::analysis::plan::Plan;
use crate::analysis::plan::Seen;
use crate::analysis::plan::World;
use crate::base::hash::PlacementHash;
use crate::config;
use crate::config::Config;
use crate::config::upstream::UNKNOWN_SECRET;
use crate::snapshot::Snapshot;
use crate::snapshot::sample;
use crate::snapshot::upstream::Upstream;

/// Compares it with what is published. Secrets of rings are not in what is sent: they are taken to be the ones in use.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn of_sent(text: &str, snapshot: &Snapshot) -> Result<Plan, String> {
    let mut config = config::parse_sent(text).map_err(|problems| problems.to_string())?;
    for upstream in &mut config.upstreams {
        let Some(running) = snapshot.upstream_named(&upstream.name) else { continue };
        if let (PlacementHash::Keyed(UNKNOWN_SECRET), hash @ PlacementHash::Keyed(_)) =
            (upstream.ring.hash, running.ring.settings().hash)
        {
            upstream.ring.hash = hash;
        }
        if config.discoveries.contains_key(&upstream.name) {
            upstream.endpoints.clone_from(&running.settings.endpoints);
        }
    }
    let after = World::of_settings(&config.routes, &config.upstreams).map_err(|error| error.to_string())?;
    let before = World::of_snapshot(snapshot);
    let seen = snapshot.upstreams.iter().map(|upstream| seen(upstream, &config));
    let live = seen.map(|seen| LiveTraffic::of(&seen, &before, &after)).collect();
    Ok(Plan { live, ..Plan::of(&before, &after) })
}

/// What all workers have seen of an upstream lately.
fn seen(upstream: &Upstream, config: &Config) -> Seen {
    let after = config.upstreams.iter().find(|after| after.name == upstream.name);
    let kind = after.map(|after| sample::kind(&after.name, &after.ring, &config.routes));
    Seen {
        upstream: upstream.name.to_string(),
        keys: upstream.stats.iter().flat_map(|cell| cell.sample.keys(upstream.key_kind)).collect(),
        stays_comparable: kind == Some(upstream.key_kind),
    }
}
