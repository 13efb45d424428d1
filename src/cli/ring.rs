//! `ring`: how each upstream's keys are shared out, in numbers and as a picture. Binds nothing.
use super::OK;
use super::RingArgs;
use super::WRONG;
use super::picture;
use super::say::complain;
use super::say::say;
use crate::analysis::ring::RingReport;
use crate::base::clock;
use crate::config;
use crate::ring::Member;
use crate::ring::Ring;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Upstream;
use anyhow::Context;

/// Prints the rings of a configuration, and draws them when asked to.
///
/// # Errors
/// When a ring cannot be built or the picture cannot be written.
pub fn run(args: &RingArgs) -> anyhow::Result<u8> {
    let mut config = match config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            complain!("{problems}");
            return Ok(WRONG);
        }
    };
    for problem in config.fill_members() {
        complain!("ringway: {problem}");
    }
    let is_wanted = |upstream: &&Upstream| args.upstream.as_ref().is_none_or(|name| upstream.name.as_str() == name);
    let wanted: Vec<&Upstream> = config.upstreams.iter().filter(is_wanted).collect();
    if let (true, Some(name)) = (wanted.is_empty(), &args.upstream) {
        complain!("ringway: there is no [upstream.{name}] in {}", args.config.display());
        return Ok(WRONG);
    }
    let rings = wanted.into_iter().map(build).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(path) = &args.svg {
        std::fs::write(path, picture::svg(&rings)).with_context(|| format!("write {}", path.display()))?;
    }
    let reports: Vec<&RingReport> = rings.iter().map(|(_, report)| report).collect();
    if args.json {
        say!("{}", serde_json::json!({ "upstreams": reports }));
    } else {
        reports.into_iter().for_each(print);
    }
    Ok(OK)
}

fn build(upstream: &Upstream) -> anyhow::Result<(Ring, RingReport)> {
    let member = |endpoint: &Endpoint| Member { id: endpoint.id.clone(), weight: endpoint.weight };
    let members: Vec<Member> = upstream.endpoints.iter().map(member).collect();
    let started = clock::now();
    let ring = Ring::build(&upstream.ring, &members);
    let ring = ring.with_context(|| format!("build the ring of upstream {}", upstream.name))?;
    let report = RingReport::of(upstream.name.as_str(), &ring, started.elapsed());
    Ok((ring, report))
}

fn print(report: &RingReport) {
    say!(
        "upstream {}  {}, {} vnodes, {} probes, ring {}",
        report.upstream,
        report.algorithm,
        report.vnodes,
        report.probes,
        report.fingerprint
    );
    say!(
        "  {} endpoints, {} points, {:.1} KiB, built in {:.2} ms, peak/mean {:.3}",
        report.endpoints.len(),
        report.points,
        report.memory_bytes as f64 / 1024.0,
        report.build_seconds * 1000.0,
        report.peak_to_mean
    );
    for endpoint in &report.endpoints {
        say!(
            "  {:<32} weight {:<4} {:>7.3}% of keys  {:.3} of its fair part",
            endpoint.id,
            endpoint.weight,
            endpoint.share * 100.0,
            endpoint.over_fair
        );
    }
}
