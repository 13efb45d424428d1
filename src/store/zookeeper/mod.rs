//! ZooKeeper by its own protocol: nodes, watches, and a session that goes with its last sign of life. Written here: the client
//! that could have been taken brings a second provider of cryptography, which this program must not have.
pub mod folder;
pub mod jute;
mod link;

use super::StoreError;
use super::dial::dial;
use super::settings::Settings;
use crate::net::stream::Stream;
use bytes::BytesMut;
use jute::Code;
use jute::Reader;
use jute::Stat;
use jute::Writer;
use jute::frame_length;
use jute::op;
use jute::xid;
use link::Answer;
use link::Command;
pub use link::Event;
use link::Link;
use link::MAX_FRAME;
use link::Shared;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Longest time for an answer, unless it is sooner too late.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Longest time until a server has let us in.
const LOGIN: Duration = Duration::from_secs(2);
/// Requests that wait for the connection; with more, whoever asks waits.
const MAX_COMMANDS: usize = 64;
/// Events kept for whoever is slow; with more it is told that some are missing.
const MAX_EVENTS: usize = 4096;
/// Length of a session's password.
const PASSWORD: usize = 16;
/// Times that a node and what is above it are made, while others take that away.
const TRIES: usize = 5;

/// A session, as whoever wants to go on with it must know it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// How long it lasts after the last sign of life: what was asked for, as far as the server gives that.
    pub timeout: Duration,
    password: [u8; PASSWORD],
    /// The last of all changes that was seen: an older copy of the data does not go on with it.
    seen: i64,
}

/// How long a node stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// Until it is deleted.
    Always,
    /// As long as the session.
    WithSession,
    /// As long as the session; its name ends in a number that rises.
    WithSessionNumbered,
    /// Until a while after the last node below it has gone.
    WhileUsed,
}

/// An answer that is to come.
#[derive(Debug)]
pub struct Asked(oneshot::Receiver<Answer>);

/// A connection to one server, with a session. Dropped without [`close`](Self::close), the session goes on for its time.
#[derive(Debug)]
pub struct Zookeeper {
    server: String,
    session: Session,
    has_login: bool,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    /// Dropped with this, and the connection with it.
    _driver: JoinSet<()>,
}

/// What watches of a connection tell.
#[derive(Debug)]
pub struct Events {
    server: String,
    events: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
}

impl Zookeeper {
    /// Connects to the server of this number, counted round, for a session that lasts so long, or to go on with one.
    ///
    /// # Errors
    /// When it cannot be reached or does not let us in; [`StoreError::Ended`] when the session is over.
    pub async fn open(
        settings: &Settings,
        number: usize,
        timeout: Duration,
        session: Option<&Session>,
    ) -> Result<(Self, Events), StoreError> {
        let location = settings.server(number);
        let server = location.to_string();
        let credentials = settings.credentials()?;
        let mut stream = dial(settings, location).await?;
        let mut read = BytesMut::new();
        let begun = tokio::time::timeout(LOGIN, begin(&mut stream, &mut read, timeout, session)).await;
        let begun = begun.map_err(|_| StoreError::Timeout(server.clone()))?;
        let begun = begun.map_err(|error| StoreError::Protocol(server.clone(), error.into()))?;
        let session = begun.ok_or_else(|| StoreError::Ended("a session".into()))?;
        if let Some((scheme, word)) = &credentials {
            let login = Writer::request(xid::AUTH, op::AUTH).int(0).buffer(scheme.as_bytes()).buffer(word.as_bytes());
            let sent = stream.write_all(&login.framed()).await;
            sent.map_err(|error| StoreError::Protocol(server.clone(), error.into()))?;
        }
        let shared = Arc::new(Shared::default());
        let (commands, taken) = mpsc::channel(MAX_COMMANDS);
        let (told, events) = mpsc::channel(MAX_EVENTS);
        let link = Link::new(taken, told, shared.clone(), session.timeout);
        let mut driver = JoinSet::new();
        driver.spawn(link.run(stream, read));
        let events = Events { server: server.clone(), events, shared: shared.clone() };
        let client = Self { server, session, has_login: credentials.is_some(), commands, shared, _driver: driver };
        Ok((client, events))
    }

