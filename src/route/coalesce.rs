//! `[route.coalesce]`: which requests may be answered by one exchange for all of them. Sharing it is `proxy`'s.
use crate::head::Head;
use crate::head::Method;
use crate::head::edits::Edits;
use std::time::Duration;

/// Fields whose answer is for one asker alone, or for one asker's copy, unless `share_headers` makes their values a part of what
/// is asked for. The certificate is the client's, as it is told to endpoints.
const PERSONAL: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "client-cert",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// How requests that ask for the same at one time are answered by one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coalesce {
    /// Longest time to wait for another's answer before asking for oneself.
    pub wait: Duration,
    /// The largest body that is shared, and the most of one that is kept for those who are late or slow.
    pub max_body: u64,
    /// Fields, in lower case, whose values are a part of what is asked for: those that would keep a request for itself do not.
    pub share_headers: Vec<String>,
    /// What elects the one proxy of a fleet that asks; `None`: each proxy asks for its own.
    pub stored: Option<Stored>,
}

/// Exchanges that a store gives to one proxy after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The store's name.
    pub store: String,
    /// How long a lease lasts after its last renewal.
    pub lease: Duration,
    /// What happens while there are no leases.
    pub on_loss: OnLoss,
}

/// What happens to requests that coalesce over a fleet while the store is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// They coalesce within this process.
    Local,
    /// They are refused.
    Refuse,
}

impl OnLoss {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Local, Self::Refuse];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Refuse => "refuse",
        }
    }
}

impl Default for Coalesce {
    fn default() -> Self {
        Self { wait: Duration::from_secs(5), max_body: 1 << 20, share_headers: Vec::new(), stored: None }
    }
}

impl Coalesce {
    /// Why a request as it goes to the endpoint (`head` after `edits`) is answered for itself, in words; nothing when its answer
    /// may be another's, too.
    pub fn hindrance(&self, head: &Head, edits: &Edits, has_body: bool) -> Option<String> {
        if !matches!(head.method(), Method::Get | Method::Head) {
            return Some("it is neither GET nor HEAD".into());
        }
        if has_body {
            return Some("it has a body".into());
        }
        edits.resulting(head).find_map(|(name, _)| self.personal(name)).map(|name| format!("it has {name}"))
    }

    /// The name of a field that keeps requests for themselves.
    fn personal(&self, name: &[u8]) -> Option<&'static str> {
        let name = PERSONAL.into_iter().find(|personal| name.eq_ignore_ascii_case(personal.as_bytes()))?;
        (!self.share_headers.iter().any(|shared| shared == name)).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hindrance(share: &[&str], method: Method, fields: &[(&str, &str)]) -> Option<String> {
        let mut head = Head::default();
        head.set_request(method, b"?", b"/");
        fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
        let coalesce =
            Coalesce { share_headers: share.iter().map(|name| name.to_string()).collect(), ..Coalesce::default() };
        coalesce.hindrance(&head, &Edits::default(), false)
    }

    #[test]
    fn who_says_who_he_is_or_asks_for_a_part_is_answered_for_himself() {
        assert_eq!(hindrance(&[], Method::Get, &[("accept", "a"), ("user-agent", "b")]), None);
        assert_eq!(hindrance(&[], Method::Head, &[]), None);
        for method in [Method::Post, Method::Options, Method::Other] {
            assert!(hindrance(&[], method, &[]).is_some());
        }
        for name in PERSONAL {
            let upper = name.to_ascii_uppercase();
            assert_eq!(hindrance(&[], Method::Get, &[(&upper, "")]), Some(format!("it has {name}")));
            assert_eq!(hindrance(&[name], Method::Get, &[(&upper, "")]), None);
        }
        assert!(hindrance(&["cookie"], Method::Get, &[("Cookie", "a"), ("Authorization", "b")]).is_some());
    }

    #[test]
    fn what_the_endpoint_is_not_told_keeps_nobody() {
        let mut head = Head::default();
        head.set_request(Method::Get, b"GET", b"/");
        head.push(b"Cookie", b"a=1");
        let mut edits = Edits::default();
        edits.remove_named(&head, b"cookie");
        assert_eq!(Coalesce::default().hindrance(&head, &edits, false), None);
        edits.add(b"Client-Cert", b":AAAA:");
        assert_eq!(Coalesce::default().hindrance(&head, &edits, false).as_deref(), Some("it has client-cert"));
        assert!(Coalesce::default().hindrance(&Head::default(), &Edits::default(), true).is_some());
    }
}
