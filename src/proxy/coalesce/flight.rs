//! One exchange and all who wait for its answer, on whatever worker: what came of the answer, kept from its start, and who is
//! where in it. The exchange itself is `pilot`'s; who may join is decided by whoever asks.
//!
//! One lock guards all of it, held while a few words change and never across an await; bytes are copied outside of it.
use crate::base::clock;
use crate::head::Head;
use crate::proxy::coalesce::answered::Answered;
use crate::proxy::coalesce::answered::End;
use crate::proxy::error::ProxyError;
use crate::telemetry::labels::Coalesced;
use crate::wire::body::BodyError;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

/// The least that is kept of an answer for whoever reads it slower than it comes.
const MIN_WINDOW: usize = 256 << 10;
/// Pieces kept of an answer that comes in crumbs: each costs more than its bytes.
const MAX_PIECES: usize = 16 << 10;

/// What all flights of a process have: so they are bounded together.
#[derive(Debug, Default)]
pub struct Budget {
    /// Flights there are.
    pub flights: AtomicUsize,
    /// Bytes they keep.
    pub kept: AtomicUsize,
    /// The most bytes they keep before answers are passed on without being kept whole.
    pub max_kept: usize,
}

/// What there is to hear of an answer.
#[derive(Debug)]
pub enum News {
    /// It has begun.
    Answered(Arc<Answered>),
    /// There is none, or it broke off before anything was read of it. The error is for the one who asked first.
    Failed(Option<ProxyError>),
    /// There is none, and nobody is to ask: the store that elects who does is lost.
    Refused,
}

/// What the pilot may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Ask for more.
    GoOn,
    /// End: nobody is there any more.
    Deserted,
    /// Wait for room: somebody is behind.
    Full {
        /// Whether somebody waits for what comes next.
        holds_others: bool,
    },
}

/// One exchange and all who wait for its answer.
#[derive(Debug)]
pub struct Flight {
    /// How often what it asks for had been changed when it began.
    pub generation: u64,
    max_body: u64,
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answered: Option<Arc<Answered>>,
    failed: Option<Option<ProxyError>>,
    is_refused: bool,
    /// Since when an endpoint is asked, and what the one who asked first is counted as.
    begun: Option<(Instant, Coalesced)>,
    /// What is kept of the body, and the number of the first piece of it.
    pieces: VecDeque<Bytes>,
    first: u64,
    kept: usize,
    /// Bytes of the body that came.
    came: u64,
    end: Option<End>,
    seats: Vec<Option<Place>>,
    free: Vec<usize>,
    is_closed: bool,
    /// Once not all of the body is kept any more: how much is.
    window: Option<usize>,
    pilot: Option<Waker>,
}

/// Where one asker is.
#[derive(Debug, Default)]
struct Place {
    /// The next piece.
    at: u64,
    /// It was so far behind that what it needs is gone.
    is_cut: bool,
    /// Whether the others are held up by it just now.
    is_blamed: bool,
    /// How long they were, all in all.
    held: Duration,
    waker: Option<Waker>,
}

/// Those who are to be woken once the lock is free.
type Wakers = SmallVec<[Waker; 8]>;

fn wake(wakers: Wakers) {
    wakers.into_iter().for_each(Waker::wake);
}

impl State {
    fn is_deserted(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    fn ahead(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    fn sleepers(&mut self) -> Wakers {
        self.seats.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }

    /// Forgets what everybody has read; only where not everything is kept. Gives how many bytes that were.
    fn forget(&mut self) -> usize {
        if self.window.is_none() {
            return 0;
        }
        let slowest = self.seats.iter().flatten().filter(|place| !place.is_cut).map(|place| place.at).min();
        let slowest = slowest.unwrap_or_else(|| self.ahead());
        let mut freed = 0;
        while self.first < slowest {
            freed += self.pieces.pop_front().map_or(0, |piece| piece.len());
            self.first += 1;
        }
        self.kept -= freed;
        freed
    }
}

impl Flight {
    /// An exchange that is about to begin.
    pub fn new(generation: u64, max_body: u64, budget: &Arc<Budget>) -> Arc<Self> {
        budget.flights.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { generation, max_body, budget: budget.clone(), state: Mutex::default() })
    }

    // A poisoned lock is still a lock: what it guards is changed word by word, each change whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more asker, if it may still be joined. One asks first, and is told what went wrong.
    pub fn join(self: &Arc<Self>, is_first: bool) -> Option<Seat> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        let index = state.free.pop().unwrap_or(state.seats.len());
        if index == state.seats.len() {
            state.seats.push(None);
        }
        state.seats[index] = Some(Place::default());
        Some(Seat { flight: self.clone(), index, is_first })
    }

