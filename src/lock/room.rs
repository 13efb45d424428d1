//! The thread on which locks of stores are taken, kept and given back: neither requests nor the building of rings hold it up.
use std::io;
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A thread with a runtime of its own. It ends when this is dropped, and what runs there with it.
#[derive(Debug)]
pub struct Room {
    handle: Handle,
    _open: oneshot::Sender<()>,
}

impl Room {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has none left.
    pub fn open() -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (open, closed) = oneshot::channel::<()>();
        // An error is what it waits for: the sender is gone.
        std::thread::Builder::new().name("locks".into()).spawn(move || runtime.block_on(closed).unwrap_or_default())?;
        Ok(Arc::new(Self { handle, _open: open }))
    }

    /// Where its tasks are started, from any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
