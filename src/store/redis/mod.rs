//! Redis: scripts there, answers and messages back, all by one connection (RESP3, Redis 6 and later). So an answer to a sign of
//! life says that messages come, too.
pub mod values;

use crate::store::StoreError;
use crate::store::dial::dial;
use crate::store::settings::Engine;
use crate::store::settings::Settings;
use redis::AsyncConnectionConfig;
use redis::FromRedisValue;
use redis::ProtocolVersion;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisResult;
use redis::Script;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longest time for an answer, unless it is sooner too late.
pub const ANSWER: Duration = Duration::from_secs(5);

/// A connection to one server, let in.
#[derive(Debug)]
pub struct Redis {
    server: String,
    calls: MultiplexedConnection,
    /// Changes with each message; its other end goes with the connection.
    messages: watch::Receiver<()>,
    /// Dropped with this, and the connection with it.
    _driver: JoinSet<()>,
}

impl Redis {
    /// Connects to the server of this number, counted round.
    ///
    /// # Errors
    /// When it cannot be reached or does not let us in.
    pub async fn open(settings: &Settings, number: usize) -> Result<Self, StoreError> {
        Self::open_told(settings, number, |_| ()).await
    }

    /// As [`open`](Self::open); `tell` is given the text of each message as it comes.
    ///
    /// # Errors
    /// As there.
    pub async fn open_told(
        settings: &Settings,
        number: usize,
        tell: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let location = settings.server(number);
        let stream = dial(settings, location).await?;
        let server = location.to_string();
        let mut login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        if let Engine::Redis(redis) = settings.engine {
            login = login.set_db(i64::from(redis.database));
        }
        if let Some((user, password)) = settings.credentials()? {
            login = login.set_password(password);
            if !user.is_empty() {
                login = login.set_username(user);
            }
        }
        let (told, messages) = watch::channel(());
        // Limits of time are kept here, by the call.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Message {
                if let Some(Value::BulkString(text)) = push.data.last() {
                    tell(text);
                }
                told.send_replace(());
            }
            Ok::<(), ()>(())
        });
        let connection = MultiplexedConnection::new_with_config(&login, stream, config);
        let (calls, driver) = within(ANSWER, &server, connection).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Ok(Self { server, calls, messages, _driver: tasks })
    }

    /// Runs a script, and gives what it returns. Several may be asked for at one time: they are sent one after the other.
    ///
    /// # Errors
    /// When there is no answer in time, or it is not of that kind.
    pub async fn run<T: FromRedisValue>(
        &self,
        time: Duration,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<T, StoreError> {
        let mut call = script.prepare_invoke();
        call.key(keys).arg(arguments);
        within(time, &self.server, call.invoke_async(&mut self.calls.clone())).await
    }

    /// Has messages of a channel told from now on.
    ///
    /// # Errors
    /// When there is no answer in time, or it refuses.
    pub async fn subscribe(&mut self, channel: &str) -> Result<(), StoreError> {
        within(ANSWER, &self.server, self.calls.subscribe(channel)).await
    }

    /// Whether it answers in time.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&mut self, time: Duration) -> Result<(), StoreError> {
        let ping = redis::cmd("PING");
        within(time, &self.server, ping.query_async::<()>(&mut self.calls)).await
    }

    /// Waits for a message that came since the last call; several are one. Cancelling it loses none.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn message(&mut self) -> Result<(), StoreError> {
        let ended = || StoreError::Ended(format!("the connection to {}", self.server));
        self.messages.changed().await.map_err(|_| ended())
    }
}

async fn within<T>(time: Duration, server: &str, asked: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(time, asked).await.map_err(|_| StoreError::Timeout(server.into()))?;
    answer.map_err(|error: RedisError| StoreError::Protocol(server.into(), error.into()))
}
