//! What is known of a fleet's other proxies: their last notices, how their clocks go, since when somebody disagrees. One task
//! writes it, anybody reads it.
use super::notice::Notice;
use super::settings::Settings;
use super::starts::Change;
use super::starts::Starts;
use crate::base::clock;
use crate::store::health::StoreHealth;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Peers that are kept; a fleet is smaller.
const MAX_PEERS: usize = 1000;
/// Notices of a peer whose delays are remembered: the shortest of them tells most of its clock.
const MAX_DELAYS: usize = 8;

/// The other proxies, as one of them knows them.
#[derive(Debug)]
pub struct Peers {
    /// Where they meet.
    pub settings: Settings,
    /// What tells this proxy from all others, and from itself before a restart.
    pub instance: String,
    /// How it stands with the store.
    pub health: StoreHealth,
    /// When ramps began.
    pub starts: Arc<Starts>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    own: Notice,
    peers: BTreeMap<String, Peer>,
    /// When they were last looked at.
    listed: Option<Instant>,
    disagree_since: Option<Instant>,
    problem: Option<String>,
}

#[derive(Debug)]
struct Peer {
    notice: Notice,
    heard: Instant,
    /// By our clock and its, in milliseconds.
    delays: VecDeque<i64>,
}

/// What is known at one moment.
#[derive(Debug)]
pub struct Report {
    /// What others are told of this proxy.
    pub own: Notice,
    /// The others, by instance; none when the store has not answered for too long.
    pub peers: Vec<Known>,
    /// How long some peer has disagreed; `None` when all agree.
    pub disagreement: Option<Duration>,
    /// What is wrong, in words.
    pub problem: Option<String>,
}

/// One of the others.
#[derive(Debug)]
pub struct Known {
    /// What tells it from all others.
    pub instance: String,
    /// What it last told.
    pub notice: Notice,
    /// How long ago that came.
    pub heard: Duration,
    /// Whether it gives every key of the upstreams it shares with us to the endpoint we give it to.
    pub agrees: bool,
    /// How its clock goes; `None` until both have heard of each other.
    pub skew: Option<Skew>,
}

/// How another clock goes against ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How far it is ahead, in milliseconds; below 0 it is behind.
    pub ahead_ms: i64,
    /// How wrong that may be: half of the time that a notice takes there and back.
    pub error_ms: i64,
}

impl Report {
    /// Peers that agree.
    pub fn agreeing(&self) -> usize {
        self.peers.iter().filter(|peer| peer.agrees).count()
    }

    /// The clock that is farthest from ours, in milliseconds either way; `None` when none is known.
    pub fn largest_skew_ms(&self) -> Option<i64> {
        self.peers
            .iter()
            .filter_map(|peer| peer.skew)
            .map(|skew| skew.ahead_ms)
            .max_by_key(|ahead| ahead.unsigned_abs())
    }
}

