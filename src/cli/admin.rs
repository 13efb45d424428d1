//! `status`, `reload`, `approve`: talks to a running proxy by its admin address.
use super::AdminArgs;
use super::FAILED;
use super::OK;
use super::door::Door;
use super::say::complain;
use super::say::say;
use crate::admin::checks::Elected;
use crate::admin::fleet::Fleet;
use crate::admin::turns::Turns;
use crate::admin::view;
use anyhow::Context;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// Prints a proxy's upstreams and endpoints.
///
/// # Errors
/// When it cannot be asked.
pub fn status(args: &AdminArgs) -> anyhow::Result<u8> {
    let value = Door::of(&args.door, &args.admin)?.call("GET", "/api/v1/status")?;
    if args.json {
        say!("{value}");
        return Ok(OK);
    }
    let status: view::Status = serde_json::from_value(value).context("understand the proxy's answer")?;
    let ready = if status.ready { "ready" } else { "not ready" };
    say!(
        "ringway {} {ready}, up {}s, {} workers, generation {}, reloads {} taken up, {} refused",
        status.version,
        status.uptime_seconds,
        status.workers,
        status.generation,
        status.reloads.successes,
        status.reloads.failures
    );
    for held in &status.held {
        let whose = held.upstream.as_ref().map_or("configuration".into(), |upstream| format!("upstream {upstream}"));
        say!("HELD since {}  {whose}: {}", held.since, held.why);
        held.what.iter().for_each(|what| say!("  {what}"));
        say!("  `ringway approve` lets it through");
    }
    if let Some(fleet) = &status.fleet {
        print_fleet(fleet);
    }
    for listener in &status.listeners {
        let tunnels = if listener.tunnels > 0 { format!("  {} upgraded", listener.tunnels) } else { String::new() };
        say!("listener {}  {} connections{tunnels}", listener.name, listener.connections);
        for certificate in &listener.certificates {
            let end = UNIX_EPOCH + Duration::from_secs(certificate.not_after.max(0) as u64);
            say!("  certificate {}  until {}", certificate.name, httpdate::fmt_http_date(end));
        }
    }
    status.serialize.iter().for_each(print_turns);
    status.coalesce.iter().for_each(print_sharing);
    for upstream in &status.upstreams {
        let panic = if upstream.panic { "  PANIC: verdicts are ignored" } else { "" };
        say!("upstream {}  ring {}  {} points{panic}", upstream.name, upstream.fingerprint, upstream.points);
        if let Some(count) = upstream.hot_keys.filter(|count| *count > 0) {
            say!(
                "  hot keys: {count}, shared by several endpoints; /api/v1/upstreams/{}/hotkeys tells which",
                upstream.name
            );
        }
        if let Some(discovery) = &upstream.discovery {
            print_discovery(discovery, upstream.endpoints.len());
        }
        upstream.elect.iter().for_each(print_elected);
        for endpoint in &upstream.endpoints {
            say!(
                "  {:<24} {:<22} {:<8} weight {:<4} {:>6.2}% of keys  {:>4} in flight  {} ok  {} failed",
                endpoint.id,
                endpoint.address,
                endpoint.state,
                endpoint.weight,
                endpoint.key_share * 100.0,
                endpoint.in_flight,
                endpoint.ok,
                endpoint.failed
            );
            match endpoint.addresses.as_slice() {
                [] => say!("    its name was never resolved"),
                [only] if *only == endpoint.address => {}
                several => say!("    leads to {}", several.join(" ")),
            }
            if let Some(share) = endpoint.ramp {
                say!("    has {:.1}% of its keys on the move by now", share * 100.0);
            }
            if let Some(problem) = endpoint.last_check.as_ref().and_then(|check| check.problem.as_ref()) {
                say!("    last health check: {problem}");
            }
        }
    }
    Ok(OK)
}

fn print_fleet(fleet: &Fleet) {
    let state = if fleet.store.up { "" } else { "  its store is LOST" };
    let (name, count, agreeing) = (&fleet.name, fleet.peers.len(), fleet.agreeing);
    say!("fleet  {name} and {count} peers by store {}, {agreeing} of them agree{state}", fleet.store.name);
    for peer in &fleet.peers {
        let clock = match (peer.clock_ahead_ms, peer.clock_error_ms) {
            (Some(ahead), Some(error)) => format!("clock {ahead:+} ms (within {error})"),
            _ => "clock not known yet".into(),
        };
        let state = if peer.agrees { "agrees" } else { "DISAGREES" };
        let Fleet { disagreement_seconds, .. } = fleet;
        let since = if peer.agrees { String::new() } else { format!(" (somebody has for {disagreement_seconds:.0}s)") };
        say!("  {:<24} {state}{since}  version {}  generation {}  {clock}", peer.name, peer.version, peer.generation);
        peer.differs.iter().for_each(|what| say!("    {what}"));
    }
    if let Some(problem) = &fleet.problem {
        say!("    PROBLEM: {problem}");
    }
}

