//! One thread's own world: a current-thread runtime, the newest view, buffers, the deadline wheel, randomness. What the
//! requests are is not known here.
pub mod buffers;
pub mod date;
pub mod sketches;
pub mod wheel;

use crate::base::clock;
use crate::base::hash::mix64;
use crate::snapshot::handle::SnapshotHandle;
use crate::snapshot::handle::View;
use crate::snapshot::handle::ViewCell;
use buffers::Buffers;
use date::Date;
use sketches::Sketches;
use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;
use tokio::runtime::LocalRuntime;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use wheel::Wheel;

/// Jobs that may wait for one worker. Whoever finds it full keeps the work (a handed-over connection) or waits (a change).
const MAX_JOBS: usize = 1024;

/// Tasks woken by their deadlines before others have their turn.
const HELPING: usize = 2;

/// What runs on one worker's thread shares this; it never leaves the thread.
#[derive(Debug)]
pub struct Worker {
    /// This worker's place: the cell it writes in every [`crate::telemetry::cells::PerWorker`].
    pub index: usize,
    /// Free buffers.
    pub buffers: Buffers,
    /// Deadlines.
    pub wheel: Rc<Wheel>,
    /// Wakes `control` when an outcome cannot wait for its tick.
    pub attention: Arc<Notify>,
    /// What responses without a date are given.
    pub date: Date,
    /// Bytes of the key at hand.
    pub scratch: RefCell<Vec<u8>>,
    /// Keys seen, where hot ones are looked for.
    pub sketches: Sketches,
    view: ViewCell,
    random: Cell<u64>,
}

impl Worker {
    /// The newest view. A request asks once and keeps it.
    #[inline]
    pub fn view(&self) -> Rc<View> {
        self.view.get()
    }

    /// 64 random bits: not for secrets.
    #[inline]
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        mix64(state)
    }
}

/// Work to be done on a worker's thread.
pub type Job = Box<dyn FnOnce(&Rc<Worker>) + Send>;

/// What a worker's thread is told.
enum Message {
    Run(Job),
    Stop,
}

/// All workers' threads.
#[derive(Debug)]
pub struct Workers {
    remote: Remote,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads, each with its runtime.
    pub fn start(count: usize, handle: &Arc<SnapshotHandle>, attention: &Arc<Notify>) -> io::Result<Self> {
        let (mut jobs, mut threads) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (sender, receiver) = mpsc::channel(MAX_JOBS);
            let (handle, attention) = (handle.clone(), attention.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
                match runtime {
                    Ok(runtime) => run(&runtime, index, handle, attention, receiver),
                    Err(error) => tracing::error!(%error, worker = index, "A worker's runtime could not be made."),
                }
            })?;
            jobs.push(sender);
            threads.push(thread);
        }
        Ok(Self { remote: Remote { jobs }, threads })
    }

    /// A way to give jobs to workers.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Ends the threads; what still runs on them is dropped.
    pub async fn stop(self) {
        for jobs in &self.remote.jobs {
            // A thread that is gone needs not be told.
            if jobs.send(Message::Stop).await.is_err() {}
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("A worker ended by a panic.");
            }
        }
    }
}

/// Gives jobs to workers, from any thread.
#[derive(Debug, Clone)]
pub struct Remote {
    jobs: Vec<mpsc::Sender<Message>>,
}

impl Remote {
    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.jobs.len()
    }

    /// Gives a job to one worker, waiting for room.
    pub async fn run_on(&self, worker: usize, job: Job) {
        if self.jobs[worker].send(Message::Run(job)).await.is_err() {
            tracing::error!(worker, "A worker is gone.");
        }
    }

    /// Gives a job to one worker if there is room now; gives it back if not.
    pub fn try_run_on(&self, worker: usize, job: Job) -> Result<(), Job> {
        let refused = match self.jobs[worker].try_send(Message::Run(job)) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(refused) | mpsc::error::TrySendError::Closed(refused)) => refused,
        };
        match refused {
            Message::Run(job) => Err(job),
            Message::Stop => Ok(()),
        }
    }
}

fn run(
    runtime: &LocalRuntime,
    index: usize,
    handle: Arc<SnapshotHandle>,
    attention: Arc<Notify>,
    mut jobs: mpsc::Receiver<Message>,
) {
    let worker = Rc::new(Worker {
        index,
        buffers: Buffers::default(),
        wheel: Rc::new(Wheel::default()),
        attention,
        date: Date::default(),
        scratch: RefCell::default(),
        sketches: Sketches::default(),
        view: ViewCell::new(handle),
        random: Cell::new(seed(index)),
    });
    runtime.block_on(async move {
        let ticking = tokio::task::spawn_local(tick(worker.wheel.clone()));
        while let Some(Message::Run(job)) = jobs.recv().await {
            job(&worker);
        }
        ticking.abort();
    });
}

/// Moves the wheel with the clock, also after the machine was busy elsewhere or asleep.
async fn tick(wheel: Rc<Wheel>) {
    let started = clock::now();
    let mut ticks = 0u64;
    loop {
        tokio::time::sleep(wheel::TICK).await;
        let now = (started.elapsed().as_nanos() / wheel::TICK.as_nanos()) as u64;
        let mut due = wheel.advance(now - ticks).into_iter();
        ticks = now;
        // Thousands of clients may be late at one time: between some of them, those who are not have their turn.
        while due.len() > 0 {
            due.by_ref().take(HELPING).for_each(Waker::wake);
            tokio::task::yield_now().await;
        }
    }
}

// RandomState takes its keys from the system's source of randomness.
fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_usize(index);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    #[test]
    fn many_who_are_late_at_one_time_leave_others_their_turn() {
        const LATE: usize = 1000;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        let (late, turns) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        runtime.block_on(async {
            let wheel = Rc::new(Wheel::default());
            for _ in 0..LATE {
                let (deadline, late) = (wheel.deadline(), late.clone());
                deadline.set(Duration::from_millis(50));
                drop(tokio::task::spawn_local(async move {
                    poll_fn(|cx| if deadline.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
                    late.set(late.get() + 1);
                }));
            }
            let ticking = tokio::task::spawn_local(tick(wheel));
            while late.get() < LATE {
                tokio::task::yield_now().await;
                if late.get() > 0 {
                    turns.set(turns.get() + 1);
                }
            }
            ticking.abort();
        });
        assert!(turns.get() > LATE / HELPING / 2, "{} turns", turns.get());
    }
}
