//! A log played through a configuration: how busy each endpoint would be, what caches of a size would answer, which keys are hot,
//! what the load bound would send on. Pure: lines come in, numbers come out.
mod lru;
mod report;

pub use report::EndpointReport;
pub use report::HotKey;
pub use report::Report;
pub use report::UpstreamReport;

use crate::analysis::reckon::Lack;
use crate::analysis::reckon::Reckoned;
use crate::analysis::reckon::Reckoner;
use crate::base::hash::PlacementHash;
use crate::base::units::Ratio;
use crate::hotkeys::Sketch;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::bounded;
use crate::telemetry::log_line::LogLine;
use lru::Lru;

/// Keys that are told as the hottest.
const HOTTEST: usize = 16;
/// The longest part of a path that is told with a hot key.
const EXAMPLE: usize = 80;
/// What names of objects are hashed by.
const OBJECTS: PlacementHash = PlacementHash::Seeded(0x0b1e_c755);

/// Plays lines through one configuration.
#[derive(Debug)]
pub struct Replay {
    reckoner: Reckoner,
    upstreams: Vec<Group>,
    second: Vec<u8>,
    name: Vec<u8>,
    has_durations: bool,
    elsewhere: u64,
    unknown: u64,
    lacks: Vec<Lack>,
}

/// What one upstream has seen.
#[derive(Debug)]
struct Group {
    bound: Option<Ratio>,
    endpoints: Vec<Server>,
    weight: f64,
    keyless: u64,
    /// Requests in flight at one time in the second that runs, on the mean.
    busy: f64,
    overflow: f64,
    sketch: Sketch,
    /// Where each of the hottest keys was asked for, by its place in the sketch.
    examples: Vec<String>,
}

/// What one endpoint has seen.
#[derive(Debug)]
struct Server {
    weight: f64,
    requests: u64,
    bytes: u64,
    /// Requests that a cache may answer, those it would have, and their bytes.
    cacheable: u64,
    hits: u64,
    cacheable_bytes: u64,
    hit_bytes: u64,
    cache: Option<Lru>,
    busy: f64,
    requests_in_second: u64,
}

impl Replay {
    /// One for a configuration; `bounds` are the load bounds of its upstreams, in the reckoner's order. With a size, each endpoint has a
    /// cache of so many bytes.
    pub fn new(reckoner: Reckoner, bounds: &[Option<Ratio>], cache: Option<u64>) -> Self {
        let group = |((_, ring), bound): (&(String, Ring), &Option<Ratio>)| Group::new(ring, *bound, cache);
        Self {
            upstreams: reckoner.rings.iter().zip(bounds).map(group).collect(),
            reckoner,
            second: Vec::new(),
            name: Vec::new(),
            has_durations: false,
            elsewhere: 0,
            unknown: 0,
            lacks: Vec::new(),
        }
    }

    /// Plays a line.
    pub fn add(&mut self, line: &LogLine<'_>) {
        if line.second != self.second.as_slice() {
            self.second.clear();
            self.second.extend_from_slice(line.second);
            self.upstreams.iter_mut().for_each(Group::end_second);
        }
        let (upstream, hash) = match self.reckoner.reckon(line) {
            Reckoned::Keyed(upstream, hash) => (upstream, hash),
            Reckoned::Keyless(upstream) => return self.upstreams[upstream].keyless += 1,
            Reckoned::Elsewhere => return self.elsewhere += 1,
            Reckoned::Unknown(lack) => {
                if !self.lacks.contains(&lack) {
                    self.lacks.push(lack);
                }
                return self.unknown += 1;
            }
        };
        let Some(slot) = self.reckoner.rings[upstream].1.owner(hash) else { return self.elsewhere += 1 };
        self.has_durations |= line.duration_ms.is_some();
        let object = is_cacheable(line).then(|| {
            self.name.clear();
            self.name.extend_from_slice(line.host.unwrap_or_default());
            self.name.push(0);
            self.name.extend_from_slice(line.target);
            OBJECTS.hash(&self.name)
        });
        self.upstreams[upstream].serve(slot, line, hash, object);
    }
}

/// Whether a cache may keep the answer: by its status, for nothing else is in a log.
fn is_cacheable(line: &LogLine<'_>) -> bool {
    matches!(line.method, b"GET" | b"HEAD")
        && matches!(line.status, 200 | 203 | 204 | 206 | 300 | 301 | 304 | 308 | 404 | 410)
}

impl Group {
    fn new(ring: &Ring, bound: Option<Ratio>, cache: Option<u64>) -> Self {
        let server = |weight: u32| Server {
            weight: f64::from(weight),
            requests: 0,
            bytes: 0,
            cacheable: 0,
            hits: 0,
            cacheable_bytes: 0,
            hit_bytes: 0,
            cache: cache.map(Lru::new),
            busy: 0.0,
            requests_in_second: 0,
        };
        Self {
            bound,
            endpoints: ring.members().iter().map(|member| server(member.weight)).collect(),
            weight: ring.members().iter().map(|member| f64::from(member.weight)).sum(),
            keyless: 0,
            busy: 0.0,
            overflow: 0.0,
            sketch: Sketch::new(HOTTEST),
            examples: Vec::new(),
        }
    }

    fn serve(&mut self, slot: Slot, line: &LogLine<'_>, hash: u64, object: Option<u64>) {
        let server = &mut self.endpoints[slot.0 as usize];
        server.requests += 1;
        server.bytes += line.bytes;
        if let Some(object) = object {
            server.cacheable += 1;
            server.cacheable_bytes += line.bytes;
            if server.cache.as_mut().is_some_and(|cache| cache.ask(object, line.bytes)) {
                server.hits += 1;
                server.hit_bytes += line.bytes;
            }
        }
        // In a second, the mean number in flight is the sum of the seconds that requests took.
        let busy = line.duration_ms.unwrap_or(0.0) / 1000.0;
        server.busy += busy;
        server.requests_in_second += 1;
        self.busy += busy;
        if let (_, Some(place)) = self.sketch.add(hash) {
            if self.examples.len() <= place {
                self.examples.resize_with(place + 1, String::new);
            }
            let example = &mut self.examples[place];
            example.clear();
            let end = line.target.len().min(EXAMPLE);
            line.target[..end].iter().for_each(|byte| example.extend(byte.escape_ascii().map(char::from)));
        }
    }

    /// What the load bound would have sent on in the second that has ended.
    fn end_second(&mut self) {
        let bound = self.bound.map(|bound| bound.0);
        for server in &mut self.endpoints {
            if let Some(bound) = bound {
                let mean = self.busy * server.weight / self.weight.max(1.0);
                let most = bounded::most(bound, mean);
                if server.busy > most {
                    self.overflow += server.requests_in_second as f64 * (server.busy - most) / server.busy;
                }
            }
            (server.busy, server.requests_in_second) = (0.0, 0);
        }
        self.busy = 0.0;
    }
}
