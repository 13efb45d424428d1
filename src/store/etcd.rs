//! etcd by its JSON gateway (`/v3/...`): keys and values are base64, whole numbers are texts, what is 0 is left out.
use super::StoreError;
use super::http::Connection;
use super::http::Lines;
use super::settings::Settings;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// Longest time for the answer to a small question: somebody waits for it.
const SHORT: Duration = Duration::from_secs(1);

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key without the prefix that was asked for.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A connection to one server, let in.
#[derive(Debug)]
pub struct Etcd(Connection);

impl Etcd {
    /// Connects to the server of this number, counted round.
    ///
    /// # Errors
    /// When it cannot be reached or does not let us in.
    pub async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let mut connection = Connection::open(settings, settings.server(number)).await?;
        if let Some((user, password)) = settings.credentials()? {
            let asked = json!({ "name": user, "password": password });
            let answer = connection.call("/v3/auth/authenticate", &asked).await?;
            let token = answer["token"].as_str().ok_or_else(|| StoreError::Answer(connection.server.clone()))?;
            connection.authorize(token.to_string());
        }
        Ok(Self(connection))
    }

    /// Everything below a prefix, and the revision at which that was so.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn list(&mut self, prefix: &str) -> Result<(Vec<Pair>, u64), StoreError> {
        let asked = json!({ "key": encode(prefix), "range_end": encode(after(prefix)) });
        let answer = self.0.call("/v3/kv/range", &asked).await?;
        let strange = || StoreError::Answer(self.0.server.clone());
        let revision = number(&answer["header"]["revision"]).ok_or_else(strange)?;
        let pair = |pair: &Value| {
            let key = decode(&pair["key"])?.strip_prefix(prefix.as_bytes())?.to_vec();
            // An empty value is left out.
            let value = if pair["value"].is_null() { Vec::new() } else { decode(&pair["value"])? };
            Some(Pair { key, value })
        };
        let pairs = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        Ok((pairs.iter().map(|it| pair(it).ok_or_else(strange)).collect::<Result<_, _>>()?, revision))
    }

    /// Whether it answers in time, for a key that need not be there.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&mut self, time: Duration, prefix: &str) -> Result<(), StoreError> {
        let asked = json!({ "key": encode(prefix), "limit": "1", "keys_only": true });
        self.0.call_within(time, "/v3/kv/range", &asked).await.map(drop)
    }

    /// Changes below a prefix after a revision. The connection is for nothing else then.
    ///
    /// # Errors
    /// When it is not told of them.
    pub async fn watch(self, prefix: &str, after_revision: u64) -> Result<Changes, StoreError> {
        let asked = json!({ "create_request": {
            "key": encode(prefix), "range_end": encode(after(prefix)), "start_revision": (after_revision + 1).to_string(),
        }});
        Ok(Changes(self.0.follow("/v3/watch", &asked).await?))
    }

    /// A lease that lasts so long after each sign of life, at least.
    ///
    /// # Errors
    /// When there is none.
    pub async fn grant(&mut self, ttl: Duration) -> Result<String, StoreError> {
        let asked = json!({ "TTL": ttl.as_secs_f64().ceil().max(1.0).to_string() });
        let answer = self.0.call("/v3/lease/grant", &asked).await?;
        match answer["ID"].as_str() {
            Some(id) => Ok(id.to_string()),
            None => Err(StoreError::Answer(self.0.server.clone())),
        }
    }

    /// Gives a lease a sign of life, and says whether it is still there.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn keep_alive(&mut self, time: Duration, lease: &str) -> Result<bool, StoreError> {
        let answer = self.0.call_within(time, "/v3/lease/keepalive", &json!({ "ID": lease })).await?;
        Ok(number(&answer["result"]["TTL"]).is_some_and(|ttl| ttl > 0))
    }

    /// Ends a lease and what hangs on it.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn revoke(&mut self, lease: &str) -> Result<(), StoreError> {
        self.0.call("/v3/lease/revoke", &json!({ "ID": lease })).await.map(drop)
    }

    /// Puts a value under a key, for as long as a lease.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn put(&mut self, key: &str, value: &str, lease: &str) -> Result<(), StoreError> {
        let asked = json!({ "key": encode(key), "value": encode(value), "lease": lease });
        self.0.call("/v3/kv/put", &asked).await.map(drop)
    }

    /// Puts a key that is not there yet, for as long as a lease; one that is there stays. Tells the revision it was created at and
    /// which key below a prefix is the oldest now.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn enlist(
        &mut self,
        prefix: &str,
        key: &str,
        value: &str,
        lease: &str,
    ) -> Result<(u64, Vec<u8>), StoreError> {
        let oldest = json!({ "request_range": {
            "key": encode(prefix), "range_end": encode(after(prefix)), "limit": "1", "keys_only": true,
            "sort_target": "CREATE", "sort_order": "ASCEND",
        }});
        let answer = self.0.call_within(SHORT, "/v3/kv/txn", &json!({
            "compare": [is_absent(key)],
            "success": [{ "request_put": { "key": encode(key), "value": encode(value), "lease": lease } }, oldest],
            "failure": [{ "request_range": { "key": encode(key), "keys_only": true } }, oldest],
        })).await?;
        let strange = || StoreError::Answer(self.0.server.clone());
        let found = |index: usize| &answer["responses"][index]["response_range"]["kvs"][0];
        let created = match answer["succeeded"].as_bool() {
            Some(true) => number(&answer["header"]["revision"]),
            _ => number(&found(0)["create_revision"]),
        };
        Ok((created.ok_or_else(strange)?, decode(&found(1)["key"]).ok_or_else(strange)?))
    }

    /// The youngest key below a prefix among those created before a revision.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn before(&mut self, prefix: &str, created: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let asked = json!({
            "key": encode(prefix), "range_end": encode(after(prefix)), "limit": "1", "keys_only": true,
            "sort_target": "CREATE", "sort_order": "DESCEND", "max_create_revision": created.saturating_sub(1).to_string(),
        });
        let answer = self.0.call_within(SHORT, "/v3/kv/range", &asked).await?;
        Ok(decode(&answer["kvs"][0]["key"]))
    }

    /// The revision a key was created at, if it is there.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn created(&mut self, key: &str) -> Result<Option<u64>, StoreError> {
        let asked = json!({ "key": encode(key), "keys_only": true });
        let answer = self.0.call_within(SHORT, "/v3/kv/range", &asked).await?;
        Ok(number(&answer["kvs"][0]["create_revision"]))
    }

    /// Puts a key that is not there yet, and gives what is there then.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn get_or_put(&mut self, key: &str, value: &str) -> Result<Vec<u8>, StoreError> {
        let range = json!({ "request_range": { "key": encode(key) } });
        let answer = self
            .0
            .call_within(
                SHORT,
                "/v3/kv/txn",
                &json!({
                    "compare": [is_absent(key)],
                    "success": [{ "request_put": { "key": encode(key), "value": encode(value) } }, range],
                    "failure": [{ "request_range": { "key": encode(key) } }, range],
                }),
            )
            .await?;
        let found = &answer["responses"][1]["response_range"]["kvs"][0]["value"];
        decode(found).ok_or_else(|| StoreError::Answer(self.0.server.clone()))
    }

    /// A key's value and the revision it was last written at, if it is there.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn get(&mut self, key: &str) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let answer = self.0.call_within(SHORT, "/v3/kv/range", &json!({ "key": encode(key) })).await?;
        let found = &answer["kvs"][0];
        if found.is_null() {
            return Ok(None);
        }
        let pair = number(&found["mod_revision"]).zip(decode(&found["value"]));
        pair.map(Some).ok_or_else(|| StoreError::Answer(self.0.server.clone()))
    }

    /// Puts a value for as long as a lease, if another key is there. Says whether it was.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn put_while(&mut self, there: &str, key: &str, value: &str, lease: &str) -> Result<bool, StoreError> {
        let put = json!({ "request_put": { "key": encode(key), "value": encode(value), "lease": lease } });
        let is_there = json!({ "key": encode(there), "target": "CREATE", "result": "GREATER", "create_revision": "0" });
        let asked = json!({ "compare": [is_there], "success": [put] });
        let answer = self.0.call_within(SHORT, "/v3/kv/txn", &asked).await?;
        Ok(answer["succeeded"] == true)
    }

    /// Deletes a key, be it there or not.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        self.0.call_within(SHORT, "/v3/kv/deleterange", &json!({ "key": encode(key) })).await.map(drop)
    }

    /// The keys that hang on a lease; nothing when it is gone.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn keys_of(&mut self, lease: &str) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let answer = self.0.call_within(SHORT, "/v3/lease/timetolive", &json!({ "ID": lease, "keys": true })).await?;
        let strange = || StoreError::Answer(self.0.server.clone());
        if answer["TTL"].as_str().is_some_and(|ttl| ttl.starts_with('-')) {
            return Ok(None);
        }
        let keys = answer["keys"].as_array().map_or(&[][..], Vec::as_slice);
        keys.iter().map(|key| decode(key).ok_or_else(strange)).collect::<Result<_, _>>().map(Some)
    }

    /// Keys below a prefix as they are deleted, from now on. The connection is for nothing else then.
    ///
    /// # Errors
    /// When it is not told of them.
    pub async fn watch_deletes(self, prefix: &str) -> Result<Deletes, StoreError> {
        let asked = json!({ "create_request": {
            "key": encode(prefix), "range_end": encode(after(prefix)), "filters": ["NOPUT"],
        }});
        let mut deletes = Deletes(self.0.follow("/v3/watch", &asked).await?);
        // The first line says that the watch has begun.
        deletes.next().await?;
        Ok(deletes)
    }
}