    /// Its session, as it is to be gone on with.
    pub fn session(&self) -> Session {
        Session { seen: self.shared.seen.load(Ordering::Relaxed).max(self.session.seen), ..self.session.clone() }
    }

    /// Whether it answers in time.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self, time: Duration) -> Result<(), StoreError> {
        let ping = self.call(time, Writer::request(xid::PING, op::PING), true).await?;
        ping.map(drop).map_err(|code| self.refused(code))
    }

    /// Whether it and the leader answer in time.
    ///
    /// # Errors
    /// When not.
    pub async fn sync(&self, time: Duration, path: &str) -> Result<(), StoreError> {
        let asked = self.call(time, Writer::request(0, op::SYNC).buffer(path.as_bytes()), false).await?;
        asked.map(drop).map_err(|code| self.refused(code))
    }

    /// The names below a node, if it is there. With a watch, the next change of them is an event.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn children(&self, path: &str, is_watched: bool) -> Result<Option<Vec<String>>, StoreError> {
        let asked = Writer::request(0, op::CHILDREN).buffer(path.as_bytes()).bool(is_watched);
        let answer = self.call(ANSWER, asked, false).await?;
        self.found(answer, |mut reader| reader.texts())
    }

    /// What is told about a node, if it is there. With a watch its next change is an event, also that it comes to be.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn exists(&self, time: Duration, path: &str, is_watched: bool) -> Result<Option<Stat>, StoreError> {
        let asked = tokio::time::timeout(time, self.ask_exists(path, is_watched)).await;
        let asked = asked.map_err(|_| StoreError::Timeout(self.server.clone()))??;
        self.stat(time, asked).await
    }

    /// As [`exists`](Self::exists), but the answer is to be waited for by [`stat`](Self::stat), or by nobody.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn ask_exists(&self, path: &str, is_watched: bool) -> Result<Asked, StoreError> {
        self.send(Writer::request(0, op::EXISTS).buffer(path.as_bytes()).bool(is_watched), false).await
    }

    /// What is told about a node that was asked for, if it is there.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn stat(&self, time: Duration, asked: Asked) -> Result<Option<Stat>, StoreError> {
        let answer = self.answer(time, asked).await?;
        self.found(answer, |mut reader| reader.stat())
    }

    /// The value of a node, if it is there.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let asked = self.ask_value(path, false).await?;
        self.value(asked).await
    }

    /// Asks for the value of a node, which is to be waited for by [`value`](Self::value). With a watch its next change is an event.
    async fn ask_value(&self, path: &str, is_watched: bool) -> Result<Asked, StoreError> {
        self.send(Writer::request(0, op::GET).buffer(path.as_bytes()).bool(is_watched), false).await
    }

    async fn value(&self, asked: Asked) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self.answer(ANSWER, asked).await?;
        self.found(answer, |mut reader| reader.buffer().map(<[u8]>::to_vec))
    }

    /// Creates a node and, as far as they are missing, those above it; so many of them stay only while they are used. Gives its
    /// path and what is told about it; nothing when there is one already.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn create(
        &self,
        path: &str,
        value: &[u8],
        stays: Stays,
        passing: usize,
    ) -> Result<Option<(String, Stat)>, StoreError> {
        for _ in 0..TRIES {
            match self.try_create(path, value, stays).await? {
                Err(Code::NODE_EXISTS) => return Ok(None),
                Err(Code::NO_NODE) => self.create_above(path, passing).await?,
                created => return created.map(Some).map_err(|code| self.refused(code)),
            }
        }
        Err(self.refused(Code::NO_NODE))
    }

    async fn try_create(
        &self,
        path: &str,
        value: &[u8],
        stays: Stays,
    ) -> Result<Result<(String, Stat), Code>, StoreError> {
        let number = if stays == Stays::WhileUsed { op::CREATE_CONTAINER } else { op::CREATE2 };
        let asked = new_node(Writer::request(0, number), path, value, self.has_login, stays);
        let answer = match self.call(ANSWER, asked, false).await? {
            Ok(answer) => answer,
            Err(code) => return Ok(Err(code)),
        };
        let mut reader = Reader(&answer);
        match (reader.text(), reader.stat()) {
            (Some(path), Some(stat)) => Ok(Ok((path.to_string(), stat))),
            _ => Err(StoreError::Answer(self.server.clone())),
        }
    }

    /// Creates what a node needs above it.
    async fn create_above(&self, path: &str, passing: usize) -> Result<(), StoreError> {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
        for (number, end) in ends.iter().enumerate() {
            let stays = if number + passing < ends.len() { Stays::Always } else { Stays::WhileUsed };
            match self.try_create(&path[..*end], b"", stays).await? {
                Ok(_) | Err(Code::NODE_EXISTS) => {}
                Err(code) => return Err(self.refused(code)),
            }
        }
        Ok(())
    }

    /// Puts a node there that stays as long as the session, in place of any other of that name, and without a moment between them.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn put(&self, path: &str, value: &[u8]) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            if self.create(path, value, Stays::WithSession, 0).await?.is_some() {
                return Ok(());
            }
            let step = |asked: Writer, number| asked.int(number).bool(false).int(-1);
            let asked = step(Writer::request(0, op::MULTI), op::DELETE).buffer(path.as_bytes()).int(-1);
            let asked = new_node(step(asked, op::CREATE), path, value, self.has_login, Stays::WithSession);
            let asked = asked.int(-1).bool(true).int(-1);
            let answer = self.call(ANSWER, asked, false).await?;
            match answer.and_then(|answer| outcome(&answer)) {
                Ok(()) => return Ok(()),
                // Somebody else has taken it away meanwhile.
                Err(Code::NO_NODE) => {}
                Err(code) => return Err(self.refused(code)),
            }
        }
        Err(self.refused(Code::NO_NODE))
    }

    /// Gives a node another value, and says whether there is such a node.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn set(&self, path: &str, value: &[u8]) -> Result<bool, StoreError> {
        let asked = Writer::request(0, op::SET).buffer(path.as_bytes()).buffer(value).int(-1);
        let answer = self.call(ANSWER, asked, false).await?;
        Ok(self.found(answer, |mut reader| reader.stat())?.is_some())
    }

    /// Deletes a node, be it there or not.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn delete(&self, time: Duration, path: &str) -> Result<(), StoreError> {
        let asked = Writer::request(0, op::DELETE).buffer(path.as_bytes()).int(-1);
        match self.call(time, asked, false).await? {
            Ok(_) | Err(Code::NO_NODE) => Ok(()),
            Err(code) => Err(self.refused(code)),
        }
    }

    /// Ends the session, and what stays as long as it.
    ///
    /// # Errors
    /// When that is not certain.
    pub async fn close(&self) -> Result<(), StoreError> {
        let answer = self.call(ANSWER, Writer::request(0, op::CLOSE), false).await?;
        answer.map(drop).map_err(|code| self.refused(code))
    }

    async fn call(&self, time: Duration, request: Writer, is_ping: bool) -> Result<Answer, StoreError> {
        let asked = async {
            let Asked(asked) = self.send(request, is_ping).await?;
            asked.await.map_err(|_| self.ended())
        };
        tokio::time::timeout(time, asked).await.map_err(|_| StoreError::Timeout(self.server.clone()))?
    }

    async fn send(&self, request: Writer, is_ping: bool) -> Result<Asked, StoreError> {
        let (answer, asked) = oneshot::channel();
        let command = Command { frame: request.framed(), is_ping, answer };
        self.commands.send(command).await.map_err(|_| self.ended())?;
        Ok(Asked(asked))
    }

    async fn answer(&self, time: Duration, Asked(asked): Asked) -> Result<Answer, StoreError> {
        let answer = tokio::time::timeout(time, asked).await;
        answer.map_err(|_| StoreError::Timeout(self.server.clone()))?.map_err(|_| self.ended())
    }

    fn found<T>(&self, answer: Answer, read: impl FnOnce(Reader<'_>) -> Option<T>) -> Result<Option<T>, StoreError> {
        match answer {
            Ok(answer) => read(Reader(&answer)).map(Some).ok_or_else(|| StoreError::Answer(self.server.clone())),
            Err(Code::NO_NODE) => Ok(None),
            Err(code) => Err(self.refused(code)),
        }
    }

    fn refused(&self, code: Code) -> StoreError {
        StoreError::Protocol(self.server.clone(), code.into())
    }

    fn ended(&self) -> StoreError {
        ended(&self.server, &self.shared)
    }
}