fn print_turns(turns: &Turns) {
    let whose = turns.store.as_ref().map_or("within this proxy".into(), |store| format!("by store {}", store.name));
    say!("route {}  takes turns {whose}  {} waiting", turns.route, turns.waiting);
    let lost = turns.degraded.as_deref().map(|mode| match mode {
        "local" => "requests take turns within this proxy, without tokens",
        "bypass" => "REQUESTS PASS WITHOUT TURNS",
        _ => "REQUESTS ARE REFUSED",
    });
    print_loss(turns.store.as_ref(), lost);
}

fn print_sharing(route: &Turns) {
    let by = route.store.as_ref().map_or("within this proxy".into(), |store| format!("by store {}", store.name));
    say!("route {}  one fetch for many {by}  {} waiting", route.route, route.waiting);
    let lost = route.degraded.as_deref().map(|mode| match mode {
        "local" => "each proxy asks for its own",
        _ => "REQUESTS ARE REFUSED",
    });
    print_loss(route.store.as_ref(), lost);
}

fn print_elected(elected: &Elected) {
    let by = elected.by.as_deref().unwrap_or("nobody so far");
    let store = elected.store.as_ref().map_or("", |store| &store.name);
    let heard = elected.heard_seconds_ago;
    match elected.role.as_str() {
        "elected" => say!("  health checks by this proxy for all, by store {store}"),
        "follows" => say!("  health checks by {by}, heard {heard}s ago, by store {store}"),
        role => {
            let then = if role == "freeze" { "THE LAST VERDICTS ARE KEPT" } else { "this proxy checks for itself" };
            let is_lost = elected.store.as_ref().is_some_and(|store| !store.up);
            let state = if is_lost { "is LOST, " } else { "" };
            say!("  health checks by {by}  store {store} {state}nobody was heard for {heard}s: {then}");
        }
    }
}

/// What happens because a store is lost.
fn print_loss(store: Option<&view::Store>, then: Option<&str>) {
    if let (Some(store), Some(then)) = (store, then) {
        let told =
            store.last_ok_seconds_ago.map_or("it never answered".into(), |ago| format!("last answer {ago}s ago"));
        // One that answers, and gives no locks, may have forgotten some.
        match store.up {
            true => say!("    store {} MAY HAVE FORGOTTEN LOCKS and gives none for a time: {then}", store.name),
            false => say!("    store {} is LOST, {told}: {then}", store.name),
        }
    }
}

fn print_discovery(discovery: &view::Discovery, members: usize) {
    let confirmed = match discovery.confirmed_seconds_ago {
        Some(seconds) => format!("confirmed {seconds}s ago"),
        None => "never confirmed".into(),
    };
    say!("  members from {}  {members} now, {confirmed}", discovery.source);
    if discovery.waiting_to_go > 0 {
        say!(
            "    {} of them are missing there and stay for a while (`ringway approve` lets them go)",
            discovery.waiting_to_go
        );
    }
    if let Some(store) = discovery.store.as_ref().filter(|store| !store.up) {
        let told =
            store.last_ok_seconds_ago.map_or("it never answered".into(), |ago| format!("last answer {ago}s ago"));
        let then = if discovery.refuses { "REQUESTS ARE REFUSED" } else { "the last members serve" };
        say!("    store {} is LOST, {told}: {then}", store.name);
    }
    if let Some(problem) = &discovery.problem {
        say!("    PROBLEM: {problem}");
    }
}

/// Whether a proxy is ready, by the exit code alone: for probes where there is no shell and no curl.
///
/// # Errors
/// When it cannot be asked.
pub fn ready(args: &AdminArgs) -> anyhow::Result<u8> {
    let status = Door::of(&args.door, &args.admin)?.call("GET", "/api/v1/status")?;
    Ok(if status["ready"] == true { OK } else { FAILED })
}

/// Has a proxy read its configuration again and prints what came of it.
///
/// # Errors
/// When it cannot be asked.
pub fn reload(args: &AdminArgs, is_forced: bool) -> anyhow::Result<u8> {
    let path = if is_forced { "/api/v1/reload?force=true" } else { "/api/v1/reload" };
    match Door::of(&args.door, &args.admin)?.call("POST", path) {
        Ok(value) if args.json => say!("{value}"),
        Ok(value) => say!("{}", value["result"].as_str().unwrap_or("done")),
        Err(error) => {
            complain!("{error}");
            return Ok(FAILED);
        }
    }
    Ok(OK)
}

/// Has a proxy let through what is held, of one upstream or all, and prints what is in force by that.
///
/// # Errors
/// When it cannot be asked.
pub fn approve(args: &AdminArgs, upstream: Option<&str>) -> anyhow::Result<u8> {
    let query = upstream
        .map_or_else(String::new, |upstream| format!("?upstream={}", utf8_percent_encode(upstream, NON_ALPHANUMERIC)));
    let value = match Door::of(&args.door, &args.admin)?.call("POST", &format!("/api/v1/approve{query}")) {
        Ok(value) => value,
        Err(error) => {
            complain!("{error}");
            return Ok(FAILED);
        }
    };
    if args.json {
        say!("{value}");
        return Ok(OK);
    }
    let approved: view::Approved = serde_json::from_value(value).context("understand the proxy's answer")?;
    if approved.approved.is_empty() {
        say!("nothing is held");
    }
    approved.approved.iter().for_each(|line| say!("{line}"));
    Ok(OK)
}
