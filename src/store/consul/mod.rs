//! Consul by its HTTP API: services with their health, told of changes by queries that wait; keys and sessions.
pub mod kv;

use crate::store::StoreError;
use crate::store::http::ANSWER;
use crate::store::http::Answer;
use crate::store::http::Connection;
use crate::store::settings::Consistency;
use crate::store::settings::Engine;
use crate::store::settings::Settings;
use http::Method;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a query waits for a change; Consul adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(30);

/// A connection to one agent, let in.
#[derive(Debug)]
pub struct Consul {
    connection: Connection,
    consistency: Consistency,
}

impl Consul {
    /// Connects to the agent of this number, counted round.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        let mut connection = Connection::open(settings, settings.server(number)).await?;
        if let Some((_, token)) = settings.credentials()? {
            connection.authorize(format!("Bearer {token}"));
        }
        let consistency = match settings.engine {
            Engine::Consul(own) => own.consistency,
            _ => Consistency::Default,
        };
        Ok(Self { connection, consistency })
    }

    /// The instances of a service whose checks pass, and the index at which that was so.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn passing(&mut self, service: &str) -> Result<(Value, u64), StoreError> {
        self.query(ANSWER, &self.path(service)).await
    }

    /// Has changes of those told after an index. The connection is for nothing else then.
    pub fn watch(self, service: &str, after: u64) -> Changes {
        let path = self.path(service);
        self.follow(path, after)
    }

    fn follow(mut self, path: String, after: u64) -> Changes {
        let (tell, told) = watch::channel(after);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut index = after;
            loop {
                let path = format!("{path}&index={index}&wait={}s", WAIT.as_secs());
                match self.query_index(WAIT + WAIT / 16 + ANSWER, &path).await {
                    // Lower than before: its data is of another life, and is asked for from its beginning.
                    Ok(new) if new < index => index = 0,
                    Ok(new) => index = new,
                    Err(error) => return error,
                }
                tell.send_replace(index);
            }
        });
        Changes { told, task }
    }

    fn path(&self, service: &str) -> String {
        let consistency = match self.consistency {
            Consistency::Default => "",
            Consistency::Stale => "&stale",
            Consistency::Consistent => "&consistent",
        };
        format!("/v1/health/service/{}?passing=1{consistency}", encoded(service))
    }

    async fn query(&mut self, time: Duration, path: &str) -> Result<(Value, u64), StoreError> {
        let server = self.connection.server.clone();
        let answer = self.connection.ask(time, Method::GET, path, None).await?.accepted(&server)?;
        let index = index_of(&answer).ok_or_else(|| StoreError::Answer(server.clone()))?;
        Ok((answer.json(&server)?, index))
    }

    /// The index alone, also of what is not there.
    async fn query_index(&mut self, time: Duration, path: &str) -> Result<u64, StoreError> {
        let server = self.connection.server.clone();
        let answer = self.connection.ask(time, Method::GET, path, None).await?;
        let answer = if answer.status == 404 { answer } else { answer.accepted(&server)? };
        index_of(&answer).ok_or(StoreError::Answer(server))
    }

    /// Whether it answers in time and has somebody who decides.
    ///
    /// # Errors
    /// When not.
    pub async fn ping(&mut self, time: Duration) -> Result<(), StoreError> {
        let server = self.connection.server.clone();
        let answer = self.connection.ask(time, Method::GET, "/v1/status/leader", None).await?.accepted(&server)?;
        match answer.json(&server)?.as_str() {
            Some("") | None => Err(StoreError::Refused(server, answer.status, "No cluster leader".into())),
            Some(_) => Ok(()),
        }
    }

    /// Registers an instance of a service at this agent.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn register(&mut self, service: &Value) -> Result<(), StoreError> {
        self.put(ANSWER, "/v1/agent/service/register?replace-existing-checks=true", Some(service)).await
    }

    /// Has the check of an instance pass once more, and says whether there is such a check.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn pass(&mut self, time: Duration, id: &str) -> Result<bool, StoreError> {
        let path = format!("/v1/agent/check/pass/{}", encoded(&format!("service:{id}")));
        match self.put(time, &path, None).await {
            // An agent that was started anew knows of no such check; old ones say so by 500.
            Err(StoreError::Refused(_, 404 | 500, _)) => Ok(false),
            answer => answer.map(|()| true),
        }
    }

    /// Takes an instance back.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn deregister(&mut self, id: &str) -> Result<(), StoreError> {
        self.put(ANSWER, &format!("/v1/agent/service/deregister/{}", encoded(id)), None).await
    }

    async fn put(&mut self, time: Duration, path: &str, body: Option<&Value>) -> Result<(), StoreError> {
        let server = self.connection.server.clone();
        self.connection.ask(time, Method::PUT, path, body).await?.accepted(&server).map(drop)
    }
}

/// Changes of a service.
#[derive(Debug)]
pub struct Changes {
    told: watch::Receiver<u64>,
    /// Dropped with this, and its connection with it.
    task: JoinSet<StoreError>,
}

impl Changes {
    /// Waits until something has changed that a list of this index does not have. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When nobody tells any more.
    pub async fn next(&mut self, known: u64) -> Result<(), StoreError> {
        while self.told.changed().await.is_ok() {
            if *self.told.borrow_and_update() != known {
                return Ok(());
            }
        }
        let ended = self.task.join_next().await.and_then(Result::ok);
        Err(ended.unwrap_or_else(|| StoreError::Ended("a query that waits".into())))
    }
}

fn index_of(answer: &Answer) -> Option<u64> {
    answer.fields.get("x-consul-index")?.to_str().ok()?.parse().ok()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
