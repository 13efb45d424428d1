//! What stores are used for: the fleet, their own health, locks.
use crate::base::clock;
use crate::fleet::peers::Peers;
use crate::health::check;
use crate::health::check::Elect;
use crate::lock::election::Role;
use crate::lock::election::Seat;
use crate::lock::standing::Standing;
use crate::route::Route;
use crate::route::coalesce;
use crate::route::serialize;
use crate::snapshot::Serial;
use crate::snapshot::Snapshot;
use crate::snapshot::membership::Seen;
use crate::store::health::StoreHealth;
use crate::telemetry::cells::HistogramSums;
use crate::telemetry::cells::LockCell;
use crate::telemetry::labels::LockLoss;
use crate::telemetry::labels::LockResult;
use crate::telemetry::labels::LockUse;
use crate::telemetry::labels::StoreOp;
use crate::telemetry::labels::StoreState;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Exposition;
use crate::telemetry::metrics::Series;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the other proxies.
pub(super) fn fleet(exposition: &mut Exposition, fleet: Option<&Peers>) {
    let Some(report) = fleet.map(|peers| peers.report(clock::now())) else { return };
    exposition.family(&metrics::FLEET_PEERS, |series| series.value(&[], report.peers.len() as f64));
    exposition.family(&metrics::FLEET_AGREEING, |series| series.value(&[], report.agreeing() as f64));
    exposition.family(&metrics::FLEET_DISAGREEMENT, |series| {
        series.value(&[], report.disagreement.map_or(0.0, |since| since.as_secs_f64()));
    });
    exposition.family(&metrics::FLEET_SKEW, |series| {
        report.largest_skew_ms().into_iter().for_each(|ahead| series.value(&[], ahead as f64 / 1000.0));
    });
}

/// How stores answer, whatever they are used for.
pub(super) fn stores(exposition: &mut Exposition, snapshot: &Snapshot, fleet: Option<&Peers>) {
    let seen = snapshot.upstreams.iter().filter_map(|upstream| Some(upstream.membership.as_ref()?.seen()));
    let seen: Vec<Seen> = seen.filter(|seen| seen.store.is_some()).collect();
    let standings = standings(snapshot);
    let mut stores: BTreeMap<&str, Vec<&StoreHealth>> = BTreeMap::new();
    for health in seen.iter().filter_map(|seen| seen.store.as_deref()).chain(fleet.map(|peers| &peers.health)) {
        stores.entry(&health.name).or_default().push(health);
    }
    for standing in &standings {
        stores.entry(&standing.health.name).or_default().push(&standing.health);
    }
    exposition.family(&metrics::STORE_UP, |series| {
        for (name, all) in &stores {
            series.value(&[name], f64::from(u8::from(all.iter().all(|health| health.seen().1))));
        }
    });
    exposition.family(&metrics::STORE_LAST_OK, |series| {
        for (name, all) in &stores {
            if let Some(oldest) = all.iter().filter_map(|health| health.seen().0).min() {
                series.value(&[name], oldest.elapsed().as_secs_f64());
            }
        }
    });
    exposition.family(&metrics::STORE_RECONNECTS, |series| {
        for (name, all) in &stores {
            series.value(&[name], all.iter().map(|health| health.losses.get()).sum::<u64>() as f64);
        }
    });
    exposition.family(&metrics::STORE_STATE, |series| {
        let found = seen.iter().filter_map(|seen| Some((&*seen.store.as_ref()?.name, state_of_members(seen))));
        let found = found.chain(fleet.map(|peers| (&*peers.health.name, up_or_lost(&peers.health))));
        let found = found.chain(standings.iter().map(|standing| (&*standing.health.name, standing.state())));
        let mut worst: BTreeMap<&str, StoreState> = BTreeMap::new();
        for (name, state) in found {
            let known = worst.entry(name).or_insert(state);
            if state as usize > *known as usize {
                *known = state;
            }
        }
        for (name, worst) in worst {
            for state in StoreState::ALL {
                series.value(&[name, state.as_str()], f64::from(u8::from(*state == worst)));
            }
        }
    });
    exposition.family(&metrics::STORE_INCARNATIONS, |series| {
        for (name, all) in &stores {
            // Each who asks finds the same ones.
            let most = all.iter().map(|health| health.incarnations.get()).max();
            series.value(&[name], most.unwrap_or_default() as f64);
        }
    });
    exposition.family(&metrics::STORE_RTT, |series| {
        for (name, all) in &stores {
            for op in StoreOp::ALL {
                let mut sums = HistogramSums::default();
                all.iter().for_each(|health| health.rtt[*op as usize].add_to(&mut sums));
                if sums != HistogramSums::default() {
                    series.histogram(&[name, op.as_str()], &sums);
                }
            }
        }
    });
    exposition.family(&metrics::CAP_DEGRADED, |series| {
        let is_lost = |seen: &&Seen| seen.store.as_ref().is_some_and(|health| !health.seen().1);
        for (mode, refuses) in [("serve-last", false), ("refuse", true)].into_iter().filter(|_| !seen.is_empty()) {
            let count = seen.iter().filter(is_lost).filter(|seen| seen.refuses == refuses).count();
            series.value(&["discovery", mode], count as f64);
        }
        let turns = routes(snapshot, &snapshot.serials)
            .filter_map(|(route, serial)| Some((route.action.forward()?.serialize.as_ref()?.stored.as_ref()?, serial)));
        let turns: Vec<_> = turns.map(|(stored, serial)| (stored.on_loss.as_str(), serial)).collect();
        degraded(series, LockUse::Serialize, serialize::OnLoss::ALL.map(serialize::OnLoss::as_str), &turns);
        let shared = routes(snapshot, &snapshot.shared)
            .filter_map(|(route, serial)| Some((route.action.forward()?.coalesce.as_ref()?.stored.as_ref()?, serial)));
        let shared: Vec<_> = shared.map(|(stored, serial)| (stored.on_loss.as_str(), serial)).collect();
        degraded(series, LockUse::Coalesce, coalesce::OnLoss::ALL.map(coalesce::OnLoss::as_str), &shared);
        let now = clock::now();
        for mode in check::OnLoss::ALL.into_iter().filter(|_| seats(snapshot).next().is_some()) {
            let is_alone = |(elect, seat): &(&Elect, &Seat)| elect.on_loss == mode && seat.role(now) == Role::Alone;
            series.value(&[LockUse::Elect.as_str(), mode.as_str()], seats(snapshot).filter(is_alone).count() as f64);
        }
    });
}

