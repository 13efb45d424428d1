//! `plan`: what moves when one configuration follows another. Binds nothing, changes nothing.
use super::FAILED;
use super::OK;
use super::PlanArgs;
use super::WRONG;
use super::door::Door;
use super::door::Refused;
use super::log_file;
use super::say::complain;
use super::say::say;
use crate::analysis::plan::EndpointPlan;
use crate::analysis::plan::Fate;
use crate::analysis::plan::LiveTraffic;
use crate::analysis::plan::Pair;
use crate::analysis::plan::Plan;
use crate::analysis::plan::UpstreamPlan;
use crate::analysis::plan::World;
use crate::analysis::reckon::Reckoner;
use crate::analysis::traffic::EndpointTraffic;
use crate::analysis::traffic::Meter;
use crate::analysis::traffic::Traffic;
use crate::config;
use crate::config::Config;
use crate::config::diagnostic::Diagnostics;
use crate::config::sending;
use anyhow::Context;
use std::path::Path;

/// Something moves.
const MOVES: u8 = 3;
/// More moves than may.
const TOO_MUCH: u8 = 4;
/// Endpoints that change, and that stay, told one by one; the rest is summed up.
const MOST_CHANGED: usize = 40;
const MOST_SAME: usize = 12;

/// A plan, or what is wrong with what it would be made from.
type Planned = anyhow::Result<Result<Plan, String>>;

/// Prints what moves, and says by the exit code whether anything does and whether that is too much.
///
/// # Errors
/// When a ring cannot be built, or the running proxy cannot be asked.
pub fn run(args: &PlanArgs) -> anyhow::Result<u8> {
    let plan = match (&args.admin, args.files.as_slice()) {
        (Some(url), [new]) => of_running(url, args, new)?,
        (None, [old, new]) if !args.door.is_given() => of_files(old, new, args.log.as_deref())?,
        (Some(_), _) => {
            Err("ringway: with --admin the old configuration is the one that runs: give the new one alone".into())
        }
        (None, [_, _]) => Err("ringway: what opens an admin interface goes with --admin".into()),
        (None, _) => {
            Err("ringway: give the configuration that is and the one that will be, or --admin and the new one".into())
        }
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(problems) => {
            complain!("{problems}");
            return Ok(WRONG);
        }
    };
    let limit = args.max_moved.map(|limit| limit.0);
    if args.json {
        say!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print(&plan, limit);
    }
    let verdict = verdict(most(&plan), limit);
    if verdict != TOO_MUCH && plan.traffic.as_ref().is_some_and(tells_nothing) {
        complain!("ringway: the log tells of no request: nothing is known of its traffic");
        return Ok(FAILED);
    }
    Ok(verdict)
}

/// Whether a log has not one line from which anything could be told: most likely it is another file than was meant.
fn tells_nothing(traffic: &Traffic) -> bool {
    traffic.requests + traffic.keyless + traffic.elsewhere == 0
}

/// What a file does in place of what a proxy has, or what is wrong with it, as that proxy says.
fn of_running(url: &str, args: &PlanArgs, new: &Path) -> Planned {
    let text = match sending::one_text(new, &|name| std::env::var(name).ok()) {
        Ok(text) => text,
        Err(problems) => return Ok(Err(problems.to_string())),
    };
    match Door::of(&args.door, url)?.send("POST", "/api/v1/plan", text) {
        Ok(plan) => Ok(Ok(serde_json::from_value(plan).context("understand the proxy's answer")?)),
        Err(error) => {
            let Refused(problems) = error.downcast::<Refused>()?;
            // Its places are lines of what was sent.
            let of_file = |line: &str| match line.strip_prefix("body:") {
                Some(rest) => format!("{}:{rest}", new.display()),
                None => line.to_string(),
            };
            Ok(Err(problems.lines().map(of_file).collect::<Vec<_>>().join("\n")))
        }
    }
}