    /// Lets nobody join any more, and with `is_own` keeps no more of the body than its one reader needs.
    pub fn close(&self, is_own: bool) {
        let mut state = self.lock();
        state.is_closed = true;
        if is_own {
            state.window = Some(MIN_WINDOW);
        }
    }

    /// Tells of the answer, and of its end where nothing follows the head.
    pub fn answer(&self, answered: Answered, end: Option<End>) {
        let mut state = self.lock();
        state.is_closed |= end.is_some();
        (state.answered, state.end) = (Some(Arc::new(answered)), end);
        let sleepers = state.sleepers();
        drop(state);
        wake(sleepers);
    }

    /// Tells that there is no answer.
    pub fn fail(&self, error: Option<ProxyError>) {
        let mut state = self.lock();
        state.is_closed = true;
        state.failed = Some(error);
        let sleepers = state.sleepers();
        drop(state);
        wake(sleepers);
    }

    /// Tells everybody that nobody is to ask.
    pub fn refuse(&self) {
        self.lock().is_refused = true;
        self.fail(None);
    }

    /// From now on an endpoint is asked; whoever asked first is counted as this.
    pub fn begin(&self, role: Coalesced) {
        self.lock().begun = Some((clock::now(), role));
    }

    /// What the one who asked first is counted as. One that leaves before an endpoint is asked has waited for other proxies.
    pub fn role(&self) -> Coalesced {
        let state = self.lock();
        match state.begun {
            Some((_, role)) => role,
            None if state.is_refused => Coalesced::Refused,
            None => Coalesced::Peer,
        }
    }

    /// How much longer to wait so that an endpoint has had `wait` for its answer.
    pub fn patience(&self, wait: Duration) -> Duration {
        self.lock().begun.map_or(wait, |(since, _)| wait.saturating_sub(since.elapsed()))
    }

