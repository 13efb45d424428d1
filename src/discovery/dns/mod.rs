//! Members from DNS: every address of a name (A and AAAA), or of the targets of a service (SRV). What was found is kept as
//! long as its TTL says; a failure is no answer, so the last members stay.
pub mod client;
pub mod message;

use super::EndpointSet;
use super::ProviderError;
use super::list;
use super::settings::Allowed;
use crate::base::backoff;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::snapshot::settings::Endpoint;
use client::Client;
use client::DnsError;
use message::Data;
use message::Kind;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;

/// Shortest and longest time between two look-ups, whatever the TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// Longest time after a failure; it begins with one second and doubles.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Targets of a service whose addresses are asked for at one time.
const MAX_AT_ONCE: usize = 16;
/// Largest weight of an endpoint.
const MAX_WEIGHT: u64 = 1000;

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, without a dot at its end.
    pub name: String,
    /// Which records, and what they do not say.
    pub records: Records,
    /// Whom to ask, in this order; empty: those that the system names.
    pub resolvers: Vec<SocketAddr>,
}

/// Which records name the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// Addresses, all at this port.
    Addresses(u16),
    /// A service: targets with ports and weights.
    Service,
}

/// A name that is looked up again and again.
#[derive(Debug)]
pub struct Dns {
    question: Question,
    allow: Allowed,
    client: Client,
    /// When it is looked up next; `None`: now.
    due: Option<Instant>,
    failures: u32,
    dice: Dice,
}

/// What a look-up found, and for how long that holds.
struct Found {
    set: EndpointSet,
    ttl: Duration,
}

impl Dns {
    /// A name nobody has looked up yet.
    pub fn new(question: Question, allow: Allowed) -> Self {
        let client = Client::new(question.resolvers.clone());
        let dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        Self { question, allow, client, due: None, failures: 0, dice }
    }

    /// Its members: at once, and then each time what was found last is too old.
    ///
    /// # Errors
    /// When nobody answers, or the name does not exist.
    pub async fn next(&mut self) -> Result<EndpointSet, ProviderError> {
        if let Some(due) = self.due {
            tokio::time::sleep_until(due.into()).await;
        }
        let found = match self.question.records {
            Records::Addresses(port) => self.addresses(port).await,
            Records::Service => self.service().await,
        };
        let (pause, result) = match found {
            Ok(Found { set, ttl }) => {
                self.failures = 0;
                (ttl.clamp(SHORTEST, LONGEST), Ok(set))
            }
            Err(error) => {
                let longest = backoff::bound(SHORTEST, LONGEST_AFTER_FAILURE, self.failures);
                self.failures = self.failures.saturating_add(1);
                (self.dice.around(longest), Err(error.into()))
            }
        };
        self.due = Some(clock::now() + pause);
        result
    }

    async fn addresses(&self, port: u16) -> Result<Found, DnsError> {
        let (addresses, ttl) = self.client.addresses(&self.question.name).await?;
        let mut found = Found { set: EndpointSet::default(), ttl };
        for address in addresses {
            let address = SocketAddr::new(address, port);
            self.add(&mut found.set, &address.to_string(), address, 1);
        }
        Ok(found)
    }

    async fn service(&self) -> Result<Found, DnsError> {
        let answer = self.client.ask(&self.question.name, Kind::Srv).await?;
        let mut targets = Vec::new();
        for record in &answer.records {
            match &record.data {
                // The root as the target: this service is not offered.
                Data::Srv(service) if !service.target.is_empty() => targets.push(service),
                _ => {}
            }
        }
        let first = targets.iter().map(|service| service.priority).min();
        targets.retain(|service| Some(service.priority) == first);
        let weights = weights(&targets.iter().map(|service| u64::from(service.weight)).collect::<Vec<_>>());
        let mut ttl = answer.ttl();
        let names = targets.iter().map(|service| service.target.clone()).collect();
        let places = self.places(names, &mut ttl).await?;
        let mut set = EndpointSet::default();
        for (service, weight) in targets.iter().zip(weights) {
            let addresses = &places[&service.target];
            for address in addresses {
                let server = format!("{}:{}", service.target, service.port);
                let id = if addresses.len() == 1 { server } else { format!("{server}/{address}") };
                self.add(&mut set, &id, SocketAddr::new(*address, service.port), weight);
            }
        }
        Ok(Found { set, ttl })
    }

    /// The addresses of each of these names; `ttl` is lowered to the shortest of them.
    async fn places(
        &self,
        mut names: Vec<String>,
        ttl: &mut Duration,
    ) -> Result<BTreeMap<String, Vec<IpAddr>>, DnsError> {
        names.sort_unstable();
        names.dedup();
        let mut places = BTreeMap::new();
        for some in names.chunks(MAX_AT_ONCE) {
            let mut asked = JoinSet::new();
            for name in some {
                let (client, name) = (self.client.clone(), name.clone());
                asked.spawn(async move { (client.addresses(&name).await, name) });
            }
            while let Some(answered) = asked.join_next().await {
                let Ok((answer, name)) = answered else { return Err(DnsError::NoAnswer(self.question.name.clone())) };
                let (addresses, holds) = answer?;
                *ttl = holds.min(*ttl);
                places.insert(name, addresses);
            }
        }
        Ok(places)
    }

    fn add(&self, set: &mut EndpointSet, id: &str, address: SocketAddr, weight: u64) {
        let is_known = |known: &Endpoint| known.id.as_str() == id;
        match list::member(id, &address.to_string(), weight, &self.allow) {
            Ok(member) if !set.members.iter().any(is_known) => set.members.push(member),
            Ok(_) => {}
            Err(error) => set.left_out.push(error.to_string()),
        }
    }
}

/// Weights of endpoints from those of a service. What is equal is 1, so that a name server that shares a hundred out over its
/// answers moves no key; else they are divided by what all have in common, and 1,000 at most. Without any weight means little,
/// not nothing.
fn weights(service: &[u64]) -> Vec<u64> {
    let common = service.iter().fold(0, |common, weight| divisor(common, (*weight).max(1))).max(1);
    let largest = service.iter().map(|weight| weight / common).max().unwrap_or(1).max(MAX_WEIGHT);
    let scaled = |weight: &u64| (weight / common * MAX_WEIGHT / largest).max(1);
    service.iter().map(scaled).collect()
}

fn divisor(a: u64, b: u64) -> u64 {
    if a == 0 { b } else { divisor(b % a, a) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_a_service_become_small_ones_of_the_same_proportion() {
        assert_eq!(weights(&[33, 33, 33]), [1, 1, 1]);
        assert_eq!(weights(&[50, 100]), [1, 2]);
        assert_eq!(weights(&[0, 0]), [1, 1]);
        assert_eq!(weights(&[0, 10]), [1, 10]);
        assert_eq!(weights(&[65_535, 1]), [1000, 1]);
        assert!(weights(&[]).is_empty());
    }
}
