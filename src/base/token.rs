//! A secret word that somebody shows to be let in.
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A secret that callers show. Never printed, and compared in a time that tells nothing but its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// A token of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text, for what signs in its name.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is it.
    pub fn is(&self, given: &[u8]) -> bool {
        self.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone_and_is_never_printed() {
        let token = Token::new("s3cret");
        assert!(token.is(b"s3cret"));
        for other in ["", "s3cre", "s3crets", "S3cret"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(***)");
    }
}
