//! `drain`, `undrain`: sends an endpoint of a running proxy away and takes it back.
use super::EndpointArgs;
use super::FAILED;
use super::OK;
use super::WRONG;
use super::door::Door;
use super::say::complain;
use super::say::say;
use crate::admin::view;
use crate::base::clock;
use anyhow::Context;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use std::time::Duration;

/// Time between two looks at what is still on its way.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks in a row that must find nothing on its way: a request may be between choosing its endpoint and being counted.
const QUIET_LOOKS: u32 = 2;

/// Sends an endpoint away; with `wait` stays until nothing is on its way there, that long at most.
///
/// # Errors
/// When the proxy cannot be asked.
pub fn drain(args: &EndpointArgs, wait: Option<Duration>) -> anyhow::Result<u8> {
    let Some(found) = find(args)? else { return Ok(WRONG) };
    let drained = found.order(args, "drain")?;
    if drained.available == 0 {
        complain!("warning: upstream {} has no available endpoint now", drained.upstream);
    }
    match wait {
        None => print(args, &drained),
        Some(wait) => wait_until_idle(args, &found, wait),
    }
}

/// Takes an endpoint back.
///
/// # Errors
/// When the proxy cannot be asked.
pub fn undrain(args: &EndpointArgs) -> anyhow::Result<u8> {
    let Some(found) = find(args)? else { return Ok(WRONG) };
    print(args, &found.order(args, "undrain")?)
}

/// One endpoint of one upstream.
struct Found {
    upstream: String,
    id: String,
}

impl Found {
    fn order(&self, args: &EndpointArgs, order: &str) -> anyhow::Result<view::Drained> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = format!("/api/v1/upstreams/{}/endpoints/{}/{order}", encode(&self.upstream), encode(&self.id));
        let value = Door::of(&args.proxy.door, &args.proxy.admin)?.call("POST", &path)?;
        serde_json::from_value(value).context("understand the proxy's answer")
    }
}

fn status(args: &EndpointArgs) -> anyhow::Result<view::Status> {
    let value = Door::of(&args.proxy.door, &args.proxy.admin)?.call("GET", "/api/v1/status")?;
    serde_json::from_value(value).context("understand the proxy's answer")
}

/// The one endpoint that is meant; says what is wrong when there is none, or more than one.
fn find(args: &EndpointArgs) -> anyhow::Result<Option<Found>> {
    let wanted = &args.endpoint;
    let mut found = Vec::new();
    for upstream in status(args)?.upstreams {
        for endpoint in upstream.endpoints {
            // An id may hold a slash itself.
            if endpoint.id == *wanted || format!("{}/{}", upstream.name, endpoint.id) == *wanted {
                found.push(Found { upstream: upstream.name.clone(), id: endpoint.id });
            }
        }
    }
    if found.len() > 1 {
        let all: Vec<String> = found.iter().map(|found| format!("{}/{}", found.upstream, found.id)).collect();
        complain!("ringway: several upstreams have an endpoint {wanted}; write one of {}", all.join(", "));
        return Ok(None);
    }
    if found.is_empty() {
        complain!("ringway: there is no endpoint {wanted}; `ringway status` shows them all");
    }
    Ok(found.pop())
}

fn print(args: &EndpointArgs, drained: &view::Drained) -> anyhow::Result<u8> {
    if args.proxy.json {
        say!("{}", serde_json::to_value(drained)?);
        return Ok(OK);
    }
    let already = if drained.changed { "" } else { " already" };
    let (upstream, endpoint, state) = (&drained.upstream, &drained.endpoint, &drained.state);
    say!("{upstream}/{endpoint} is {state}{already}, {} in flight", drained.in_flight);
    Ok(OK)
}

fn wait_until_idle(args: &EndpointArgs, found: &Found, wait: Duration) -> anyhow::Result<u8> {
    let started = clock::now();
    let (mut shown, mut quiet_looks) = (None, 0);
    loop {
        let status = status(args)?;
        let upstream = status.upstreams.iter().find(|upstream| upstream.name == found.upstream);
        let endpoint = upstream.and_then(|upstream| upstream.endpoints.iter().find(|other| other.id == found.id));
        let name = format!("{}/{}", found.upstream, found.id);
        let Some(endpoint) = endpoint else {
            complain!(
                "ringway: {name} was taken out of the configuration; what it still had ends by server.drain_timeout"
            );
            return Ok(FAILED);
        };
        if endpoint.state != "draining" {
            complain!("ringway: {name} is {} again: somebody took it back", endpoint.state);
            return Ok(FAILED);
        }
        // Those in line at the endpoint chose it before the drain began, and will still go there.
        let left = endpoint.in_flight + endpoint.pending;
        if shown.replace(left) != Some(left) && !args.proxy.json {
            say!("{name} is draining, {left} in flight");
        }
        let has_keys = endpoint.ramp.is_some();
        quiet_looks = if left == 0 && !has_keys { quiet_looks + 1 } else { 0 };
        if quiet_looks >= QUIET_LOOKS {
            match args.proxy.json {
                true => say!("{}", serde_json::to_value(endpoint)?),
                false => say!("{name} is drained: nothing is on its way there"),
            }
            return Ok(OK);
        }
        if started.elapsed() >= wait {
            complain!("ringway: {name} still has {left} in flight; it goes on draining");
            return Ok(FAILED);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
