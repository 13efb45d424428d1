//! `explain`: which endpoint a request goes to and why, by a file or by a running proxy.
use super::ExplainArgs;
use super::FAILED;
use super::OK;
use super::WRONG;
use super::door::Door;
use super::say::complain;
use super::say::say;
use crate::analysis::explain;
use crate::base::clock;
use crate::config;
use crate::control::build;
use crate::control::state::State;
use crate::head::Client;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use std::path::Path;

/// Explains one request.
///
/// # Errors
/// When the running proxy cannot be asked.
pub fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    if args.config.is_some() && args.door.is_given() {
        complain!("ringway: what opens an admin interface goes with --admin, not with -c");
        return Ok(WRONG);
    }
    let mut fields = Vec::new();
    for field in &args.headers {
        let Some((name, value)) = field.split_once(':') else {
            complain!("ringway: a field is \"name: value\", not \"{field}\"");
            return Ok(WRONG);
        };
        fields.push((name.trim().to_string(), value.trim().to_string()));
    }
    match (&args.config, &args.admin) {
        (Some(path), _) => by_file(args, &fields, path),
        (None, Some(url)) => by_proxy(args, &fields, url),
        (None, None) => Ok(WRONG),
    }
}

fn by_file(args: &ExplainArgs, fields: &[(String, String)], path: &Path) -> anyhow::Result<u8> {
    let mut config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            complain!("{problems}");
            return Ok(WRONG);
        }
    };
    for problem in config.fill_members() {
        complain!("ringway: {problem}");
    }
    let desired = config.desired();
    let (snapshot, _) = build::build(&mut State::offline(&desired), desired, false, clock::now())?;
    let (head, secure) = match explain::request(&args.url, &args.method, fields) {
        Ok(request) => request,
        Err(error) => {
            complain!("ringway: {error}");
            return Ok(WRONG);
        }
    };
    let client = Client { ip: args.client_ip, secure };
    match explain::explain(&snapshot, args.listener.as_deref(), &head, &client) {
        Ok(explanation) => {
            print(args, &serde_json::to_value(&explanation)?);
            Ok(OK)
        }
        Err(error) => {
            complain!("ringway: {error}");
            Ok(FAILED)
        }
    }
}

fn by_proxy(args: &ExplainArgs, fields: &[(String, String)], admin: &str) -> anyhow::Result<u8> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("url={}&method={}&client_ip={}", encode(&args.url), encode(&args.method), args.client_ip);
    for (name, value) in fields {
        query.push_str(&format!("&header={}", encode(&format!("{name}: {value}"))));
    }
    if let Some(listener) = &args.listener {
        query.push_str(&format!("&listener={}", encode(listener)));
    }
    if let Some(at) = &args.at {
        query.push_str(&format!("&at={}", encode(at)));
    }
    let explanation = Door::of(&args.door, admin)?.call("GET", &format!("/api/v1/explain?{query}"))?;
    print(args, &explanation);
    Ok(OK)
}

/// Prints what an explanation holds, from its JSON: a running proxy may be of another version.
fn print(args: &ExplainArgs, explanation: &serde_json::Value) {
    if args.json {
        say!("{explanation}");
        return;
    }
    let text = |name: &str| explanation[name].as_str().unwrap_or("-").to_string();
    if let (Some(at), [since, cause]) =
        (explanation["at"].as_str(), [0, 1].map(|part| explanation["since"][part].as_str()))
    {
        let (since, cause) = (since.unwrap_or("-"), cause.unwrap_or("-"));
        say!("at          {at}  the ring was in force since {since}, by {cause}; health of that moment is not known");
    }
    say!("route       {}", text("route"));
    if let Some(answer) = explanation["answer"].as_str() {
        return say!("answer      {answer}");
    }
    say!("upstream    {}", text("upstream"));
    if let Some(target) = explanation["target"].as_str() {
        say!("target      {target}");
    }
    say!("key         {}", text("key"));
    say!("source      {}", text("source"));
    say!("hash        {}", text("hash"));
    if let Some(coalesce) = explanation["coalesce"].as_str() {
        say!("coalesce    {coalesce}");
    }
    let nobody = match (explanation["hash"].is_string(), explanation["candidates"].as_array()) {
        (_, Some(candidates)) if candidates.is_empty() => "(nobody: the upstream has no endpoint)",
        (true, _) => "(nobody: no endpoint has a weight)",
        (false, Some(candidates)) if candidates.len() == 1 => "(no key: there is one endpoint)",
        (false, _) => "(no key: two endpoints at random, the less busy one)",
    };
    say!("owner  {}", explanation["owner"].as_str().unwrap_or(nobody));
    if let Some(cache) = explanation["fill_from"].as_str() {
        say!("fill from   {cache}, who owned the key until lately; the owner after it");
    }
    say!("candidates");
    for candidate in explanation["candidates"].as_array().into_iter().flatten() {
        let text = |name: &str| candidate[name].as_str().unwrap_or("-").to_string();
        let skipped = candidate["skipped"].as_str().map(|why| format!("  skipped: {why}")).unwrap_or_default();
        let role = candidate["role"].as_str().map(|what| format!("  {what}")).unwrap_or_default();
        say!("  {}  {}{role}{skipped}", text("id"), text("address"));
    }
}