fn up_or_lost(health: &StoreHealth) -> StoreState {
    if health.seen().1 { StoreState::Up } else { StoreState::Lost }
}

/// How it stands with a store that members come from.
fn state_of_members(seen: &Seen) -> StoreState {
    match seen.store.as_deref().map(up_or_lost) {
        Some(StoreState::Up) if seen.waiting > 0 => StoreState::Settling,
        found => found.unwrap_or(StoreState::Lost),
    }
}

/// Each store of locks once, however many routes use it.
fn standings(snapshot: &Snapshot) -> Vec<Arc<Standing>> {
    let mut standings: Vec<Arc<Standing>> = Vec::new();
    let serials = snapshot.serials.iter().chain(&snapshot.shared).flatten();
    let seats = seats(snapshot).filter_map(|(_, seat)| seat.service().standing());
    for standing in serials.filter_map(|serial| serial.service.standing()).chain(seats) {
        if !standings.iter().any(|known| Arc::ptr_eq(known, standing)) {
            standings.push(standing.clone());
        }
    }
    standings
}

/// Routes with what their locks go through.
fn routes<'a>(
    snapshot: &'a Snapshot,
    serials: &'a [Option<Serial>],
) -> impl Iterator<Item = (&'a Route, &'a Serial)> + Clone {
    let routes = snapshot.routes.routes().iter().zip(serials);
    routes.filter_map(|(route, serial)| Some((route, serial.as_ref()?)))
}

/// Places in elections.
fn seats(snapshot: &Snapshot) -> impl Iterator<Item = (&Elect, &Seat)> {
    snapshot.upstreams.iter().filter_map(|upstream| {
        let elect = upstream.settings.health_check.as_ref()?.elect.as_ref()?;
        Some((elect, &**upstream.election.as_ref()?))
    })
}

