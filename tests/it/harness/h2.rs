//! HTTP/2 for tests: frames as bytes, so that nothing a client could send is out of reach, and the `h2` crate for what is well-formed.
use super::PATIENCE;
use bytes::Bytes;
use h2::client::SendRequest;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection of frames, on which the prefaces were exchanged.
pub struct Frames {
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl Frames {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream, ahead: Vec::new() };
        frames.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        frames.send(SETTINGS, 0, 0, &[]);
        frames.send(SETTINGS, 1, 0, &[]);
        frames
    }

    /// Sends one frame; a peer that closed already is noticed when reading.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_raw(&frame(kind, flags, stream, payload));
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "write: {error}");
        }
    }

    /// Sends a head that is whole in one frame.
    pub fn head(&mut self, stream: u32, is_end: bool, fields: &[(&str, &str)]) {
        let end = if is_end { END_STREAM } else { 0 };
        self.send(HEADERS, END_HEADERS | end, stream, &block(fields));
    }

    /// The next frame; nothing when the peer closed or reset the connection.
    pub fn next(&mut self) -> Option<Frame> {
        let head = self.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload: self.take(length)? })
    }

    /// The next frame that is wanted.
    #[track_caller]
    pub fn find(&mut self, what: &str, mut wanted: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            match self.next() {
                Some(frame) if wanted(&frame) => return frame,
                Some(_) => {}
                None => panic!("the connection ended before {what}"),
            }
        }
    }

    /// How the peer answered a stream: `Ok` with the first byte of its field block, which tells a common status, or `Err`
    /// with the code of its reset, or of the connection's end.
    #[track_caller]
    pub fn verdict(&mut self, stream: u32) -> Result<u8, u32> {
        let frame = self.find("a verdict", |frame| {
            frame.kind == GOAWAY || frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)
        });
        if frame.kind == HEADERS { Ok(frame.payload[0]) } else { Err(frame.code()) }
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut part = [0; 16 << 10];
        while self.ahead.len() < count {
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(read) => self.ahead.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("read frames: {error}"),
            }
        }
        Some(self.ahead.drain(..count).collect())
    }
}

/// One frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field block: literals that are not indexed and not compressed (RFC 7541 section 6.2.2), whatever their bytes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            // A length prefix of seven bits (RFC 7541 section 5.1).
            let mut left = text.len();
            if left < 127 {
                bytes.push(left as u8);
            } else {
                bytes.push(127);
                left -= 127;
                while left >= 128 {
                    bytes.push((left % 128) as u8 | 128);
                    left /= 128;
                }
                bytes.push(left as u8);
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// The pseudo-fields of a GET.
pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a.example")]
}

/// Runs a well-behaved client of the `h2` crate.
pub fn client<T, F: Future<Output = T>>(
    address: SocketAddr,
    builder: &h2::client::Builder,
    run: impl FnOnce(SendRequest<Bytes>) -> F,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let result = tokio::time::timeout(PATIENCE, run(send)).await.expect("an answer in time");
        driving.abort();
        result
    })
}

/// Everything of a body, giving its window back as it comes.
pub async fn whole(mut body: h2::RecvStream) -> Result<(Vec<u8>, http::HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

/// The server's end of a connection of frames, whose prefaces were exchanged.
pub fn accept(listener: &TcpListener) -> Frames {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut frames = Frames { stream, ahead: Vec::new() };
    assert_eq!(frames.take(24).as_deref(), Some(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]));
    frames.send(SETTINGS, 0, 0, &[]);
    frames.send(SETTINGS, 1, 0, &[]);
    frames
}