    /// Whether its end is told, or that there is none.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.failed.is_some() || state.end.is_some()
    }

    /// Adds what came. `false` once the answer turns out larger than what is kept of one: from then on nobody may join.
    pub fn push(&self, piece: Bytes, end: Option<End>) -> bool {
        let mut state = self.lock();
        let length = piece.len();
        state.came += length as u64;
        state.kept += length;
        state.is_closed |= end.is_some();
        let kept = self.budget.kept.fetch_add(length, Ordering::Relaxed) + length;
        if length > 0 {
            state.pieces.push_back(piece);
        }
        let is_large = state.came > self.max_body || state.pieces.len() > MAX_PIECES || kept > self.budget.max_kept;
        let is_news = is_large && end.is_none() && state.window.is_none();
        if is_news {
            state.is_closed = true;
            state.window = Some(usize::try_from(self.max_body).unwrap_or(usize::MAX).max(MIN_WINDOW));
        }
        if end.is_some() {
            state.end = end;
        }
        let freed = state.forget();
        let sleepers = state.sleepers();
        drop(state);
        self.budget.kept.fetch_sub(freed, Ordering::Relaxed);
        wake(sleepers);
        !is_news
    }

    /// What the pilot may do now; it is woken when that changes.
    pub fn leave(&self, cx: &mut Context<'_>) -> Leave {
        let mut state = self.lock();
        if state.is_deserted() {
            return Leave::Deserted;
        }
        if !state.pilot.as_ref().is_some_and(|pilot| pilot.will_wake(cx.waker())) {
            state.pilot = Some(cx.waker().clone());
        }
        let freed = state.forget();
        self.budget.kept.fetch_sub(freed, Ordering::Relaxed);
        match state.window {
            Some(window) if state.kept >= window || state.pieces.len() >= MAX_PIECES => {
                let ahead = state.ahead();
                let holds_others = state.seats.iter().flatten().any(|place| !place.is_cut && place.at == ahead);
                Leave::Full { holds_others }
            }
            _ => Leave::GoOn,
        }
    }

    /// Notes who is furthest behind: the others are held up from now on.
    pub fn blame(&self) {
        let mut state = self.lock();
        let first = state.first;
        for place in state.seats.iter_mut().flatten() {
            place.is_blamed = place.at == first && !place.is_cut;
        }
    }

    /// The others are held up no more; they were for so long.
    pub fn excuse(&self, held: Duration) {
        for place in self.lock().seats.iter_mut().flatten().filter(|place| place.is_blamed) {
            place.held += held;
            place.is_blamed = false;
        }
    }

    /// Gives up those who hold up the others, this time for so long, and all in all for longer than `allowed`: what they need is
    /// forgotten. If there are none yet, the time until there are.
    pub fn cut(&self, held: Duration, allowed: Duration) -> Option<Duration> {
        let mut state = self.lock();
        let (mut sleepers, mut left) = (Wakers::new(), Some(Duration::MAX));
        for place in state.seats.iter_mut().flatten().filter(|place| place.is_blamed) {
            if place.held + held > allowed {
                (place.is_cut, left) = (true, None);
                sleepers.extend(place.waker.take());
            } else {
                left = left.map(|left| left.min(allowed - place.held - held));
            }
        }
        drop(state);
        wake(sleepers);
        left
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let kept = self.lock().kept;
        self.budget.kept.fetch_sub(kept, Ordering::Relaxed);
        self.budget.flights.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One asker's place. Dropping it is leaving; the last one to leave ends the exchange.
#[derive(Debug)]
pub struct Seat {
    flight: Arc<Flight>,
    index: usize,
    is_first: bool,
}

impl Seat {
    /// The flight it is in.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Waits for the answer's head.
    pub fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        let mut state = self.flight.lock();
        if state.is_refused {
            return Poll::Ready(News::Refused);
        }
        if let Some(error) = &mut state.failed {
            return Poll::Ready(News::Failed(error.take_if(|_| self.is_first)));
        }
        match &state.answered {
            Some(answered) => Poll::Ready(News::Answered(answered.clone())),
            None => {
                self.sleep(&mut state, cx);
                Poll::Pending
            }
        }
    }

    /// Whether the body broke off already: who has read nothing of it may ask anew.
    pub fn is_broken(&self) -> bool {
        matches!(self.flight.lock().end, Some(End::Broken(_)))
    }

    /// The next piece of the body; `None` at its end.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let mut state = self.flight.lock();
        let first = state.first;
        let Some(place) = &mut state.seats[self.index] else { return Poll::Ready(Err(BodyError::Truncated)) };
        if place.is_cut {
            return Poll::Ready(Err(BodyError::Truncated));
        }
        let next = (place.at - first) as usize;
        if let Some(piece) = state.pieces.get(next).cloned() {
            if let Some(place) = &mut state.seats[self.index] {
                place.at += 1;
            }
            // The pilot may have waited for just this.
            let pilot = if state.window.is_some() { state.pilot.take() } else { None };
            drop(state);
            pilot.into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(Some(piece)));
        }
        match &state.end {
            Some(End::Whole(_)) => Poll::Ready(Ok(None)),
            Some(End::Broken(fault)) => Poll::Ready(Err((*fault).into())),
            None => {
                self.sleep(&mut state, cx);
                Poll::Pending
            }
        }
    }

    /// Whether all of the body was read; the trailers that follow it are for `look`.
    pub fn is_over<T>(&self, look: impl FnOnce(Option<&Head>) -> T) -> Option<T> {
        let state = self.flight.lock();
        let ahead = state.ahead();
        let has_all = state.seats[self.index].as_ref().is_some_and(|place| !place.is_cut && place.at == ahead);
        match &state.end {
            Some(End::Whole(trailers)) if has_all => Some(look(trailers.as_deref())),
            _ => None,
        }
    }

    /// Whether the answer went on without it, since it was too far behind.
    pub fn is_cut(&self) -> bool {
        self.flight.lock().seats[self.index].as_ref().is_some_and(|place| place.is_cut)
    }

    fn sleep(&self, state: &mut State, cx: &Context<'_>) {
        let Some(place) = &mut state.seats[self.index] else { return };
        if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            place.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.seats[self.index] = None;
        state.free.push(self.index);
        let is_deserted = state.is_deserted();
        // Nobody joins what is about to be given up.
        state.is_closed |= is_deserted;
        let pilot = if is_deserted || state.window.is_some() { state.pilot.take() } else { None };
        drop(state);
        pilot.into_iter().for_each(Waker::wake);
    }
}
