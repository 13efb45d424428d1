//! What a change moves of the requests in a log, not of the key space: a few keys may be most of the traffic.
use crate::analysis::reckon::Lack;
use crate::analysis::reckon::Reckoned;
use crate::analysis::reckon::Reckoner;
use crate::telemetry::log_line::LogLine;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What moves of a log's requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Lines read.
    pub lines: u64,
    /// Lines that are no line of a known log.
    pub unreadable: u64,
    /// Requests that both configurations find an owner for: `moved` is a share of them.
    pub requests: u64,
    /// Those whose owner is another.
    pub moved_requests: u64,
    /// Share of the requests whose owner is another, 0 to 1.
    pub moved: f64,
    /// Share of the answers' bytes that these are, 0 to 1.
    pub moved_bytes: f64,
    /// Requests without a key: anybody's, before and after.
    pub keyless: u64,
    /// Requests that no endpoint is asked for.
    pub elsewhere: u64,
    /// Requests whose owner cannot be told from this log.
    pub unknown: u64,
    /// Why not.
    pub why: Vec<String>,
    /// Requests by owner, the busiest first.
    pub endpoints: Vec<EndpointTraffic>,
}

/// The requests of one endpoint.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointTraffic {
    /// Its upstream.
    pub upstream: String,
    /// Its id.
    pub id: String,
    /// Requests it owns by the old configuration.
    pub before: u64,
    /// Requests it owns by the new one.
    pub after: u64,
}

/// Counts lines.
#[derive(Debug)]
pub struct Meter {
    before: Side,
    after: Side,
    counted: Vec<(u64, u64)>,
    names: Vec<(String, String)>,
    bytes: u64,
    moved_bytes: u64,
    lacks: Vec<Lack>,
    told: Traffic,
}

/// A configuration, and a number for each of its endpoints that both sides share.
#[derive(Debug)]
struct Side {
    reckoner: Reckoner,
    numbers: Vec<Vec<usize>>,
}

impl Side {
    fn new(reckoner: Reckoner, names: &mut BTreeMap<(String, String), usize>) -> Self {
        let mut numbers = Vec::new();
        for (upstream, ring) in &reckoner.rings {
            let mut number = |id: &str| {
                let next = names.len();
                *names.entry((upstream.clone(), id.to_string())).or_insert(next)
            };
            numbers.push(ring.members().iter().map(|member| number(member.id.as_str())).collect());
        }
        Self { reckoner, numbers }
    }

    /// The owner's number; `None` when there is none.
    fn owner(&self, upstream: usize, hash: u64) -> Option<usize> {
        let slot = self.reckoner.rings[upstream].1.owner(hash)?;
        Some(self.numbers[upstream][slot.0 as usize])
    }
}

impl Meter {
    /// One for what `after` does in place of `before`.
    pub fn new(before: Reckoner, after: Reckoner) -> Self {
        let mut names = BTreeMap::new();
        let (before, after) = (Side::new(before, &mut names), Side::new(after, &mut names));
        let mut by_number: Vec<((String, String), usize)> = names.into_iter().collect();
        by_number.sort_by_key(|(_, number)| *number);
        let told = Traffic {
            lines: 0,
            unreadable: 0,
            requests: 0,
            moved_requests: 0,
            moved: 0.0,
            moved_bytes: 0.0,
            keyless: 0,
            elsewhere: 0,
            unknown: 0,
            why: Vec::new(),
            endpoints: Vec::new(),
        };
        Self {
            before,
            after,
            counted: vec![(0, 0); by_number.len()],
            names: by_number.into_iter().map(|(name, _)| name).collect(),
            bytes: 0,
            moved_bytes: 0,
            lacks: Vec::new(),
            told,
        }
    }

    /// Counts a line of a log.
    pub fn add(&mut self, line: &[u8], scratch: &mut Vec<u8>) {
        self.told.lines += 1;
        match LogLine::parse(line, scratch) {
            Some(line) => self.count(&line),
            None => self.told.unreadable += 1,
        }
    }

    fn count(&mut self, line: &LogLine<'_>) {
        let was = self.before.reckoner.reckon(line);
        let is = self.after.reckoner.reckon(line);
        match (was, is) {
            (Reckoned::Unknown(lack), _) | (_, Reckoned::Unknown(lack)) => {
                self.told.unknown += 1;
                if !self.lacks.contains(&lack) {
                    self.lacks.push(lack);
                }
            }
            (Reckoned::Keyed(upstream, hash), is) => {
                let owner = self.before.owner(upstream, hash);
                let next = match is {
                    Reckoned::Keyed(upstream, hash) => self.after.owner(upstream, hash),
                    _ => None,
                };
                self.compare(owner, next, line.bytes);
            }
            (Reckoned::Keyless(_), _) | (_, Reckoned::Keyless(_)) => self.told.keyless += 1,
            (Reckoned::Elsewhere, _) => self.told.elsewhere += 1,
        }
    }

    fn compare(&mut self, owner: Option<usize>, next: Option<usize>, bytes: u64) {
        self.told.requests += 1;
        self.bytes += bytes;
        if owner != next {
            self.told.moved_requests += 1;
            self.moved_bytes += bytes;
        }
        if let Some(owner) = owner {
            self.counted[owner].0 += 1;
        }
        if let Some(next) = next {
            self.counted[next].1 += 1;
        }
    }

    /// What it came to.
    pub fn finish(self) -> Traffic {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let named = |((upstream, id), (before, after))| EndpointTraffic { upstream, id, before, after };
        let mut endpoints: Vec<EndpointTraffic> = self.names.into_iter().zip(self.counted).map(named).collect();
        endpoints.sort_by(|a, b| b.before.max(b.after).cmp(&a.before.max(a.after)).then_with(|| a.id.cmp(&b.id)));
        let mut told = self.told;
        told.moved = share(told.moved_requests, told.requests);
        told.moved_bytes = share(self.moved_bytes, self.bytes);
        told.why = self.lacks.into_iter().map(|lack| lack.as_str().to_string()).collect();
        told.endpoints = endpoints;
        told
    }
}
