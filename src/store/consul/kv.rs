//! Consul's keys and sessions: what hangs on a session goes when it does.
use super::Changes;
use super::Consul;
use super::encoded;
use crate::store::StoreError;
use crate::store::http::ANSWER;
use crate::store::http::Answer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// Longest time for the answer to a small question: somebody waits for it.
const SHORT: Duration = Duration::from_secs(2);

/// A key, what is there, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The session that has it locked.
    pub session: Option<String>,
    /// The index of its last change.
    pub modified: u64,
}

/// What came of asking for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// It is ours since this index.
    Ours(u64),
    /// Somebody else has it.
    Taken,
    /// Whose it was lost it a moment ago: it is nobody's for a time.
    Delayed,
    /// Our session is gone.
    NoSession,
}

impl Consul {
    /// A session that lasts so long after each sign of life, at least, and up to twice that. What hangs on it is deleted with it, and
    /// nobody locks that for `delay` then.
    ///
    /// # Errors
    /// When there is none.
    pub async fn create_session(&mut self, ttl: Duration, delay: Duration) -> Result<String, StoreError> {
        let asked = json!({
            "Name": "ringway",
            "TTL": format!("{}ms", ttl.as_millis()),
            "LockDelay": format!("{}ms", delay.as_millis()),
            "Behavior": "delete",
            // None: otherwise a node that looks ill for a moment loses all locks.
            "Checks": [],
        });
        let answer = self.calls(ANSWER, Method::PUT, "/v1/session/create", Some(&asked)).await?;
        let answer = answer.accepted(&self.connection.server)?.json(&self.connection.server)?;
        answer["ID"].as_str().map(str::to_string).ok_or_else(|| StoreError::Answer(self.connection.server.clone()))
    }