/// Changes below a prefix.
#[derive(Debug)]
pub struct Changes(Lines);

impl Changes {
    /// Waits until something has changed after a revision. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more: whoever wants to know has to list again.
    pub async fn next(&mut self, after_revision: u64) -> Result<(), StoreError> {
        loop {
            let line = self.0.next().await?;
            let result = &line["result"];
            if result["canceled"] == true || line["error"].is_object() {
                return Err(StoreError::Ended("a watch".into()));
            }
            let is_news = number(&result["header"]["revision"]).is_none_or(|revision| revision > after_revision);
            if result["events"].is_array() && is_news {
                return Ok(());
            }
        }
    }
}

/// Keys below a prefix, as they are deleted.
#[derive(Debug)]
pub struct Deletes(Lines);

impl Deletes {
    /// Waits for the next ones. Cancelling it loses none.
    ///
    /// # Errors
    /// When nobody tells any more: whoever waits for one has to look again.
    pub async fn next(&mut self) -> Result<Vec<Vec<u8>>, StoreError> {
        let line = self.0.next().await?;
        let result = &line["result"];
        if result["canceled"] == true || line["error"].is_object() {
            return Err(StoreError::Ended("a watch".into()));
        }
        let events = result["events"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(events
            .iter()
            .filter(|event| event["type"] == "DELETE")
            .filter_map(|event| decode(&event["kv"]["key"]))
            .collect())
    }
}

/// A key that is not there was created at revision 0.
fn is_absent(key: &str) -> Value {
    json!({ "key": encode(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
}

fn encode(text: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(text)
}

fn decode(text: &Value) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text.as_str()?).ok()
}

fn number(text: &Value) -> Option<u64> {
    text.as_str()?.parse().ok()
}

/// The first key that does not begin with a prefix (which ends in a slash, so there is one).
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
