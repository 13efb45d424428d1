//! A pipe of the system's, through which bytes go from one socket to another without passing through this process
//! (`splice(2)`).
use crate::net::stream::Socket;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;
use rustix::pipe::fcntl_setpipe_size;
use rustix::pipe::pipe_with;
use rustix::pipe::splice;
use std::io;
use std::os::fd::OwnedFd;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// What a pipe holds, at most: 256 pages, or as many pieces of packets. As much as the system gives without being asked as root.
pub const PIPE_SIZE: usize = 1 << 20;

/// A pipe and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    exit: OwnedFd,
    entry: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty pipe. Costs two descriptors; fails where the system has no room for one of [`PIPE_SIZE`].
    pub fn new() -> io::Result<Self> {
        let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&entry, PIPE_SIZE)?;
        Ok(Self { exit, entry, held: 0 })
    }

    /// How many bytes are in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `most` bytes from `socket`, once the pipe is empty; 0 is the end of the stream. While something is in the pipe
    /// it takes nothing: whether the pipe or the socket had to wait would not be known.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, socket: &Socket, most: u64) -> Poll<io::Result<usize>> {
        if self.held > 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        let most = usize::try_from(most).unwrap_or(PIPE_SIZE).min(PIPE_SIZE);
        let count = ready!(socket.poll_out_of(cx, |socket| {
            Ok(splice(socket, None, &self.entry, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
        }))?;
        self.held = count;
        Poll::Ready(Ok(count))
    }

    /// Gives what is in it to `socket`; ready when it is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        while self.held > 0 {
            let count = ready!(socket.poll_into(cx, |socket| {
                Ok(splice(&self.exit, None, socket, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
            }))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held -= count;
        }
        Poll::Ready(Ok(()))
    }
}
