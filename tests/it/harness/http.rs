//! HTTP/1.1 as bytes, for both ends of a test: reads heads and bodies as they come, hides nothing and repairs nothing.
use ringway::base::clock;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// Field names (as received) and values.
pub type Fields = Vec<(String, String)>;

/// The first field of that name, in any case.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Sends `bytes` on a fresh connection and gives all that comes back until the peer closes, or for two seconds.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    raw_for(address, bytes, Duration::from_secs(2))
}

/// [`raw`] with its own deadline. A peer that closes or resets early gives what came until then.
pub fn raw_for(address: SocketAddr, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connect");
    let deadline = clock::now() + patience;
    let mut received = Vec::new();
    // A refusal may come, and the connection close, before everything is written.
    if let Err(error) = stream.write_all(bytes) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "write: {error}");
    }
    let mut part = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return received;
        }
        stream.set_read_timeout(Some(left)).expect("a timeout above zero");
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return received,
            Ok(n) => received.extend_from_slice(&part[..n]),
        }
    }
}

/// A response, and what came before its head and after its body.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Status and fields of each 1xx that came first.
    pub interim: Vec<(u16, Fields)>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

/// One client with at most one connection, kept while the other side keeps it. It never sends anything twice.
pub struct Client {
    address: SocketAddr,
    wire: Option<Wire>,
    patience: Duration,
    /// Connections opened so far.
    pub connections: usize,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::patient(address, PATIENCE)
    }

    /// One that waits for so long for the next bytes: for answers that others are before.
    pub fn patient(address: SocketAddr, patience: Duration) -> Self {
        Self { address, wire: None, patience, connections: 0 }
    }

    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.request("GET", path, &[], None)
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response> {
        self.request("POST", path, &[], Some(body))
    }

    /// Sends one request, with `Host` and `Content-Length` unless they are among `headers`, and reads its response.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response> {
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut message = format!("{method} {path} HTTP/1.1\r\n");
        if !given("host") {
            message += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            message += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body.filter(|_| !given("content-length") && !given("transfer-encoding")) {
            message += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (message + "\r\n").into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.send(&bytes)?;
        self.response(method)
    }

    /// Sends bytes as they are, on the kept connection or a new one.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if self.wire.is_none() {
            let wire = Wire::new(TcpStream::connect(self.address)?)?;
            wire.stream.set_read_timeout(Some(self.patience))?;
            self.wire = Some(wire);
            self.connections += 1;
        }
        let sent = self.wire.as_mut().expect("just connected").stream.write_all(bytes);
        self.wire.take_if(|_| sent.is_err());
        sent
    }

    /// Reads the response to a `method` request; a truncated one is an error.
    pub fn response(&mut self, method: &str) -> Result<Response> {
        let mut wire = self.wire.take().ok_or(ErrorKind::NotConnected)?;
        let mut interim = Vec::new();
        let (status, headers) = loop {
            let (line, fields) = wire.head()?.ok_or(ErrorKind::UnexpectedEof)?;
            let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(ErrorKind::InvalidData)?;
            match status {
                100 | 102..=199 => interim.push((status, fields)),
                _ => break (status, fields),
            }
        };
        let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let chunked = field(&headers, "transfer-encoding").is_some();
        let length = field(&headers, "content-length").map(|text| text.parse().map_err(|_| ErrorKind::InvalidData));
        let (body, trailers) = match length.transpose()? {
            _ if bodiless => (Vec::new(), Fields::new()),
            _ if chunked => wire.chunked()?,
            Some(length) => (wire.exactly(length)?, Fields::new()),
            None => (wire.until_closed()?, Fields::new()),
        };
        let ends = field(&headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !ends && (bodiless || chunked || field(&headers, "content-length").is_some()) {
            self.wire = Some(wire);
        }
        Ok(Response { status, headers, body, trailers, interim })
    }
}

/// One end of a connection, read message by message.
pub struct Wire {
    pub stream: TcpStream,
    /// Read but not yet used.
    ahead: Vec<u8>,
    /// Used since the last [`Wire::take_raw`].
    used: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, ahead: Vec::new(), used: Vec::new() })
    }

    /// Start line and fields, or nothing when the peer closed between messages.
    pub fn head(&mut self) -> Result<Option<(String, Fields)>> {
        while find(&self.ahead, b"\r\n\r\n").is_none() {
            if self.fill()? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
        let start = self.line()?;
        Ok(Some((start, self.fields()?)))
    }

    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < count {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.take(count))
    }

    /// A chunked body, decoded, and its trailers.
    pub fn chunked(&mut self) -> Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            match size.ok_or(Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))? {
                0 => return Ok((body, self.fields()?)),
                size => body.extend(self.exactly(size)?),
            }
            if self.exactly(2)? != b"\r\n" {
                return Err(Error::new(ErrorKind::InvalidData, "no CRLF after a chunk"));
            }
        }
    }

    pub fn until_closed(&mut self) -> Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(self.take(self.ahead.len()))
    }

    /// Every byte used since the last call; `all`: also those of a message that never got whole.
    pub fn take_raw(&mut self, all: bool) -> Vec<u8> {
        if all {
            self.take(self.ahead.len());
        }
        std::mem::take(&mut self.used)
    }

    fn fields(&mut self) -> Result<Fields> {
        let mut fields = Fields::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok(fields),
                line => {
                    let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
                    fields.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let end = loop {
            match find(&self.ahead, b"\r\n") {
                Some(end) => break end,
                None if self.fill()? == 0 => return Err(ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        };
        let line = self.take(end + 2);
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken: Vec<u8> = self.ahead.drain(..count).collect();
        self.used.extend_from_slice(&taken);
        taken
    }

    fn fill(&mut self) -> Result<usize> {
        let mut part = [0; 16 * 1024];
        let count = self.stream.read(&mut part)?;
        self.ahead.extend_from_slice(&part[..count]);
        Ok(count)
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