    /// Gives a session a sign of life, and says whether it is still there.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn renew_session(&mut self, time: Duration, session: &str) -> Result<bool, StoreError> {
        let answer = self.calls(time, Method::PUT, &format!("/v1/session/renew/{}", encoded(session)), None).await?;
        if answer.status == 404 {
            return Ok(false);
        }
        answer.accepted(&self.connection.server).map(|_| true)
    }

    /// Ends a session and what hangs on it.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn destroy_session(&mut self, session: &str) -> Result<(), StoreError> {
        let path = format!("/v1/session/destroy/{}", encoded(session));
        self.calls(SHORT, Method::PUT, &path, None).await?.accepted(&self.connection.server).map(drop)
    }

    /// What is under a key, which has this value from now on if it was not there.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get_or_put(&mut self, key: &str, value: u64) -> Result<Vec<u8>, StoreError> {
        self.calls(ANSWER, Method::PUT, &format!("/v1/kv/{key}?cas=0"), Some(&value.into()))
            .await?
            .accepted(&self.connection.server)?;
        let found = self.entry(key).await?.0;
        found.map(|entry| entry.value).ok_or_else(|| StoreError::Answer(key.to_string()))
    }

    /// Asks for a lock, which is had or not at once.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn lock(&mut self, key: &str, value: &str, session: &str) -> Result<Locked, StoreError> {
        let value = BASE64_STANDARD.encode(value);
        let asked = json!([{ "KV": { "Verb": "lock", "Key": key, "Value": value, "Session": session } }]);
        let answer = self.calls(SHORT, Method::PUT, "/v1/txn", Some(&asked)).await?;
        let server = self.connection.server.clone();
        if answer.status != 409 {
            let told = answer.accepted(&server)?.json(&server)?;
            let index = told["Results"][0]["KV"]["ModifyIndex"].as_u64();
            return index.map(Locked::Ours).ok_or(StoreError::Answer(server));
        }
        let told = answer.json(&server)?;
        let what = told["Errors"][0]["What"].as_str().unwrap_or_default();
        match what {
            _ if what.contains("already held") => Ok(Locked::Taken),
            _ if what.contains("lock delay") => Ok(Locked::Delayed),
            _ if what.contains("session") => Ok(Locked::NoSession),
            _ => Err(StoreError::Refused(server, answer.status, what.to_string())),
        }
    }

    /// Deletes a key that is a session's, and as it was at an index; says whether it was.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn unlock(&mut self, key: &str, index: u64, session: &str) -> Result<bool, StoreError> {
        let asked = json!([
            { "KV": { "Verb": "check-session", "Key": key, "Session": session } },
            { "KV": { "Verb": "delete-cas", "Key": key, "Index": index } },
        ]);
        let answer = self.calls(SHORT, Method::PUT, "/v1/txn", Some(&asked)).await?;
        if answer.status == 409 {
            return Ok(false);
        }
        answer.accepted(&self.connection.server).map(|_| true)
    }

    /// Puts another value under a key that is as it was at an index, and leaves it to the session that has it. Tells the index of that;
    /// nothing when the key has changed or is gone.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn put_at(&mut self, key: &str, index: u64, value: &str) -> Result<Option<u64>, StoreError> {
        let value = BASE64_STANDARD.encode(value);
        let asked = json!([{ "KV": { "Verb": "cas", "Key": key, "Value": value, "Index": index } }]);
        let answer = self.calls(SHORT, Method::PUT, "/v1/txn", Some(&asked)).await?;
        if answer.status == 409 {
            return Ok(None);
        }
        let server = self.connection.server.clone();
        let told = answer.accepted(&server)?.json(&server)?;
        let index = told["Results"][0]["KV"]["ModifyIndex"].as_u64();
        index.map(Some).ok_or(StoreError::Answer(server))
    }

    /// Puts a value under a key for as long as a session; says whether it is ours to put.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn put_held(&mut self, key: &str, value: &Value, session: &str) -> Result<bool, StoreError> {
        let path = format!("/v1/kv/{key}?acquire={}", encoded(session));
        let answer = self.calls(ANSWER, Method::PUT, &path, Some(value)).await?;
        answer.accepted(&self.connection.server)?.json(&self.connection.server).map(|told| told == true)
    }

    /// What is under a key, and the index at which that was so.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn entry(&mut self, key: &str) -> Result<(Option<Entry>, u64), StoreError> {
        let (entries, index) = self.read(SHORT, &format!("/v1/kv/{key}")).await?;
        Ok((entries.into_iter().next(), index))
    }

    /// All keys that begin so, and the index at which that was so.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn entries(&mut self, prefix: &str) -> Result<(Vec<Entry>, u64), StoreError> {
        self.read(ANSWER, &format!("/v1/kv/{prefix}?recurse")).await
    }

    /// Waits until a key has changed after an index, or for so long; what is there then, as [`entry`](Self::entry) tells it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn await_change(
        &mut self,
        key: &str,
        index: u64,
        time: Duration,
    ) -> Result<(Option<Entry>, u64), StoreError> {
        let path = format!("/v1/kv/{key}?index={index}&wait={}ms", time.as_millis().max(1));
        let (entries, index) = self.read(time + time / 16 + SHORT, &path).await?;
        Ok((entries.into_iter().next(), index))
    }

    /// Has changes of keys that begin so told after an index. The connection is for nothing else then.
    pub fn watch_keys(self, prefix: &str, after: u64) -> Changes {
        self.follow(format!("/v1/kv/{prefix}?recurse"), after)
    }

    async fn calls(
        &mut self,
        time: Duration,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, StoreError> {
        self.connection.ask(time, method, path, body).await
    }

    async fn read(&mut self, time: Duration, path: &str) -> Result<(Vec<Entry>, u64), StoreError> {
        let answer = self.calls(time, Method::GET, path, None).await?;
        let server = self.connection.server.clone();
        let strange = || StoreError::Answer(server.clone());
        let index = super::index_of(&answer).ok_or_else(strange)?;
        if answer.status == 404 {
            return Ok((Vec::new(), index));
        }
        let told = answer.accepted(&server)?.json(&server)?;
        let entries = told.as_array().ok_or_else(strange)?.iter().map(|told| entry(told).ok_or_else(strange));
        Ok((entries.collect::<Result<_, _>>()?, index))
    }
}

fn entry(told: &Value) -> Option<Entry> {
    let value = match &told["Value"] {
        Value::String(text) => BASE64_STANDARD.decode(text).ok()?,
        _ => Vec::new(),
    };
    Some(Entry {
        key: told["Key"].as_str()?.to_string(),
        value,
        session: told["Session"].as_str().filter(|session| !session.is_empty()).map(str::to_string),
        modified: told["ModifyIndex"].as_u64()?,
    })
}
