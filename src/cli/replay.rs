//! `replay`: a log through one or several configurations, side by side. Binds nothing.
use super::FAILED;
use super::OK;
use super::ReplayArgs;
use super::WRONG;
use super::log_file;
use super::say::complain;
use super::say::say;
use crate::analysis::reckon::Reckoner;
use crate::analysis::replay::Replay;
use crate::analysis::replay::Report;
use crate::analysis::replay::UpstreamReport;
use crate::base::clock;
use crate::config;
use crate::telemetry::log_line::LogLine;

/// Endpoints and keys that are told one by one.
const MOST_LINES: usize = 10;

/// Prints what the log comes to by each configuration.
///
/// # Errors
/// When the log cannot be read or a ring cannot be built.
pub fn run(args: &ReplayArgs) -> anyhow::Result<u8> {
    let mut replays = Vec::new();
    for path in &args.configs {
        let config = match config::load(path) {
            Ok(config) => config,
            Err(problems) => {
                complain!("{problems}");
                return Ok(WRONG);
            }
        };
        let reckoner = Reckoner::new(&config.routes, &config.upstreams)?;
        replays.push(Replay::new(reckoner, &config.upstreams, args.cache_size.map(|size| size.0)));
    }
    let started = clock::now();
    let mut counted = Counted::default();
    let mut scratch = Vec::new();
    counted.bytes = log_file::each_line(&args.log, |line| {
        counted.lines += 1;
        match LogLine::parse(line, &mut scratch) {
            Some(line) => replays.iter_mut().for_each(|replay| replay.add(&line)),
            None => counted.unreadable += 1,
        }
    })?;
    counted.seconds = started.elapsed().as_secs_f64();
    let names = args.configs.iter().map(|path| path.display().to_string());
    let reports: Vec<(String, Report)> = names.zip(replays.into_iter().map(Replay::finish)).collect();
    if args.json {
        say!("{}", serde_json::to_string_pretty(&json(&counted, &reports))?);
    } else {
        print(&counted, &reports);
    }
    let has_nothing = reports.iter().all(|(_, report)| report.requests == 0);
    if has_nothing {
        complain!("ringway: the log tells of no request");
    }
    Ok(if has_nothing { FAILED } else { OK })
}

/// What was read.
#[derive(Default)]
struct Counted {
    lines: u64,
    unreadable: u64,
    bytes: u64,
    seconds: f64,
}

fn json(counted: &Counted, reports: &[(String, Report)]) -> serde_json::Value {
    let named = |(name, report): &(String, Report)| serde_json::json!({ "configuration": name, "report": report });
    serde_json::json!({
        "lines": counted.lines,
        "unreadable": counted.unreadable,
        "bytes": counted.bytes,
        "seconds": counted.seconds,
        "configurations": reports.iter().map(named).collect::<Vec<_>>(),
    })
}

fn print(counted: &Counted, reports: &[(String, Report)]) {
    let rate = counted.lines as f64 / counted.seconds.max(1e-9) / 1e6;
    say!("{} lines in {:.2} s, {rate:.2} million a second", counted.lines, counted.seconds);
    if counted.unreadable > 0 {
        say!("warning: {} lines are of no known format: JSON of Ringway, common, combined", counted.unreadable);
    }
    row("", reports, |(name, _)| name.clone());
    row("requests", reports, |(_, report)| report.requests.to_string());
    row("no endpoint asked", reports, |(_, report)| report.elsewhere.to_string());
    row("owner unknown", reports, |(_, report)| report.unknown.to_string());
    let mut upstreams: Vec<&str> = Vec::new();
    for upstream in reports.iter().flat_map(|(_, report)| &report.upstreams) {
        if !upstreams.contains(&upstream.upstream.as_str()) {
            upstreams.push(&upstream.upstream);
        }
    }
    upstreams.into_iter().for_each(|name| print_upstream(name, reports));
    for (name, report) in reports {
        report.why.iter().for_each(|why| say!("warning: {name}: {why}"));
    }
}

fn print_upstream(name: &str, reports: &[(String, Report)]) {
    say!("upstream {name}");
    let of = |report: &(String, Report), told: &dyn Fn(&UpstreamReport) -> String| {
        let found = report.1.upstreams.iter().find(|upstream| upstream.upstream == name);
        found.map_or_else(|| "-".to_string(), told)
    };
    let tell = |label: &str, told: &dyn Fn(&UpstreamReport) -> String| row(label, reports, |report| of(report, told));
    tell("  requests", &|it| it.requests.to_string());
    tell("  without a key", &|it| it.keyless.to_string());
    tell("  peak/mean", &|it| optional(it.peak_to_mean, |peak| format!("{peak:.3}")));
    tell("  busiest", &|it| it.busiest.clone().unwrap_or_else(|| "-".into()));
    tell("  hit ratio", &|it| optional(it.hit_ratio, percent));
    tell("  of bytes", &|it| optional(it.byte_hit_ratio, percent));
    tell("  to the origin", &|it| optional(it.origin_requests, |requests| requests.to_string()));
    tell("  hot, elsewhere", &|it| optional(it.hot_replica, percent));
    tell("  overflow", &|it| optional(it.overflow, percent));
    for (name_of, report) in reports {
        let Some(upstream) = report.upstreams.iter().find(|upstream| upstream.upstream == name) else { continue };
        print_details(name_of, upstream);
    }
}

fn print_details(file: &str, upstream: &UpstreamReport) {
    say!("  endpoints by {file}");
    let mut endpoints: Vec<_> = upstream.endpoints.iter().collect();
    endpoints.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.id.cmp(&b.id)));
    for endpoint in endpoints.iter().take(MOST_LINES) {
        let hits = endpoint.hit_ratio.map(|ratio| format!("  hits {}", percent(ratio))).unwrap_or_default();
        let (share, fair) = (percent(endpoint.share), endpoint.over_fair);
        say!("    {:<32} {:>12} {share:>8}  {fair:.3} of its fair part{hits}", endpoint.id, endpoint.requests);
    }
    if endpoints.len() > MOST_LINES {
        say!("    and {} others", endpoints.len() - MOST_LINES);
    }
    say!("  hottest keys by {file}");
    for key in upstream.hot_keys.iter().take(MOST_LINES) {
        say!("    {:>8}  {}  {}  {}", percent(key.share), key.hash, key.owner, key.example);
    }
}

fn row(label: &str, reports: &[(String, Report)], told: impl Fn(&(String, Report)) -> String) {
    let cells: Vec<String> = reports.iter().map(|report| format!("{:>24}", told(report))).collect();
    say!("{label:<20}{}", cells.concat());
}

fn optional<T>(value: Option<T>, told: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".into(), told)
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}
