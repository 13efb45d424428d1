//! Who of a fleet checks the health of an upstream's endpoints, as a part of `/api/v1/status`.
use super::view;
use super::view::Store;
use crate::base::clock;
use crate::lock::election::Role;
use crate::snapshot::upstream::Upstream;
use serde::Deserialize;
use serde::Serialize;

/// Health checks that one proxy makes for all.
#[derive(Debug, Serialize, Deserialize)]
pub struct Elected {
    /// What this proxy does: `elected` (it asks the endpoints for all), `follows` (it takes over what the elected one tells),
    /// `check-locally` or `freeze` (the store is lost, or nobody tells anything).
    pub role: String,
    /// The proxy that was heard last; absent before the first.
    pub by: Option<String>,
    /// Its fencing token.
    pub token: Option<String>,
    /// Seconds since it was heard; 0 when this proxy is elected.
    pub heard_seconds_ago: f64,
    /// Where they meet.
    pub store: Option<Store>,
    /// What happens because the store is lost or nobody is heard: `check-locally`, `freeze`; absent while one is heard.
    pub degraded: Option<String>,
}

/// How it stands with those of an upstream; `None` when each proxy checks for itself.
pub fn elected(group: &Upstream) -> Option<Elected> {
    let now = clock::now();
    let elect = group.settings.health_check.as_ref()?.elect.as_ref()?;
    let seat = group.election.as_ref()?;
    let (role, told) = (seat.role(now), seat.told());
    let word = match role {
        Role::Elected => "elected",
        Role::Follows => "follows",
        Role::Alone => elect.on_loss.as_str(),
    };
    let heard = (seat.silence(now).as_secs_f64() * 10.0).round() / 10.0;
    Some(Elected {
        role: word.to_string(),
        by: told.as_ref().map(|told| told.by.clone()),
        token: told.map(|told| told.token),
        heard_seconds_ago: heard,
        store: seat.service().standing().map(|standing| view::store(&standing.health)),
        degraded: (role == Role::Alone).then(|| word.to_string()),
    })
}
