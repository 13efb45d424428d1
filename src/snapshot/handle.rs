//! Publish and per-worker views; the only file naming arc_swap.
use super::Snapshot;
use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where `control` publishes and workers look.
#[derive(Debug)]
pub struct SnapshotHandle {
    current: ArcSwap<Snapshot>,
    serial: AtomicU64,
}

impl SnapshotHandle {
    /// A handle that shows `first`.
    pub fn new(first: Arc<Snapshot>) -> Self {
        let serial = AtomicU64::new(first.serial);
        Self { current: ArcSwap::new(first), serial }
    }

    /// Makes `next` what everybody sees: requests that have begun keep theirs, later ones read this.
    pub fn publish(&self, next: Arc<Snapshot>) {
        let serial = next.serial;
        self.current.store(next);
        self.serial.store(serial, Ordering::Release);
    }

    /// The newest snapshot; for whoever is not on the request path.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// One worker's own reference to the newest snapshot. Renewing it touches a shared count once for each publication, a
/// request only this worker's own.
#[derive(Debug)]
pub struct ViewCell {
    handle: Arc<SnapshotHandle>,
    seen: RefCell<Rc<View>>,
}

/// What a request sees of the world, from its beginning to its end.
#[derive(Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
}

impl std::ops::Deref for View {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl ViewCell {
    /// A view of what `handle` shows.
    pub fn new(handle: Arc<SnapshotHandle>) -> Self {
        let seen = RefCell::new(Rc::new(View { snapshot: handle.load() }));
        Self { handle, seen }
    }

    /// The newest view. Costs one load and one count of this thread when nothing was published.
    #[inline]
    pub fn get(&self) -> Rc<View> {
        let mut seen = self.seen.borrow_mut();
        if seen.snapshot.serial != self.handle.serial.load(Ordering::Acquire) {
            *seen = Rc::new(View { snapshot: self.handle.load() });
        }
        seen.clone()
    }
}
