//! Buffers and heads borrowed only while a message is in flight: an idle connection owns none.
use crate::head::Head;
use crate::head::edits::Edits;
use crate::net::pipe::Pipe;
use bytes::BytesMut;
use std::cell::Cell;
use std::cell::RefCell;
use std::ops::Deref;
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;

/// Size of a fresh buffer: a head and a body of 16 KiB fit, so that they are read at once and written at once.
pub const BUFFER_SIZE: usize = 18 << 10;
/// Largest size that is kept for the next borrower.
const MAX_KEPT_SIZE: usize = 256 << 10;
/// How many buffers are kept: those of as many requests at a time. More are not worth their memory, which nobody else has then.
const MAX_KEPT: usize = 256;
/// How many drafts are kept: a request has two, and over HTTP/2 many are under way at a time.
const MAX_KEPT_DRAFTS: usize = 1024;
/// Most bytes that a draft kept has: there are few large heads.
const MAX_KEPT_DRAFT: usize = 8 << 10;
/// Pipes that are lent at a time: slow clients with something in one could otherwise take all descriptors, and the pages in them.
const MAX_PIPES: usize = 32;
/// Empty pipes that are kept.
const MAX_KEPT_PIPES: usize = 8;

/// One worker's free buffers, heads and edits.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<BytesMut>>,
    #[allow(clippy::vec_box, reason = "a draft travels as a box; unpacking it here would copy and allocate")]
    drafts: RefCell<Vec<Box<Draft>>>,
    pipes: RefCell<Vec<Pipe>>,
    lent_pipes: Rc<Cell<usize>>,
}

/// A pipe of a worker's; goes back to it by [`Buffers::give_pipe`], and is closed if it is dropped.
#[derive(Debug)]
pub struct LentPipe {
    pipe: Option<Pipe>,
    lent: Rc<Cell<usize>>,
}

/// A head and the changes to it.
#[derive(Debug, Default)]
pub struct Draft {
    /// The head as it came.
    pub head: Head,
    /// What is changed when it goes on.
    pub edits: Edits,
    /// The protocol that a request asks to switch to, or that a response grants.
    pub upgrade: Option<Upgrade>,
}

/// A protocol that a connection, or a stream of one, switches to.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Its name, in lower case.
    pub protocol: Arc<str>,
    /// Whether the client asks by an extended CONNECT (RFC 8441): then any success is a switch to it.
    pub is_connect: bool,
    /// The `Sec-WebSocket-Accept` that the endpoint must answer with, where the key was ours.
    pub accept: Option<Vec<u8>>,
}

/// A draft that goes back before whoever holds it is gone.
#[derive(Debug)]
pub struct Lent(Option<Box<Draft>>);

impl From<Box<Draft>> for Lent {
    fn from(draft: Box<Draft>) -> Self {
        Self(Some(draft))
    }
}

impl Deref for Lent {
    type Target = Draft;
    #[inline]
    fn deref(&self) -> &Draft {
        self.0.as_deref().expect("it goes back last of all")
    }
}

impl DerefMut for Lent {
    #[inline]
    fn deref_mut(&mut self) -> &mut Draft {
        self.0.as_deref_mut().expect("it goes back last of all")
    }
}

impl Deref for LentPipe {
    type Target = Pipe;
    fn deref(&self) -> &Pipe {
        self.pipe.as_ref().expect("it is there until it goes back")
    }
}

impl DerefMut for LentPipe {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("it is there until it goes back")
    }
}

impl Drop for LentPipe {
    fn drop(&mut self) {
        self.lent.set(self.lent.get() - 1);
    }
}

impl Draft {
    /// Bytes that it has memory for.
    fn size(&self) -> usize {
        self.head.capacity() + self.edits.capacity()
    }
}

impl Buffers {
    /// An empty buffer with room for at least [`BUFFER_SIZE`] bytes.
    #[inline]
    pub fn take(&self) -> BytesMut {
        self.free.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER_SIZE))
    }

    /// Takes a buffer back; what is in it is forgotten.
    #[inline]
    pub fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        // A buffer that was split or advanced has lost room: reserving gets it back when nobody shares it.
        if buffer.capacity() < BUFFER_SIZE && !buffer.try_reclaim(BUFFER_SIZE) {
            return;
        }
        let mut free = self.free.borrow_mut();
        if free.len() < MAX_KEPT && buffer.capacity() <= MAX_KEPT_SIZE {
            free.push(buffer);
        }
    }

    /// An empty pipe. None when many are in use already, or the system gives no more.
    pub fn take_pipe(&self) -> Option<LentPipe> {
        if self.lent_pipes.get() >= MAX_PIPES {
            return None;
        }
        let pipe = match self.pipes.borrow_mut().pop() {
            Some(pipe) => pipe,
            None => Pipe::new().inspect_err(|error| tracing::debug!(%error, "No pipe: a body is copied.")).ok()?,
        };
        self.lent_pipes.set(self.lent_pipes.get() + 1);
        Some(LentPipe { pipe: Some(pipe), lent: self.lent_pipes.clone() })
    }

    /// Takes a pipe back; with something in it, it is closed.
    pub fn give_pipe(&self, mut lent: LentPipe) {
        let mut pipes = self.pipes.borrow_mut();
        if pipes.len() < MAX_KEPT_PIPES {
            pipes.extend(lent.pipe.take_if(|pipe| pipe.held() == 0));
        }
    }

    /// An empty head without edits.
    #[inline]
    pub fn take_draft(&self) -> Box<Draft> {
        self.drafts.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back a draft that was lent; nobody asks for it any more.
    pub fn take_back(&self, lent: &mut Lent) {
        lent.0.take().into_iter().for_each(|draft| self.give_draft(draft));
    }

    /// Takes a draft back; what is in it is forgotten.
    #[inline]
    pub fn give_draft(&self, mut draft: Box<Draft>) {
        draft.head.clear();
        draft.edits.clear();
        draft.upgrade = None;
        let mut drafts = self.drafts.borrow_mut();
        if drafts.len() < MAX_KEPT_DRAFTS && draft.size() <= MAX_KEPT_DRAFT {
            drafts.push(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_whole() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[1; 10_000]);
        let at = buffer.as_ptr();
        bytes::Buf::advance(&mut buffer, 9_999);
        buffers.give(buffer);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= BUFFER_SIZE && again.as_ptr() == at);
    }

    #[test]
    fn a_draft_comes_back_empty_unless_its_head_was_large() {
        let buffers = Buffers::default();
        for (length, is_kept) in [(1000, true), (MAX_KEPT_DRAFT, false)] {
            let mut draft = buffers.take_draft();
            draft.head.push(b"a", &vec![b'b'; length]);
            draft.edits.add(b"c", b"d");
            buffers.give_draft(draft);
            assert_eq!(buffers.drafts.borrow().len(), usize::from(is_kept), "{length}");
            let again = buffers.take_draft();
            assert!(again.head.fields().is_empty() && (again.size() > length) == is_kept);
        }
    }

    #[test]
    fn a_shared_or_huge_buffer_is_not_kept() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[1; 100]);
        let shared = buffer.split().freeze();
        buffers.give(buffer);
        assert!(buffers.free.borrow().iter().all(|kept| kept.capacity() >= BUFFER_SIZE));
        drop(shared);
        buffers.give(BytesMut::with_capacity(MAX_KEPT_SIZE + 1));
        assert!(buffers.free.borrow().iter().all(|kept| kept.capacity() <= MAX_KEPT_SIZE));
    }
}
