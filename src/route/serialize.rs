//! Which requests of a route take turns, and by what. How they do is not known here.
use crate::head::Client;
use crate::head::Head;
use crate::key::KeySpec;
use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::percent_encode;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// What `%` and `+` are for here, and what cannot be seen.
const HIDDEN: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'+');
/// Longest name of what is locked; longer ones are told by their hash.
const MAX_NAME: usize = 256;

/// `[route.serialize]`
#[derive(Debug, Clone)]
pub struct Serialize {
    /// Methods whose requests take turns.
    pub methods: Vec<String>,
    /// Whose turn it is; `None`: by the route's key.
    pub key: Option<KeySpec>,
    /// Longest time a request waits for its turn.
    pub wait: Duration,
    /// How many may wait for one key in this process.
    pub max_queue: usize,
    /// Where turns are kept for a whole fleet; `None`: within this process.
    pub stored: Option<Stored>,
}

/// Turns that a store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The store's name.
    pub store: String,
    /// How long a lease lasts after its last renewal.
    pub lease: Duration,
    /// Whether a request ends when its lease is lost; otherwise it goes on.
    pub aborts: bool,
    /// What happens while there are no leases.
    pub on_loss: OnLoss,
}

/// What happens to requests that take turns while the store is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// They are refused.
    Refuse,
    /// They take turns within this process, without tokens.
    Local,
    /// They pass at once, without tokens.
    Bypass,
}

impl OnLoss {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Local, Self::Bypass];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Local => "local",
            Self::Bypass => "bypass",
        }
    }
}

impl Serialize {
    /// Whether a request takes turns with others.
    pub fn is_for(&self, head: &Head) -> bool {
        self.methods.iter().any(|method| method.as_bytes() == head.method_text())
    }

    /// What a request locks: its bytes in `scratch`, and its name. `key` is the route's. Requests that have no key at all take
    /// turns with each other, unless the client's address stands in.
    pub fn subject(
        &self,
        key: Option<&KeySpec>,
        by_client: bool,
        head: &Head,
        client: &Client,
        scratch: &mut Vec<u8>,
    ) -> String {
        scratch.clear();
        let Some(key) = self.key.as_ref().or(key) else { return name(scratch, false) };
        match key.extract(head, client, scratch) {
            Some(extracted) => name(scratch, key.is_joined(extracted.source)),
            None if by_client => {
                key.of_client(client, scratch);
                name(scratch, false)
            }
            None => {
                scratch.clear();
                name(scratch, false)
            }
        }
    }
}

/// The bytes of a key as visible text, each of its own: parts are joined by `+`, `%` alone is no key at all.
fn name(bytes: &[u8], is_joined: bool) -> String {
    if bytes.is_empty() {
        return "%".into();
    }
    let mut name = String::new();
    let mut rest = bytes;
    while is_joined && let Some((length, after)) = rest.split_first_chunk() {
        let (part, after) = after.split_at((u32::from_le_bytes(*length) as usize).min(after.len()));
        name.extend(percent_encode(part, HIDDEN).chain((!after.is_empty()).then_some("+")));
        rest = after;
    }
    if !is_joined {
        name.extend(percent_encode(bytes, HIDDEN));
    }
    // No encoded byte begins with `%x`.
    if name.len() > MAX_NAME { format!("%x{:032x}", xxh3_128(bytes)) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::PlacementHash;
    use crate::head::Method;

    fn subject(keys: &[&str], target: &str, fields: &[(&str, &str)]) -> String {
        let mut head = Head::default();
        head.set_request(Method::Post, b"POST", target.as_bytes());
        fields.iter().for_each(|(name, value)| head.push(name.as_bytes(), value.as_bytes()));
        let key = KeySpec::parse(keys, PlacementHash::default()).unwrap();
        let serialize =
            Serialize { methods: vec!["POST".into()], key: None, wait: Duration::ZERO, max_queue: 0, stored: None };
        let client = Client { ip: "10.0.0.1".parse().unwrap(), secure: false };
        let mut scratch = vec![1];
        let name = serialize.subject(Some(&key), false, &head, &client, &mut scratch);
        assert!(serialize.is_for(&head) && (name == "%") == scratch.is_empty());
        name
    }

    #[test]
    fn what_is_locked_has_a_name_of_visible_text() {
        assert_eq!(subject(&["path"], "/orders/17?x", &[]), "/orders/17");
        assert_eq!(subject(&["header:k"], "/", &[("K", "a b%+\u{e9}")]), "a%20b%25%2B%C3%A9");
        assert_eq!(subject(&["header:k + path"], "/a+b", &[("K", "x")]), "x+/a%2Bb");
        assert_eq!(subject(&["header:k"], "/", &[]), "%");
        let long = subject(&["path"], &format!("/{}", "a".repeat(300)), &[]);
        assert!(long.starts_with("%x") && long.len() == 34, "{long}");
    }
}