impl Events {
    /// Waits for what has happened since the last call, in order; an empty list when some of it is missing. Cancelling it loses
    /// nothing.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        let first = self.events.recv().await.ok_or_else(|| ended(&self.server, &self.shared))?;
        let mut all = vec![first];
        while let Ok(event) = self.events.try_recv() {
            all.push(event);
        }
        if self.shared.has_missed.swap(false, Ordering::Acquire) {
            all.clear();
        }
        Ok(all)
    }
}

fn ended(server: &str, shared: &Shared) -> StoreError {
    let why = shared.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    StoreError::Protocol(server.into(), why.unwrap_or_else(|| io::ErrorKind::NotConnected.into()).into())
}

/// Begins a session, or goes on with one; nothing when that one is over.
async fn begin(
    stream: &mut Stream,
    read: &mut BytesMut,
    timeout: Duration,
    session: Option<&Session>,
) -> io::Result<Option<Session>> {
    let (id, password, seen) = session.map_or((0, [0; PASSWORD], 0), |known| (known.id, known.password, known.seen));
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let hello = Writer::new().int(0).long(seen).int(timeout).long(id).buffer(&password).bool(false);
    stream.write_all(&hello.framed()).await?;
    stream.flush().await?;
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let length = loop {
        match frame_length(read, MAX_FRAME).map_err(invalid)? {
            Some(length) if length <= read.len() => break length,
            _ if stream.read_buf(read).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    };
    let frame = read.split_to(length);
    let mut reader = Reader(&frame[4..]);
    let told = (|| Some((reader.int()?, reader.int()?, reader.long()?, reader.buffer()?)))();
    let Some((_, timeout, id, password)) = told else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no answer of a ZooKeeper"));
    };
    let Ok(password) = password.try_into() else { return Ok(None) };
    let timeout = Duration::from_millis(u64::try_from(timeout).unwrap_or(0));
    let is_over = id == 0 || timeout.is_zero();
    Ok((!is_over).then_some(Session { id, timeout, password, seen }))
}

