//! Asks name servers, one after the other: over UDP, and over TCP when the answer does not fit. Each question has a port and a
//! number of its own that nobody can guess; what does not answer it is not looked at.
use super::message;
use super::message::Answer;
use super::message::Data;
use super::message::Kind;
use super::message::MessageError;
use crate::base::files;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;

/// Longest wait for one server, the first and the second time round.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(3500)];
/// Where the system names its servers.
const SYSTEM: &str = "/etc/resolv.conf";
/// Most of that file.
const MAX_SYSTEM: u64 = 64 << 10;
/// No such name.
const NAME_ERROR: u8 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum DnsError {
    /// There is nobody to ask.
    #[error("{SYSTEM} names no server; name `resolvers`")]
    NoServer,
    /// The name does not exist.
    #[error("there is no name {0}")]
    NoName(String),
    /// Nobody answered in time.
    #[error("nobody answered for {0}")]
    NoAnswer(String),
    /// A server cannot answer.
    #[error("{0} cannot answer for {1}: code {2}")]
    Code(SocketAddr, String, u8),
    /// What came is not an answer.
    #[error("{0} did not answer: {1}")]
    Message(SocketAddr, #[source] MessageError),
    /// It cannot be reached.
    #[error("{0} cannot be asked: {1}")]
    Io(SocketAddr, #[source] io::Error),
}

/// Asks servers.
#[derive(Debug, Clone)]
pub struct Client {
    /// Whom; empty: those that the system names at the moment.
    servers: Vec<SocketAddr>,
}

impl Client {
    /// One that asks these servers in turn, or those of the system.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// All addresses of a name, sorted, and how long they hold.
    ///
    /// # Errors
    /// When one of the two questions has no answer.
    pub async fn addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), DnsError> {
        let (four, six) = tokio::join!(self.ask(name, Kind::A), self.ask(name, Kind::Aaaa));
        let (four, six) = (four?, six?);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for record in four.records.iter().chain(&six.records) {
            match record.data {
                Data::A(address) => addresses.push(address.into()),
                Data::Aaaa(address) => addresses.push(address.into()),
                Data::Alias(_) | Data::Srv(_) => {}
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        let ttl = four.records.iter().chain(&six.records).map(|record| record.ttl).min();
        Ok((addresses, ttl.unwrap_or(four.ttl())))
    }

    /// The records of a name.
    ///
    /// # Errors
    /// When no server has an answer, or the name does not exist.
    pub async fn ask(&self, name: &str, kind: Kind) -> Result<Answer, DnsError> {
        let servers = if self.servers.is_empty() { system_servers() } else { self.servers.clone() };
        let mut last = if servers.is_empty() { DnsError::NoServer } else { DnsError::NoAnswer(name.into()) };
        for patience in PATIENCE {
            for server in &servers {
                match tokio::time::timeout(patience, exchange(*server, name, kind)).await {
                    Ok(Ok(answer)) if answer.code == 0 => return Ok(answer),
                    Ok(Ok(answer)) if answer.code == NAME_ERROR => return Err(DnsError::NoName(name.into())),
                    Ok(Ok(answer)) => last = DnsError::Code(*server, name.into(), answer.code),
                    Ok(Err(error)) => last = error,
                    Err(_) => {}
                }
            }
        }
        Err(last)
    }
}

fn system_servers() -> Vec<SocketAddr> {
    let text = files::read_text(Path::new(SYSTEM), MAX_SYSTEM).unwrap_or_default();
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|rest| Some(SocketAddr::new(rest.trim().parse().ok()?, 53))).collect()
}

async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer, DnsError> {
    let io = |error| DnsError::Io(server, error);
    let id = number().map_err(io)?;
    let question = message::question(id, name, kind);
    let answer = over_udp(server, &question, |bytes| message::answer(bytes, id, name, kind)).await.map_err(io)?;
    if !answer.is_truncated {
        return Ok(answer);
    }
    let bytes = over_tcp(server, &question).await.map_err(io)?;
    message::answer(&bytes, id, name, kind).map_err(|error| DnsError::Message(server, error))
}

/// A number nobody can guess.
fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::ErrorKind::Unsupported)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Waits for a packet that is the answer; others are passed over.
async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    read: impl Fn(&[u8]) -> Result<Answer, MessageError>,
) -> io::Result<Answer> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut packet = vec![0; 4096];
    loop {
        let length = socket.recv(&mut packet).await?;
        if let Ok(answer) = read(&packet[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
