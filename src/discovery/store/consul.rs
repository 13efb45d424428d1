//! Members in Consul: the instances of a service whose checks pass.
use super::Question;
use super::entry::Entry;
use super::entry::checked;
use super::reading::Listed;
use super::reading::SIGN_ANSWER;
use crate::store::StoreError;
use crate::store::consul::Changes;
use crate::store::consul::Consul;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;

/// Where `ringway register` keeps an endpoint's id.
const ID: &str = "ringway_id";
/// Before a weight among tags.
const WEIGHT_TAG: &str = "ringway.weight=";
/// What has been dead for so long is forgotten by the agent; Consul takes no less.
const FORGOTTEN_AFTER: &str = "1m";

/// One connection for calls, one for the query that waits.
#[derive(Debug)]
pub struct Reading {
    service: String,
    calls: Consul,
    changes: Changes,
    /// The index of the last list: what has changed until then is in it.
    index: u64,
}

impl Reading {
    pub(super) async fn begin(question: &Question, number: usize) -> Result<(Self, Listed), StoreError> {
        let service = question.name.clone();
        let mut calls = Consul::open(&question.store, number).await?;
        let (told, index) = calls.passing(&service).await?;
        let changes = Consul::open(&question.store, number).await?.watch(&service, index);
        Ok((Self { service, calls, changes, index }, listed(&told)))
    }

    pub(super) async fn changed(&mut self) -> Result<(), StoreError> {
        self.changes.next(self.index).await
    }

    pub(super) async fn list(&mut self) -> Result<Listed, StoreError> {
        let (told, index) = self.calls.passing(&self.service).await?;
        self.index = index;
        Ok(listed(&told))
    }

    pub(super) async fn ping(&mut self) -> Result<(), StoreError> {
        self.calls.ping(SIGN_ANSWER).await
    }
}

/// An instance, as `/v1/health/service/NAME` tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    address: String,
    port: u32,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    weights: Weights,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1 }
    }
}

impl Service {
    /// What decides its keys: the id it was given for that, or its own, with its node's name where it is merely the service's.
    fn id(&self, node: &Node) -> String {
        match self.meta.as_ref().and_then(|meta| meta.get(ID)) {
            Some(id) => id.clone(),
            None if self.id == self.service => format!("{}/{}", node.node, self.id),
            None => self.id.clone(),
        }
    }

    fn weight(&self) -> Result<u64, String> {
        let from_meta = self.meta.as_ref().and_then(|meta| meta.get("weight").map(String::as_str));
        let from_tag = || self.tags.iter().flatten().find_map(|tag| tag.strip_prefix(WEIGHT_TAG));
        match from_meta.or_else(from_tag) {
            Some(text) => text.parse().map_err(|_| format!("its weight {text:?} is not a whole number")),
            None => Ok(self.weights.passing),
        }
    }
}

fn listed(told: &Value) -> Listed {
    let mut seen = HashSet::new();
    let entries = told.as_array().map_or(&[][..], Vec::as_slice).iter().map(|instance| {
        let entry = entry(instance)?;
        match seen.insert(entry.id.clone()) {
            true => Ok(entry),
            false => Err(format!("endpoint {}: two instances have this id; give each its own", entry.id)),
        }
    });
    Listed { entries: entries.collect(), ..Listed::default() }
}

fn entry(told: &Value) -> Result<Entry, String> {
    let told = Instance::deserialize(told).map_err(|error| format!("an instance: {error}"))?;
    let Instance { node, service } = told;
    let id = checked(service.id(&node).as_bytes(), b"")?;
    let host = if service.address.is_empty() { &node.address } else { &service.address };
    let address =
        if host.contains(':') { format!("[{host}]:{}", service.port) } else { format!("{host}:{}", service.port) };
    let weight = service.weight().map_err(|why| format!("endpoint {id}: {why}"))?;
    Ok(Entry { id, address, weight })
}

/// An instance with a check that this program passes.
#[derive(Debug)]
pub struct Holding {
    calls: Consul,
    id: String,
}

impl Holding {
    pub(super) async fn begin(question: &Question, entry: &Entry, number: usize) -> Result<Self, StoreError> {
        let mut calls = Consul::open(&question.store, number).await?;
        let id = format!("{}:{}", question.name, entry.id);
        let Some((host, port)) = entry.address.rsplit_once(':') else {
            return Err(StoreError::Answer(entry.address.clone()));
        };
        calls
            .register(&json!({
                "ID": id,
                "Name": question.name,
                "Address": host.trim_matches(['[', ']']),
                "Port": port.parse::<u16>().unwrap_or_default(),
                "Meta": { ID: entry.id, "weight": entry.weight.to_string() },
                "Check": {
                    "TTL": format!("{}ms", question.store.lease_ttl.as_millis()),
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
                },
            }))
            .await?;
        Ok(Self { calls, id })
    }

    pub(super) async fn keep_alive(&mut self, time: Duration) -> Result<bool, StoreError> {
        self.calls.pass(time, &self.id).await
    }

    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        self.calls.deregister(&self.id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(told: Value, expected: Result<(&str, &str, u64), &str>) {
        let found = entry(&told);
        let found = found.as_ref().map(|it| (&*it.id, &*it.address, it.weight)).map_err(String::as_str);
        match expected {
            Err(part) => assert!(found.is_err_and(|why| why.contains(part)), "{found:?}"),
            Ok(_) => assert_eq!(found, expected),
        }
    }

    #[test]
    fn an_instance_is_a_member_by_what_it_says_of_itself() {
        let node = json!({ "Node": "n1", "Address": "10.0.0.1" });
        let told = |service: Value| {
            let mut told = json!({ "ID": "web-1", "Service": "web", "Address": "", "Port": 80, "Tags": [] });
            for (name, value) in service.as_object().unwrap() {
                told[name] = value.clone();
            }
            json!({ "Node": node, "Service": told, "Checks": [] })
        };
        check(told(json!({})), Ok(("web-1", "10.0.0.1:80", 1)));
        check(told(json!({ "ID": "web", "Tags": null })), Ok(("n1/web", "10.0.0.1:80", 1)));
        check(told(json!({ "Address": "::1" })), Ok(("web-1", "[::1]:80", 1)));
        check(told(json!({ "Weights": { "Passing": 7, "Warning": 1 } })), Ok(("web-1", "10.0.0.1:80", 7)));
        check(told(json!({ "Tags": ["a", "ringway.weight=3"] })), Ok(("web-1", "10.0.0.1:80", 3)));
        check(told(json!({ "Meta": { "weight": "4", "ringway_id": "c9" } })), Ok(("c9", "10.0.0.1:80", 4)));
        check(told(json!({ "Meta": { "weight": "x" } })), Err("endpoint web-1: its weight \"x\""));
        check(told(json!({ "ID": "a b" })), Err("endpoint a b: its id"));
        check(json!({ "Node": node }), Err("missing field"));
    }

    #[test]
    fn two_instances_of_one_id_are_not_one_member() {
        let one = json!({ "Node": { "Node": "n", "Address": "10.0.0.1" }, "Service": { "ID": "a", "Service": "w", "Address": "", "Port": 1 } });
        let listed = listed(&json!([one, one]));
        assert!(
            listed.entries[0].is_ok() && listed.entries[1].as_ref().is_err_and(|why| why.contains("two instances"))
        );
    }
}