/// What one file does in place of another, or everything that is wrong with them.
fn of_files(old_path: &Path, new_path: &Path, log: Option<&Path>) -> Planned {
    let (mut old, mut new) = match both(old_path, new_path) {
        Ok(both) => both,
        Err(problems) => return Ok(Err(problems.to_string())),
    };
    for (config, path) in [(&mut old, old_path), (&mut new, new_path)] {
        for problem in config.fill_members() {
            complain!("ringway: {}: {problem}", path.display());
        }
    }
    let before = World::of_settings(&old.routes, &old.upstreams)?;
    let after = World::of_settings(&new.routes, &new.upstreams)?;
    let mut plan = Plan::of(&before, &after);
    if let Some(log) = log {
        plan.traffic = Some(traffic(&old, &new, log)?);
    }
    Ok(Ok(plan))
}

/// What moves of a log's requests.
fn traffic(old: &Config, new: &Config, log: &Path) -> anyhow::Result<Traffic> {
    let reckoner = |config: &Config| Reckoner::new(&config.routes, &config.upstreams);
    let mut meter = Meter::new(reckoner(old)?, reckoner(new)?);
    let mut scratch = Vec::new();
    log_file::each_line(log, |line| meter.add(line, &mut scratch))?;
    Ok(meter.finish())
}

/// The largest share that moves: of keys, or of requests.
fn most(plan: &Plan) -> f64 {
    let requests = plan.traffic.iter().map(|traffic| traffic.moved).chain(plan.live.iter().map(|live| live.moved));
    requests.fold(plan.moved, f64::max)
}

/// Both configurations, or everything that is wrong with either.
fn both(old: &Path, new: &Path) -> Result<(Config, Config), Diagnostics> {
    match (config::load(old), config::load(new)) {
        (Ok(old), Ok(new)) => Ok((old, new)),
        (Err(Diagnostics(mut problems)), Err(Diagnostics(more))) => {
            problems.extend(more);
            Err(Diagnostics(problems))
        }
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => Err(problems),
    }
}

fn verdict(moved: f64, limit: Option<f64>) -> u8 {
    match limit {
        Some(limit) if moved > limit => TOO_MUCH,
        _ if moved > 0.0 => MOVES,
        _ => OK,
    }
}

fn print(plan: &Plan, limit: Option<f64>) {
    plan.upstreams.iter().for_each(print_upstream);
    for route in &plan.routes {
        say!("route {}  {}", route.route, route.what);
        say!("  about {} of its requests go to another endpoint", percent(route.moved));
    }
    if let Some(traffic) = &plan.traffic {
        print_traffic(traffic);
    }
    plan.live.iter().for_each(print_live);
    let moved = most(plan);
    match limit {
        _ if moved == 0.0 => say!("nothing moves"),
        Some(limit) if moved > limit => say!("{} moves: more than --max-moved {}", percent(moved), percent(limit)),
        Some(limit) => say!("{} moves: within --max-moved {}", percent(moved), percent(limit)),
        None => say!("{} moves", percent(moved)),
    }
}

fn print_live(live: &LiveTraffic) {
    let LiveTraffic { upstream, requests, moved, error, .. } = live;
    if let Some(why) = &live.why {
        return say!("traffic of now, upstream {upstream}  {why}: nothing can be told");
    }
    let (moved, error) = (percent(*moved), percent(*error));
    say!(
        "traffic of now, upstream {upstream}  {moved} of its requests move, by {requests} of the last minute (error {error})"
    );
    print_endpoints(&live.endpoints, *requests);
}

fn print_endpoints(endpoints: &[EndpointTraffic], requests: u64) {
    for endpoint in endpoints.iter().filter(|it| it.before + it.after > 0).take(MOST_SAME) {
        let share = |count: u64| percent(count as f64 / requests.max(1) as f64);
        let name = format!("{}/{}", endpoint.upstream, endpoint.id);
        say!("    {name:<32} {:>8} -> {:>8} of requests", share(endpoint.before), share(endpoint.after));
    }
}

fn print_traffic(traffic: &Traffic) {
    let Traffic { requests, moved, moved_bytes, .. } = traffic;
    say!("traffic  {} of {requests} requests in the log move, {} of bytes", percent(*moved), percent(*moved_bytes));
    print_endpoints(&traffic.endpoints, *requests);
    let others = [
        (traffic.keyless, "have no key: anybody's, before and after"),
        (traffic.elsewhere, "are answered without an endpoint"),
        (traffic.unknown, "have an owner that this log does not tell"),
        (traffic.unreadable, "are lines of no known format"),
    ];
    for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
        say!("    {count} {what}");
    }
    traffic.why.iter().for_each(|why| say!("  warning: {why}"));
}

