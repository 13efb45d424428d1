//! Fencing tokens: whoever writes with one outdates everybody who has a lower one.
use crate::base::clock;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A token. As text it has a fixed width, so that tokens compare as texts do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    epoch: u64,
    index: u64,
}

impl Token {
    /// The token of a store's epoch (when what it knows began, so that one that lost its data does not begin at the bottom) and of
    /// a number that rises within it.
    pub fn new(epoch: u64, index: u64) -> Self {
        Self { epoch, index }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}.{:020}", self.epoch, self.index)
    }
}

/// Tokens of locks within this process: the clock in microseconds, and never one twice or a lower one. Those of a program that
/// is started again later are higher, unless the clock was set back meanwhile.
#[derive(Debug, Default)]
pub struct Tokens(AtomicU64);

impl Tokens {
    /// The next one.
    pub fn next(&self) -> Token {
        self.after(clock::since_epoch().as_micros() as u64)
    }

    fn after(&self, now: u64) -> Token {
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            match self.0.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Token::new(0, next),
                Err(other) => last = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_compare_as_their_texts_do() {
        let tokens =
            [(0, 1), (0, 9), (0, 10), (1, 0), (9, 5), (10, 4), (u64::MAX, u64::MAX)].map(|(e, i)| Token::new(e, i));
        assert!(tokens.is_sorted() && tokens.map(|token| token.to_string()).is_sorted());
        assert_eq!(Token::new(1, 2).to_string(), "00000000000000000001.00000000000000000002");
        assert!(tokens.iter().all(|token| token.to_string().len() == 41));
    }

    #[test]
    fn tokens_rise_also_when_the_clock_does_not() {
        let tokens = Tokens::default();
        let given = [100, 100, 99, 5, 103, 0].map(|now| tokens.after(now).index);
        assert_eq!(given, [100, 101, 102, 103, 104, 105]);
        assert!(tokens.next() < tokens.next());
    }
}
