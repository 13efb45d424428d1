//! Members as Curator's service discovery has them in ZooKeeper, and with it Spring Cloud: a node with JSON for each instance of a
//! service.
use super::entry::Entry;
use super::entry::checked;
use serde::Deserialize;
use serde_json::Value;

/// An instance, as far as anybody here asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    id: String,
    address: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    ssl_port: Option<u16>,
    #[serde(default)]
    payload: Value,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// A node as a member; none for an instance that is to get nothing for now.
///
/// # Errors
/// Why it is none although it is to be one, in words.
pub fn entry(name: &str, value: &[u8]) -> Result<Option<Entry>, String> {
    let id = checked(name.as_bytes(), value)?;
    let told: Instance = serde_json::from_slice(value).map_err(|error| format!("endpoint {id}: {error}"))?;
    if told.id != id {
        return Err(format!("endpoint {id}: its value is of another id"));
    }
    let Some(port) = told.port.or(told.ssl_port) else { return Err(format!("endpoint {id}: it has no port")) };
    let weight = weight(&told.payload).map_err(|why| format!("endpoint {id}: {why}"))?;
    let host = told.address;
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok(told.enabled.then_some(Entry { id, address, weight }))
}

/// `weight` of the payload, or of its `metadata`, where Spring Cloud has it: a number, or a text of one.
fn weight(payload: &Value) -> Result<u64, String> {
    let told = [&payload["metadata"]["weight"], &payload["weight"]].into_iter().find(|told| !told.is_null());
    let Some(told) = told else { return Ok(1) };
    let number = told.as_u64().or_else(|| told.as_str()?.parse().ok());
    number.ok_or_else(|| format!("its weight {told} is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, told: &Value, expected: Result<Option<(&str, u64)>, &str>) {
        let found = entry(name, told.to_string().as_bytes());
        let found = found.as_ref().map(|it| it.as_ref().map(|it| (&*it.address, it.weight))).map_err(String::as_str);
        match expected {
            Err(part) => assert!(found.is_err_and(|why| why.contains(part)), "{found:?}"),
            Ok(_) => assert_eq!(found, expected),
        }
    }

    #[test]
    fn an_instance_is_a_member_as_long_as_it_is_enabled() {
        let told = |more: Value| {
            let mut told = json!({
                "name": "web", "id": "i1", "address": "10.0.0.1", "port": 80, "sslPort": null, "payload": null,
                "registrationTimeUTC": 1_700_000_000_000_u64, "serviceType": "DYNAMIC", "uriSpec": null, "enabled": true,
            });
            for (name, value) in more.as_object().unwrap() {
                told[name] = value.clone();
            }
            told
        };
        check("i1", &told(json!({})), Ok(Some(("10.0.0.1:80", 1))));
        check("i1", &told(json!({ "address": "::1", "port": null, "sslPort": 443 })), Ok(Some(("[::1]:443", 1))));
        check("i1", &told(json!({ "enabled": false })), Ok(None));
        let spring = json!({ "@class": "x.ZookeeperInstance", "id": "app", "metadata": { "weight": "3" } });
        check("i1", &told(json!({ "payload": spring })), Ok(Some(("10.0.0.1:80", 3))));
        check("i1", &told(json!({ "payload": { "weight": 0 } })), Ok(Some(("10.0.0.1:80", 0))));
        check("i1", &told(json!({ "payload": "text" })), Ok(Some(("10.0.0.1:80", 1))));
        check("i1", &told(json!({ "payload": { "weight": "heavy" } })), Err("its weight \"heavy\""));
        check("i1", &told(json!({ "port": null })), Err("endpoint i1: it has no port"));
        check("i1", &told(json!({ "port": 70_000 })), Err("endpoint i1: "));
        check("i2", &told(json!({})), Err("endpoint i2: its value is of another id"));
        check("i 1", &told(json!({})), Err("its id or its value cannot be one"));
        check("i1", &json!("10.0.0.1:80"), Err("endpoint i1: invalid type"));
    }
}