fn new_node(asked: Writer, path: &str, value: &[u8], is_own: bool, stays: Stays) -> Writer {
    let flags = match stays {
        Stays::Always => 0,
        Stays::WithSession => 1,
        Stays::WithSessionNumbered => 3,
        Stays::WhileUsed => 4,
    };
    asked.buffer(path.as_bytes()).buffer(value).permissions(is_own).int(flags)
}

/// What became of several requests that were one: the first refusal that is more than a consequence.
fn outcome(answer: &[u8]) -> Result<(), Code> {
    const FAILED: i32 = -1;
    let mut reader = Reader(answer);
    let mut refused = None;
    while let Some(kind) = reader.int() {
        let is_last = reader.bool().unwrap_or(true);
        reader.int();
        match kind {
            _ if is_last => break,
            FAILED => {
                let code = reader.int().filter(|code| *code != 0 && *code != Code::CONSEQUENCE.0);
                refused = refused.or(code);
            }
            op::CREATE => drop(reader.buffer()),
            _ => {}
        }
    }
    refused.map_or(Ok(()), |code| Err(Code(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_requests_the_one_that_was_refused_counts() {
        let part = |kind: i32, code: i32| [&kind.to_be_bytes()[..], &[0], &code.to_be_bytes()].concat();
        let end = [&(-1i32).to_be_bytes()[..], &[1], &(-1i32).to_be_bytes()].concat();
        let failed = |code: i32| [part(-1, code), code.to_be_bytes().to_vec()].concat();
        let created = [part(op::CREATE, 0), vec![0, 0, 0, 2, b'/', b'a']].concat();
        assert_eq!(outcome(&[part(op::DELETE, 0), created, end.clone()].concat()), Ok(()));
        assert_eq!(outcome(&[failed(-101), failed(-2), end.clone()].concat()), Err(Code::NO_NODE));
        assert_eq!(outcome(&[failed(0), failed(-111), end].concat()), Err(Code(-111)));
    }
}