/// Who does what for all.
pub(super) fn elections(exposition: &mut Exposition, snapshot: &Snapshot) {
    let now = clock::now();
    let each = || seats(snapshot).map(|(_, seat)| (seat.job.as_str(), seat));
    exposition.family(&metrics::LEADER, |series| {
        each().for_each(|(job, seat)| series.value(&[job], f64::from(u8::from(seat.role(now) == Role::Elected))));
    });
    exposition.family(&metrics::LEADER_TERMS, |series| {
        each().for_each(|(job, seat)| series.value(&[job], seat.terms.get() as f64));
    });
    exposition.family(&metrics::LEADER_SILENCE, |series| {
        each().for_each(|(job, seat)| series.value(&[job], seat.silence(now).as_secs_f64()));
    });
}

/// How many routes do without their store what their mode says, for each mode.
fn degraded<const N: usize>(series: &mut Series<'_>, used_for: LockUse, modes: [&str; N], all: &[(&str, &Serial)]) {
    for mode in modes.into_iter().filter(|_| !all.is_empty()) {
        let count = all.iter().filter(|(of, serial)| *of == mode && serial.service.is_lost()).count();
        series.value(&[used_for.as_str(), mode], count as f64);
    }
}

/// Turns and leases.
pub(super) fn locks<'a>(exposition: &mut Exposition, snapshot: &'a Snapshot) {
    let turns = || routes(snapshot, &snapshot.serials).map(|(route, serial)| (route.name.as_str(), serial));
    exposition.family(&metrics::SERIALIZE_QUEUE, |series| {
        turns().for_each(|(name, serial)| series.value(&[name], serial.stats.sum(|cell| cell.waiting.get()) as f64));
    });
    let cells =
        |serials: &'a [Option<Serial>]| serials.iter().flatten().flat_map(|serial| serial.stats.iter()).collect();
    let uses: [(LockUse, Vec<&LockCell>); 3] = [
        (LockUse::Serialize, cells(&snapshot.serials)),
        (LockUse::Coalesce, cells(&snapshot.shared)),
        (LockUse::Elect, seats(snapshot).map(|(_, seat)| &seat.locks).collect()),
    ];
    let uses = uses.iter().filter(|(_, cells)| !cells.is_empty()).map(|(used_for, cells)| (used_for.as_str(), cells));
    exposition.family(&metrics::LOCK_ACQUIRE, |series| {
        for (name, cells) in uses.clone() {
            for result in LockResult::ALL {
                let mut sums = HistogramSums::default();
                cells.iter().for_each(|cell| cell.acquire[*result as usize].add_to(&mut sums));
                series.histogram(&[name, result.as_str()], &sums);
            }
        }
    });
    exposition.family(&metrics::LOCK_HELD, |series| {
        for (name, cells) in uses.clone() {
            let mut sums = HistogramSums::default();
            cells.iter().for_each(|cell| cell.held.add_to(&mut sums));
            series.histogram(&[name], &sums);
        }
    });
    exposition.family(&metrics::LOCK_LOST, |series| {
        for (name, cells) in uses.clone() {
            for loss in LockLoss::ALL {
                let count: u64 = cells.iter().map(|cell| cell.lost[*loss as usize].get()).sum();
                series.value(&[name, loss.as_str()], count as f64);
            }
        }
    });
    exposition.family(&metrics::LOCK_GHOSTS, |series| {
        let standings = standings(snapshot);
        let mut ghosts: BTreeMap<&str, u64> = BTreeMap::new();
        for standing in &standings {
            *ghosts.entry(&standing.health.name).or_default() += standing.ghosts.get();
        }
        ghosts.into_iter().for_each(|(store, count)| series.value(&[store], count as f64));
    });
    exposition.family(&metrics::LOCK_QUARANTINE, |series| {
        let standings = standings(snapshot);
        let mut longest: BTreeMap<&str, f64> = BTreeMap::new();
        for standing in &standings {
            let seconds = standing.quarantine().as_secs_f64();
            let known = longest.entry(&standing.health.name).or_default();
            *known = known.max(seconds);
        }
        longest.into_iter().for_each(|(store, seconds)| series.value(&[store], seconds));
    });
    exposition.family(&metrics::FENCE_REJECTED, |series| {
        turns().for_each(|(name, serial)| series.value(&[name], serial.stats.sum(|cell| cell.fenced.get()) as f64));
    });
    exposition.family(&metrics::LOCK_WAITERS, |series| {
        for (name, cells) in uses {
            let count: u64 = cells.iter().map(|cell| cell.waiting.get()).sum();
            series.value(&[name], count as f64);
        }
    });
}