impl Peers {
    /// Nobody is known yet.
    pub fn new(settings: Settings, instance: String, own: Notice, starts: Arc<Starts>) -> Self {
        let health = StoreHealth::new(settings.store.name.clone());
        let seen = Seen { own, peers: BTreeMap::new(), listed: None, disagree_since: None, problem: None };
        Self { settings, instance, health, starts, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others are to be told from now on.
    pub fn set_own(&self, own: Notice) {
        let mut seen = self.seen();
        seen.own = own;
        seen.judge(clock::now());
    }

    /// What others are to be told at this moment.
    pub fn own(&self, wall: Duration) -> Notice {
        let seen = self.seen();
        let shortest = |peer: &Peer| peer.delays.iter().min().copied();
        let delays = seen.peers.iter().filter_map(|(instance, peer)| Some((instance.clone(), shortest(peer)?)));
        let mut own = Notice { at: wall.as_millis() as u64, delays: delays.collect(), ..seen.own.clone() };
        for (upstream, (fingerprint, at)) in self.starts.own().1 {
            if let Some(ring) = own.rings.get_mut(&upstream).filter(|ring| ring.fingerprint == fingerprint) {
                ring.started = Some(at.as_millis() as u64);
            }
        }
        own
    }

    /// Takes in all notices there are. `is_prompt` says that the store told of a change just now, so that what is new shows how
    /// late it came. Says whether others should hear of us: they know less of clocks than we do, or have not seen us tell.
    pub fn hear(&self, notices: Vec<(String, Vec<u8>)>, is_prompt: bool, now: Instant, wall: Duration) -> bool {
        let mut seen = self.seen();
        let (mut peers, mut unreadable, mut is_news) = (BTreeMap::new(), Vec::new(), false);
        for (instance, text) in notices {
            if instance == self.instance || peers.len() >= MAX_PEERS {
                continue;
            }
            let Some(notice) = Notice::read(&text) else {
                unreadable.push(instance.escape_debug().take(64).collect::<String>());
                continue;
            };
            let known = seen.peers.remove(&instance);
            // Whoever is new learns most from a notice that it sees come.
            is_news |= known.is_none();
            let peer = match known {
                Some(known) if known.notice == notice => known,
                known => {
                    let mut delays = known.map(|known| known.delays).unwrap_or_default();
                    if is_prompt {
                        let before = delays.iter().min().copied();
                        delays.push_back(wall.as_millis() as i64 - notice.at as i64);
                        is_news |= delays.iter().min().copied() != before;
                        if delays.len() > MAX_DELAYS {
                            delays.pop_front();
                        }
                    }
                    Peer { notice, heard: now, delays }
                }
            };
            peers.insert(instance, peer);
        }
        seen.peers = peers;
        self.starts.hear(earliest(&self.instance, &seen.peers));
        seen.listed = Some(now);
        let count = unreadable.len();
        let problem = unreadable.first().map(|first| format!("{count} notices cannot be read: {first}"));
        if problem.is_some() && problem != seen.problem {
            tracing::warn!(problem, "Something among the fleet's notices is none.");
        }
        seen.problem = problem;
        seen.judge(now);
        is_news
    }

    /// How many others there were when they were last looked at.
    pub fn count(&self) -> u32 {
        self.seen().peers.len() as u32
    }

    /// The store does not answer.
    pub fn lost(&self, why: String) {
        self.health.lost();
        let mut seen = self.seen();
        if seen.problem.as_ref() != Some(&why) {
            tracing::warn!(
                store = self.settings.store.name,
                why,
                "The fleet's store is lost: whether peers agree is not known."
            );
        }
        seen.problem = Some(why);
    }

    /// What is known now.
    pub fn report(&self, now: Instant) -> Report {
        let seen = self.seen();
        // Three looks were missed: whoever was there then may be gone.
        let is_known = seen.listed.is_some_and(|listed| now.duration_since(listed) <= self.settings.peers_ttl);
        let known = |(instance, peer): (&String, &Peer)| Known {
            instance: instance.clone(),
            notice: peer.notice.clone(),
            heard: now.duration_since(peer.heard),
            agrees: seen.own.agrees(&peer.notice),
            skew: skew(&self.instance, peer),
        };
        Report {
            own: seen.own.clone(),
            peers: seen.peers.iter().filter(|_| is_known).map(known).collect(),
            disagreement: seen.disagree_since.filter(|_| is_known).map(|since| now.duration_since(since)),
            problem: seen.problem.clone(),
        }
    }
}

impl Seen {
    /// Notes since when somebody disagrees, and tells when that begins and ends.
    fn judge(&mut self, now: Instant) {
        let other = self.peers.values().find(|peer| !self.own.agrees(&peer.notice));
        match (other, self.disagree_since) {
            (Some(other), None) => {
                let (peer, what) = (&other.notice.name, self.own.differences(&other.notice).join("; "));
                tracing::warn!(peer, "A peer disagrees on who owns what: {what}.");
                self.disagree_since = Some(now);
            }
            (None, Some(since)) => {
                let seconds = now.duration_since(since).as_secs_f64();
                tracing::info!(seconds, "All peers agree again on who owns what.");
                self.disagree_since = None;
            }
            _ => {}
        }
    }
}

/// When each change began at the first of all peers, by our clock; of peers whose clocks are not known nothing is.
fn earliest(own_instance: &str, peers: &BTreeMap<String, Peer>) -> BTreeMap<Change, Duration> {
    let mut earliest: BTreeMap<Change, Duration> = BTreeMap::new();
    for peer in peers.values() {
        let Some(Skew { ahead_ms, error_ms }) = skew(own_instance, peer) else { continue };
        // What is within the error of knowing is no difference.
        let ahead = if ahead_ms.abs() > error_ms { ahead_ms } else { 0 };
        for (upstream, ring) in &peer.notice.rings {
            let Some(started) = ring.started else { continue };
            let at = Duration::from_millis(started.saturating_add_signed(ahead.saturating_neg()));
            let first = earliest.entry((upstream.clone(), ring.fingerprint.clone())).or_insert(at);
            *first = at.min(*first);
        }
    }
    earliest
}

/// How a peer's clock goes. What it tells at once comes to us late by the way here less what its clock is ahead; what we tell
/// comes to it late by the way there and what it is ahead.
fn skew(own_instance: &str, peer: &Peer) -> Option<Skew> {
    let (here, there) = (*peer.delays.iter().min()?, *peer.notice.delays.get(own_instance)?);
    let ahead_ms = there.saturating_sub(here) / 2;
    Some(Skew { ahead_ms, error_ms: (there.saturating_add(here) / 2).max(0) + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Address;
    use crate::base::address::Location;
    use crate::fleet::notice::RingNotice;

    fn notice(fingerprint: &str, at: u64, delays: &[(&str, i64)]) -> Notice {
        let ring = RingNotice {
            fingerprint: fingerprint.into(),
            settings: "s".into(),
            members: 1,
            weights: None,
            started: None,
        };
        Notice {
            name: "n".into(),
            version: "1".into(),
            generation: 1,
            rings: BTreeMap::from([("u".to_string(), ring)]),
            at,
            delays: delays.iter().map(|(instance, delay)| (instance.to_string(), *delay)).collect(),
        }
    }

    fn peers() -> Peers {
        let store = crate::store::settings::Settings {
            name: "e".into(),
            engine: crate::store::settings::Engine::Etcd,
            servers: vec![Location::At(Address::Ip("127.0.0.1:1".parse().unwrap()))],
            tls: None,
            login: None,
            root: "/r".into(),
            lease_ttl: Duration::from_secs(5),
        };
        let settings = Settings { store: Arc::new(store), name: "n".into(), peers_ttl: Duration::from_secs(10) };
        Peers::new(settings, "own".into(), notice("1", 0, &[]), Arc::default())
    }

    fn told(notices: &[(&str, &Notice)]) -> Vec<(String, Vec<u8>)> {
        notices.iter().map(|(instance, notice)| (instance.to_string(), serde_json::to_vec(notice).unwrap())).collect()
    }

    #[test]
    fn a_disagreement_lasts_until_all_agree() {
        let (peers, start) = (peers(), clock::now());
        let second = Duration::from_secs(1);
        let (same, other) = (notice("1", 0, &[]), notice("2", 0, &[]));
        let report = |at: u32| peers.report(start + at * second);
        peers.hear(told(&[("own", &other), ("a", &same)]), true, start, Duration::ZERO);
        assert_eq!((report(0).peers.len(), report(0).agreeing(), report(0).disagreement), (1, 1, None));
        peers.hear(told(&[("a", &same), ("b", &other)]), true, start + second, Duration::ZERO);
        assert_eq!((report(5).peers.len(), report(5).agreeing(), report(5).disagreement), (2, 1, Some(4 * second)));
        peers.hear(told(&[("a", &same), ("b", &same)]), true, start + 6 * second, Duration::ZERO);
        assert_eq!((report(7).agreeing(), report(7).disagreement), (2, None));
        assert_eq!(report(17).peers.len(), 0, "nobody is known when the store has not answered for long");
    }

    #[test]
    fn a_clock_that_is_ahead_is_seen_from_both_sides() {
        let (peers, now) = (peers(), clock::now());
        let at = |ms| Duration::from_millis(ms);
        // Its clock is 10 s ahead; notices take 20 ms here and 30 ms there.
        assert!(peers.hear(told(&[("a", &notice("1", 11_000, &[]))]), true, now, at(1_020)));
        assert_eq!(peers.report(now).peers[0].skew, None, "it has not heard of us");
        let late = notice("1", 12_000, &[("own", 10_030)]);
        assert!(!peers.hear(told(&[("a", &late)]), true, now, at(2_500)), "a late one is no news");
        assert_eq!(peers.report(now).peers[0].skew, Some(Skew { ahead_ms: 10_005, error_ms: 26 }));
        assert_eq!(peers.own(at(7)).delays, BTreeMap::from([("a".to_string(), -9_980)]));
        assert_eq!(peers.report(now).largest_skew_ms(), Some(10_005));
        let new = told(&[("b", &notice("1", 0, &[]))]);
        assert!(peers.hear(new.clone(), false, now, at(9_000)), "it should see us tell");
        assert!(
            !peers.hear(new, false, now, at(9_500)) && peers.own(at(7)).delays.is_empty(),
            "it told before we looked"
        );
    }

    #[test]
    fn what_is_no_notice_is_told_and_counts_for_nobody() {
        let peers = peers();
        peers.hear(vec![("x".into(), b"nonsense".to_vec())], true, clock::now(), Duration::ZERO);
        let report = peers.report(clock::now());
        assert_eq!((report.peers.len(), report.problem.as_deref()), (0, Some("1 notices cannot be read: x")));
    }
}
