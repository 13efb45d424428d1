//! Names that are also types: an upstream, a route, a listener, an endpoint. An endpoint's id is the stable text that
//! is hashed for placement; it never depends on an address or on the order of a list.
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes the text as it is; whoever reads settings has checked it.
            pub fn new(text: &str) -> Self {
                Self(Arc::from(text))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type!(
    /// The name of a group of endpoints and its policies.
    UpstreamName
);
name_type!(
    /// The name of a route: given, or made from what it matches.
    RouteName
);
name_type!(
    /// The name of a listener: given, or its address.
    ListenerName
);
name_type!(
    /// The stable text of one endpoint, hashed for placement: 1 to 128 characters of `A-Za-z0-9._:/[]-`.
    EndpointId
);

impl EndpointId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Whether `text` may be an endpoint id.
    pub fn is_valid(text: &str) -> bool {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:/[]-".contains(&b);
        (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_printable_text() {
        assert!(EndpointId::is_valid("10.0.0.1:8080"));
        assert!(EndpointId::is_valid("[::1]:80"));
        assert!(!EndpointId::is_valid(""));
        assert!(!EndpointId::is_valid("a b"));
        assert!(!EndpointId::is_valid(&"x".repeat(129)));
    }
}
