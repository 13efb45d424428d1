//! One connection to a ZooKeeper server: requests go out in order, answers come back in order, events of watches in between. A
//! task of its own drives it, gives the session its signs of life, and ends with the connection.
use super::jute::Code;
use super::jute::Reader;
use super::jute::Writer;
use super::jute::frame_length;
use super::jute::op;
use super::jute::xid;
use crate::base::clock;
use crate::net::stream::Stream;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::WriteHalf;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Requests without an answer; more wait with whoever asks.
const MAX_PENDING: usize = 1024;
/// Bytes to be sent; with more, nobody's request is taken.
const MAX_OUTGOING: usize = 1 << 20;
/// Longest frame that is read: the names of some millions of nodes.
pub(super) const MAX_FRAME: usize = 64 << 20;
/// Room for what is read at a time.
const ROOM: usize = 16 << 10;
/// Where a frame has its number.
const NUMBER: std::ops::Range<usize> = 4..8;

/// What an answer says after its head, or why there is none.
pub(super) type Answer = Result<Vec<u8>, Code>;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Command {
    /// The request; its number is put in later.
    pub frame: Vec<u8>,
    pub is_ping: bool,
    pub answer: oneshot::Sender<Answer>,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether the node is gone.
    pub is_deleted: bool,
    /// The node.
    pub path: String,
}

/// What others see of a connection.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Why it has ended; whoever asks first is told.
    pub ended: Mutex<Option<io::Error>>,
    /// Events came that nobody had room for.
    pub has_missed: AtomicBool,
    /// The last of all changes that an answer had.
    pub seen: AtomicI64,
}

/// Sends some of these bytes, or sees to it that those before are on their way. Cancelling it loses none.
async fn push(writer: &mut WriteHalf<Stream>, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// The driver's side of a connection.
pub(super) struct Link {
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    shared: Arc<Shared>,
    /// After so long without a word the session is over.
    timeout: Duration,
    outgoing: Vec<u8>,
    pending: VecDeque<(i32, oneshot::Sender<Answer>)>,
    /// Signs of life without an answer; `None`: nobody waits.
    pings: VecDeque<Option<oneshot::Sender<Answer>>>,
    last_number: i32,
    heard: Instant,
    next_ping: Instant,
}

impl Link {
    pub fn new(
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
        shared: Arc<Shared>,
        timeout: Duration,
    ) -> Self {
        let now = clock::now();
        Self {
            commands,
            events,
            shared,
            timeout,
            outgoing: Vec::new(),
            pending: VecDeque::new(),
            pings: VecDeque::new(),
            last_number: 0,
            heard: now,
            next_ping: now + timeout / 3,
        }
    }

    /// Drives it to its end. Whoever waits for an answer then finds its sender gone.
    pub async fn run(mut self, stream: Stream, read: BytesMut) {
        let ended = self.drive(stream, read).await.err();
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    async fn drive(&mut self, stream: Stream, mut read: BytesMut) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut is_flushed = true;
        loop {
            self.take_frames(&mut read)?;
            read.reserve(ROOM);
            let has_room = self.pending.len() < MAX_PENDING && self.outgoing.len() < MAX_OUTGOING;
            tokio::select! {
                count = reader.read_buf(&mut read) => {
                    if count? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                count = push(&mut writer, &self.outgoing), if !self.outgoing.is_empty() || !is_flushed => {
                    is_flushed = self.outgoing.is_empty();
                    self.outgoing.drain(..count?);
                }
                command = self.commands.recv(), if has_room => match command {
                    Some(command) => self.send(command),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(self.next_ping.into()) => self.ping()?,
            }
        }
    }

    fn send(&mut self, mut command: Command) {
        self.next_ping = clock::now() + self.timeout / 3;
        if command.is_ping {
            self.pings.push_back(Some(command.answer));
        } else {
            self.last_number = self.last_number.wrapping_add(1) & i32::MAX;
            command.frame[NUMBER].copy_from_slice(&self.last_number.to_be_bytes());
            self.pending.push_back((self.last_number, command.answer));
        }
        self.outgoing.extend_from_slice(&command.frame);
    }

    /// A sign of life when nothing else was one.
    fn ping(&mut self) -> io::Result<()> {
        let now = clock::now();
        if now.duration_since(self.heard) > self.timeout {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.next_ping = now + self.timeout / 3;
        self.pings.push_back(None);
        self.outgoing.extend_from_slice(&Writer::request(xid::PING, op::PING).framed());
        Ok(())
    }

    fn take_frames(&mut self, read: &mut BytesMut) -> io::Result<()> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "an answer to nothing that was asked");
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(length) = frame_length(read, MAX_FRAME).map_err(invalid)?.filter(|length| *length <= read.len())
        {
            self.heard = clock::now();
            let frame = read.split_to(length);
            self.take(&frame[4..]).ok_or_else(strange)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) -> Option<()> {
        let mut reader = Reader(frame);
        let (number, seen, code) = (reader.int()?, reader.long()?, reader.int()?);
        if seen > 0 {
            self.shared.seen.fetch_max(seen, Ordering::Relaxed);
        }
        let answer = || if code == 0 { Ok(reader.0.to_vec()) } else { Err(Code(code)) };
        match number {
            xid::EVENT => self.tell(reader)?,
            xid::PING => {
                // Whoever asked may have left.
                if let Some(waits) = self.pings.pop_front()? {
                    waits.send(answer()).unwrap_or_default();
                }
            }
            // Who we say we are is believed, or the server ends the connection.
            xid::AUTH => {}
            _ => {
                let (expected, waits) = self.pending.pop_front()?;
                if expected != number {
                    return None;
                }
                waits.send(answer()).unwrap_or_default();
            }
        }
        Some(())
    }

    fn tell(&self, mut reader: Reader<'_>) -> Option<()> {
        const SESSION: i32 = -1;
        const DELETED: i32 = 2;
        let (kind, _state, path) = (reader.int()?, reader.int()?, reader.text()?);
        if kind == SESSION {
            return Some(());
        }
        let event = Event { is_deleted: kind == DELETED, path: path.to_string() };
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.shared.has_missed.store(true, Ordering::Release);
        }
        Some(())
    }
}
