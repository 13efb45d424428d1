//! Which clients a route takes: the most specific network decides, `deny` when both lists name the same one.
use ipnet::IpNet;
use std::net::IpAddr;

/// Networks that may use a route and networks that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may. Empty: everybody who is not denied.
    pub allow: Vec<IpNet>,
    /// Who may not.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether this client may. `client` is in canonical form: IPv4 is never written as IPv6.
    #[inline]
    pub fn permits(&self, client: IpAddr) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        let longest = |networks: &[IpNet]| {
            networks.iter().filter(|network| network.contains(&client)).map(IpNet::prefix_len).max()
        };
        match (longest(&self.allow), longest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], deny: &[&str], permitted: &[&str], refused: &[&str]) {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let access = Access { allow: networks(allow), deny: networks(deny) };
        permitted.iter().for_each(|ip| assert!(access.permits(ip.parse().unwrap()), "{ip}"));
        refused.iter().for_each(|ip| assert!(!access.permits(ip.parse().unwrap()), "{ip}"));
    }

    #[test]
    fn the_most_specific_network_decides() {
        check(&[], &[], &["10.0.0.1", "::1"], &[]);
        check(&["10.0.0.0/8"], &[], &["10.1.1.1"], &["11.0.0.1", "::1"]);
        check(&[], &["10.0.0.0/8"], &["11.0.0.1", "::1"], &["10.1.1.1"]);
        check(&["10.0.0.0/8"], &["10.1.0.0/16"], &["10.2.0.1"], &["10.1.0.1", "11.0.0.1"]);
        check(&["10.1.0.0/16"], &["0.0.0.0/0"], &["10.1.0.1"], &["10.2.0.1", "::1"]);
        check(&["10.0.0.0/8"], &["10.0.0.0/8"], &[], &["10.0.0.1"]);
        check(&["0.0.0.0/0", "::/0"], &["10.0.0.1/32"], &["10.0.0.2", "::1"], &["10.0.0.1"]);
    }
}