fn print_upstream(upstream: &UpstreamPlan) {
    let name = &upstream.upstream;
    match upstream.change {
        Fate::Same => return say!("upstream {name}  nothing moves: ring {}", shown(&upstream.fingerprint.before)),
        Fate::Removed => return say!("upstream {name}  goes, with all its keys"),
        Fate::Added => {
            let endpoints = upstream.endpoints.len();
            return say!("upstream {name}  is new: {endpoints} endpoints, no key moves");
        }
        Fate::Changed => {}
    }
    let about = if upstream.exact { "" } else { "about " };
    say!(
        "upstream {name}  {about}{} of keys move; {} is the least that these shares need, {} more than that",
        percent(upstream.moved),
        percent(upstream.least),
        percent(upstream.excess)
    );
    for setting in &upstream.settings {
        say!("  {setting}");
    }
    let (stay, change): (Vec<_>, Vec<_>) = upstream.endpoints.iter().partition(|it| it.change == Fate::Same);
    print_most(change, MOST_CHANGED);
    print_most(stay, MOST_SAME);
    say!(
        "  ring {}  points {}  memory {} KiB  build {} ms  peak/mean {}",
        told(&upstream.fingerprint, shown),
        told(&upstream.points, shown),
        told(&upstream.memory_bytes, |bytes| bytes.map_or_else(String::new, |it| format!("{:.1}", it as f64 / 1024.0))),
        told(&upstream.build_seconds, |time| time.map_or_else(String::new, |it| format!("{:.2}", it * 1000.0))),
        told(&upstream.peak_to_mean, |peak| peak.map_or_else(String::new, |it| format!("{it:.3}"))),
    );
}

/// The ones with most to lose or gain, and what the others amount to.
fn print_most(mut endpoints: Vec<&EndpointPlan>, most: usize) {
    let moves = |endpoint: &EndpointPlan| endpoint.gains + endpoint.loses;
    endpoints.sort_by(|a, b| moves(b).total_cmp(&moves(a)).then_with(|| a.id.cmp(&b.id)));
    let lines = if endpoints.len() > most + 1 { most } else { endpoints.len() };
    let (told, rest) = endpoints.split_at(lines);
    told.iter().for_each(|endpoint| print_endpoint(endpoint));
    if let Some(most) = rest.first() {
        let sum = |of: fn(&EndpointPlan) -> f64| percent(rest.iter().map(|it| of(it)).sum());
        let (gain, lose) = (sum(|it| it.gains), sum(|it| it.loses));
        let count = rest.len();
        say!("    and {count} others, none with more than {}: gain {gain}, lose {lose}", percent(moves(most)));
    }
}

fn print_endpoint(endpoint: &EndpointPlan) {
    let sign = match endpoint.change {
        Fate::Added => '+',
        Fate::Removed => '-',
        Fate::Changed => '~',
        Fate::Same => ' ',
    };
    let mut what = String::new();
    if let (Fate::Changed, Some(before), Some(after)) = (endpoint.change, endpoint.weight.before, endpoint.weight.after)
    {
        what.push_str(&format!("  weight {before} -> {after}"));
    }
    for (verb, share) in [("gains", endpoint.gains), ("loses", endpoint.loses)] {
        if share > 0.0 {
            what.push_str(&format!("  {verb} {}", percent(share)));
        }
    }
    let share = |share: Option<f64>| percent(share.unwrap_or(0.0));
    say!(
        "  {sign} {:<32} {:>8} -> {:>8}{what}",
        endpoint.id,
        share(endpoint.share.before),
        share(endpoint.share.after)
    );
}

fn told<T>(pair: &Pair<T>, text: impl Fn(&Option<T>) -> String) -> String {
    let (before, after) = (text(&pair.before), text(&pair.after));
    if before == after { after } else { format!("{before} -> {after}") }
}

fn shown<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "-".into(), ToString::to_string)
}

/// A share as people read it; one that is there is never shown as nothing.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 0.0 && percent < 0.01 => "<0.01%".into(),
        percent => format!("{percent:.2}%"),
    }
}
