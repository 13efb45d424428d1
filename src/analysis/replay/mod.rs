//! A log played through a configuration: how busy each endpoint would be, what caches of a size would answer, which keys are hot and
//! shared, what the load bound sends on. Pure: lines come in, numbers come out.
mod crowd;
mod load;
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
use crate::hotkeys::Sketch;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::snapshot::settings::Upstream;
use crate::telemetry::log_line::LogLine;
use load::Chosen;
use load::Load;
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
    name: Vec<u8>,
    has_durations: bool,
    elsewhere: u64,
    unknown: u64,
    lacks: Vec<Lack>,
}

/// What one upstream has seen.
#[derive(Debug)]
struct Group {
    load: Load,
    endpoints: Vec<Server>,
    weight: f64,
    keyless: u64,
    /// Requests that others than their owners served: of hot keys, and since somebody was over the bound.
    hot_replica: u64,
    overflow: u64,
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
}

impl Replay {
    /// One for a configuration's upstreams, in the reckoner's order. With a size, each endpoint has a cache of so many bytes.
    pub fn new(reckoner: Reckoner, upstreams: &[Upstream], cache: Option<u64>) -> Self {
        let group = |((_, ring), settings): (&(String, Ring), &Upstream)| Group::new(ring, settings, cache);
        Self {
            upstreams: reckoner.rings.iter().zip(upstreams).map(group).collect(),
            reckoner,
            name: Vec::new(),
            has_durations: false,
            elsewhere: 0,
            unknown: 0,
            lacks: Vec::new(),
        }
    }

    /// Plays a line.
    pub fn add(&mut self, line: &LogLine<'_>) {
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
        let group = &mut self.upstreams[upstream];
        let chosen = group.load.choose(&self.reckoner.rings[upstream].1, hash, line);
        let Some(chosen) = chosen else { return self.elsewhere += 1 };
        self.has_durations |= line.duration_ms.is_some();
        let object = is_cacheable(line).then(|| {
            self.name.clear();
            self.name.extend_from_slice(line.host.unwrap_or_default());
            self.name.push(0);
            self.name.extend_from_slice(line.target);
            OBJECTS.hash(&self.name)
        });
        group.serve(chosen, line, hash, object);
    }
}

/// Whether a cache may keep the answer: by its status, for nothing else is in a log.
fn is_cacheable(line: &LogLine<'_>) -> bool {
    matches!(line.method, b"GET" | b"HEAD")
        && matches!(line.status, 200 | 203 | 204 | 206 | 300 | 301 | 304 | 308 | 404 | 410)
}

impl Group {
    fn new(ring: &Ring, settings: &Upstream, cache: Option<u64>) -> Self {
        let server = |weight: u32| Server {
            weight: f64::from(weight),
            requests: 0,
            bytes: 0,
            cacheable: 0,
            hits: 0,
            cacheable_bytes: 0,
            hit_bytes: 0,
            cache: cache.map(Lru::new),
        };
        Self {
            load: Load::new(ring, settings.load_bound, settings.hot_keys),
            endpoints: ring.members().iter().map(|member| server(member.weight)).collect(),
            weight: ring.members().iter().map(|member| f64::from(member.weight)).sum(),
            keyless: 0,
            hot_replica: 0,
            overflow: 0,
            sketch: Sketch::new(HOTTEST),
            examples: Vec::new(),
        }
    }

    fn serve(&mut self, chosen: (Slot, Chosen), line: &LogLine<'_>, hash: u64, object: Option<u64>) {
        let (slot, why) = chosen;
        match why {
            Chosen::Owner => {}
            Chosen::HotReplica => self.hot_replica += 1,
            Chosen::Overflow => self.overflow += 1,
        }
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
}
