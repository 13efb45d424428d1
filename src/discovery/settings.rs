//! Where an upstream's members come from, and what a list of them must be to be taken up.
use super::EndpointSet;
use super::dns::Question;
use super::dns::Records;
use super::judge::Judge;
use super::list;
use super::store;
use crate::base::clock;
use crate::base::units::Ratio;
use crate::ring::build::MAX_POINTS;
use crate::snapshot::settings::Endpoint;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[upstream.NAME.discovery]`
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who knows the members.
    pub source: Source,
    /// Where the last list is kept for a start without an answer; `None`: nowhere.
    pub snapshot: Option<PathBuf>,
    /// How long members that may not go at once must be missing (default 10 s).
    pub settle: Duration,
    /// Largest share of members that one change may remove at once (default 50 %).
    pub max_drop: Ratio,
    /// Fewest members of a list (default 1).
    pub min_members: usize,
    /// Most members of a list (default 10,000).
    pub max_members: usize,
    /// Networks of loopback and link-local members.
    pub allow: Allowed,
    /// What happens while the store is lost.
    pub on_loss: OnLoss,
    /// Points of each unit of weight: a ring has a largest size.
    pub vnodes: u32,
}

/// What happens to requests while the store of an upstream's members is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// The last members serve, for ever.
    ServeLast,
    /// They are refused once the store has been lost for this long.
    Refuse(Duration),
}

/// Who knows the members.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A file, TOML or JSON.
    File(PathBuf),
    /// A name of DNS.
    Dns(Question),
    /// A store.
    Store(store::Question),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Dns(Question { name, records: Records::Addresses(port), .. }) => write!(f, "dns {name}, port {port}"),
            Self::Dns(Question { name, records: Records::Service, .. }) => write!(f, "dns service {name}"),
            Self::Store(question) => write!(f, "store {}, {}", question.store.name, question),
        }
    }
}

/// Networks of this machine and this link whose addresses members may have: a list from outside could otherwise lead
/// requests to what only this machine should reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(pub Vec<IpNet>);

impl Allowed {
    /// Why a member may not be here; `None` when it may.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let ip = address.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
            return Some("is no address of a server");
        }
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let is_near = ip.is_loopback() || is_link_local;
        let is_allowed = || self.0.iter().any(|network| network.contains(&ip));
        (is_near && !is_allowed()).then_some("is loopback or link-local; name its network in `allow` if it is meant")
    }
}

impl Settings {
    /// The members without asking anybody but the disk; none when only a running proxy can know them.
    ///
    /// # Errors
    /// Why there are none although there should be, in words.
    pub fn offline(&self) -> Result<Vec<Endpoint>, String> {
        let kept = || self.snapshot.as_ref().and_then(|kept| list::read(kept, &self.allow).ok());
        let members = match &self.source {
            Source::File(path) => match list::read(path, &self.allow) {
                Ok(members) => members,
                Err(error) => kept().ok_or_else(|| error.to_string())?,
            },
            Source::Dns(_) | Source::Store(_) => kept().unwrap_or_default(),
        };
        if members.is_empty() {
            return Ok(members);
        }
        let start =
            Judge::new(Arc::new(self.clone()), &[]).hear(EndpointSet { members, left_out: Vec::new() }, clock::now());
        let verdict = start.map_err(|refused| refused.why)?;
        Ok(verdict.members.map(|members| members.to_vec()).unwrap_or_default())
    }

    /// Why no ring can be made of these members; `None` when one can.
    pub fn unusable(&self, members: &[Endpoint]) -> Option<String> {
        let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let points = weights.saturating_mul(u64::from(self.vnodes));
        if weights == 0 && !members.is_empty() {
            return Some("all weights are 0: nobody would own a key".into());
        }
        (points > MAX_POINTS as u64).then(|| format!("the ring would have {points} points, more than {MAX_POINTS}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_near_this_machine_must_be_allowed() {
        let allowed = Allowed(vec!["127.0.0.0/24".parse().unwrap()]);
        let check = |text: &str, is_fine: bool| {
            assert_eq!(allowed.refusal(text.parse().unwrap()).is_none(), is_fine, "{text}");
        };
        for fine in ["10.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", "2001:db8::1", "192.168.1.1"] {
            check(fine, true);
        }
        for refused in ["127.0.1.1", "::1", "169.254.169.254", "::ffff:169.254.1.1", "fe80::1", "0.0.0.0", "224.0.0.1"]
        {
            check(refused, false);
        }
    }
}
