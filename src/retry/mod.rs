//! Try again? Pure: no pool, no ring, no sleeping.
pub mod budget;
pub mod policy;

use crate::head::Method;
use policy::Settings;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The client's side failed: nobody is left to answer to.
    Client,
    /// The endpoint takes no more: its keys are not sent elsewhere.
    Full,
    /// No connection; nothing was sent.
    Connect,
    /// A connection that had served before died without a byte of a response: it may have been dead already.
    StaleConnection,
    /// The connection died before a response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// The response may not be passed on.
    BadResponse,
    /// The endpoint answered with this status.
    Status(u16),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next distinct candidate.
    Next {
        /// Whether this is a retry that the budget must allow.
        spends_budget: bool,
    },
    /// The same endpoint once more, on a fresh connection.
    SameEndpoint,
    /// Nothing.
    GiveUp,
}

impl Settings {
    /// What follows a failed attempt. `sent` is how many bytes of the request were written, `can_replay` whether its body
    /// could be sent again, `retries` how many retries it has had.
    pub fn verdict(&self, method: Method, sent: u64, failure: Failure, can_replay: bool, retries: u32) -> Verdict {
        if !can_replay || failure == Failure::Client {
            return Verdict::GiveUp;
        }
        let is_safe = sent == 0 || method.is_idempotent();
        match failure {
            // Not a retry: the endpoint most likely never saw it.
            Failure::StaleConnection if is_safe => Verdict::SameEndpoint,
            // Nothing was sent: moving on costs nobody anything, so only `attempts = 0` stops it.
            Failure::Connect if self.on.connect && self.attempts > 0 => Verdict::Next { spends_budget: false },
            Failure::Reset | Failure::Timeout | Failure::Status(_) if is_safe && self.includes(failure) => {
                if retries < self.attempts { Verdict::Next { spends_budget: true } } else { Verdict::GiveUp }
            }
            _ => Verdict::GiveUp,
        }
    }

    fn includes(&self, failure: Failure) -> bool {
        match failure {
            Failure::Reset => self.on.reset,
            Failure::Timeout => self.on.timeout,
            Failure::Status(status) => self.on.includes_status(status),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, sent: u64, failure: Failure) -> Verdict {
        Settings::default().verdict(method, sent, failure, true, 0)
    }

    const RETRY: Verdict = Verdict::Next { spends_budget: true };

    #[test]
    fn a_post_is_not_repeated_after_the_first_byte() {
        for failure in [Failure::StaleConnection, Failure::Reset, Failure::Timeout, Failure::Status(502)] {
            assert_eq!(verdict(Method::Post, 1, failure), Verdict::GiveUp, "{failure:?}");
        }
        assert_eq!(verdict(Method::Post, 0, Failure::StaleConnection), Verdict::SameEndpoint);
        assert_eq!(verdict(Method::Post, 0, Failure::Connect), Verdict::Next { spends_budget: false });
        assert_eq!(verdict(Method::Post, 0, Failure::Reset), RETRY);
    }

    #[test]
    fn an_idempotent_request_is_repeated_as_listed() {
        assert_eq!(verdict(Method::Get, 9, Failure::StaleConnection), Verdict::SameEndpoint);
        assert_eq!(verdict(Method::Put, 9, Failure::Reset), RETRY);
        assert_eq!(verdict(Method::Get, 9, Failure::Status(502)), RETRY);
        assert_eq!(verdict(Method::Get, 9, Failure::Status(504)), RETRY);
        for failure in [Failure::Status(503), Failure::Timeout, Failure::BadResponse, Failure::Client] {
            assert_eq!(verdict(Method::Get, 9, failure), Verdict::GiveUp, "{failure:?}");
        }
    }

    #[test]
    fn attempts_and_bodies_set_an_end() {
        let policy = Settings::default();
        assert_eq!(policy.verdict(Method::Get, 9, Failure::Reset, true, 1), RETRY);
        assert_eq!(policy.verdict(Method::Get, 9, Failure::Reset, true, 2), Verdict::GiveUp);
        assert_eq!(policy.verdict(Method::Get, 0, Failure::Connect, true, 9), Verdict::Next { spends_budget: false });
        assert_eq!(policy.verdict(Method::Put, 9, Failure::Reset, false, 0), Verdict::GiveUp);
        let never = Settings { attempts: 0, ..Settings::default() };
        assert_eq!(never.verdict(Method::Get, 0, Failure::Connect, true, 0), Verdict::GiveUp);
        assert_eq!(never.verdict(Method::Get, 9, Failure::Reset, true, 0), Verdict::GiveUp);
        // A dead idle connection is our own doing, not an attempt of the client's.
        assert_eq!(never.verdict(Method::Get, 9, Failure::StaleConnection, true, 0), Verdict::SameEndpoint);
    }
}
