//! Closed lists of label values: what a client sends never becomes a label.

macro_rules! labels {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $type {
            /// All values; a value's number is its place here.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label's text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

labels! {
    /// What the endpoint that was asked is to the key.
    Position {
        /// The first candidate.
        Owner = "owner",
        /// A later candidate: those before it are out.
        Successor = "successor",
        /// A later candidate: those before it are out or have too many requests in flight.
        Overflow = "overflow",
        /// One of the candidates that share a hot key, and not the first of them.
        HotReplica = "hot_replica",
        /// A further attempt.
        Retry = "retry",
    }
}

labels! {
    /// What came of asking a key's previous owner for a cache.
    FillResult {
        /// It had the answer.
        Hit = "hit",
        /// It had none.
        Miss = "miss",
        /// It could not be reached, or did not answer in time.
        Failed = "failed",
        /// The request was such a question itself, which a cache has passed on: it went to the origin.
        Returned = "returned",
    }
}

labels! {
    /// How an endpoint failed.
    ErrorReason {
        /// It refused, or cannot be reached.
        Connect = "connect",
        /// It did not take the connection in time.
        ConnectTimeout = "connect_timeout",
        /// There was a connection, but no TLS on it: it did not prove who it is, refused us, or took too long.
        Tls = "tls",
        /// It does not speak HTTP/2, or had no room on its connections in time.
        Protocol = "protocol",
        /// The connection died before a response head.
        Reset = "reset",
        /// No response head in time.
        Timeout = "timeout",
        /// The response was not HTTP that may be passed on.
        BadResponse = "bad_response",
        /// The response broke off within its body.
        Body = "body",
        /// It has as many requests as it may take: this one was never sent.
        Overloaded = "overloaded",
    }
}

labels! {
    /// Why a request was tried again.
    RetryReason {
        /// No connection; the next candidate was asked without spending budget.
        Connect = "connect",
        /// The connection died.
        Reset = "reset",
        /// No response in time.
        Timeout = "timeout",
        /// The endpoint answered 502.
        Status502 = "502",
        /// The endpoint answered 503.
        Status503 = "503",
        /// The endpoint answered 504.
        Status504 = "504",
    }
}

labels! {
    /// What a request of a route that coalesces got its answer by.
    Coalesced {
        /// It was the first to ask: an endpoint was asked for it, and its answer was there for others.
        Filler = "filler",
        /// It was the first to ask here, and another proxy of the fleet was before it: an endpoint was asked once that had ended.
        Peer = "peer",
        /// By the answer that another got in this proxy.
        Local = "local",
        /// By an exchange of its own, after it had waited for another's answer for too long.
        Timeout = "timeout",
        /// By an exchange of its own: an answer that may not be shared came a moment ago.
        HitForMiss = "hit_for_miss",
        /// By an exchange of its own: the answer it waited for may not be shared.
        Unshared = "unshared",
        /// By an exchange of its own: those it waited for failed, one after the other.
        Failed = "failed",
        /// By an exchange of its own: what it says keeps it for itself.
        Bypass = "bypass",
        /// By an exchange of its own: there was no room for one more answer to be kept.
        Full = "full",
        /// By none: the store that elects who asks is lost, and it was refused.
        Refused = "refused",
    }
}

labels! {
    /// Why a connection or its bytes were turned away at the door.
    RefusedReason {
        /// The listener has as many as it may.
        MaxConnections = "max_connections",
        /// The client's address has as many as it may.
        MaxConnectionsPerIp = "max_connections_per_ip",
        /// The peer may not send PROXY headers, or sent none that may be accepted.
        ProxyProtocol = "proxy_protocol",
        /// No whole head in time.
        HeaderTimeout = "header_timeout",
        /// What came is not a request that may be accepted.
        BadRequest = "bad_request",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The TLS handshake took too long.
        TlsTimeout = "tls_timeout",
        /// The TLS handshake was the oldest of too many.
        TlsLimit = "tls_handshakes",
        /// The client showed no certificate although it must, or one that is not good.
        TlsClientCertificate = "tls_client_certificate",
        /// HTTP/2: streams are opened and reset, again and again.
        H2Resets = "h2_resets",
        /// HTTP/2: frames that ask for nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA), again and again.
        H2Control = "h2_control",
        /// HTTP/2: endless heads, refused streams or crumbs of data.
        H2Flood = "h2_flood",
        /// HTTP/2: the protocol was broken.
        H2Protocol = "h2_protocol",
        /// No descriptors or memory were left.
        Descriptors = "descriptors",
    }
}

labels! {
    /// The first digit of a status.
    StatusClass {
        /// 100 to 199
        Informational = "1xx",
        /// 200 to 299
        Success = "2xx",
        /// 300 to 399
        Redirection = "3xx",
        /// 400 to 499
        ClientError = "4xx",
        /// 500 to 599
        ServerError = "5xx",
    }
}

labels! {
    /// What a health check found.
    CheckResult {
        /// The answer was as wanted.
        Success = "success",
        /// It was not, or none came in time.
        Failure = "failure",
    }
}

labels! {
    /// Why a list of members, or a part of it, was not taken up.
    HeldBack {
        /// It cannot be read.
        Unreadable = "unreadable",
        /// A member of it cannot be one, and was left out.
        Member = "member",
        /// No ring can be made of it.
        Unusable = "unusable",
        /// It has too few members.
        MinMembers = "min_members",
        /// It has too many.
        MaxMembers = "max_members",
        /// It would remove so many that they must stay missing first.
        MaxDrop = "max_drop",
        /// It would remove more than may go without a person's word.
        MaxRemoved = "max_removed",
        /// It would give more keys to new owners than may be without a person's word.
        MaxMoved = "max_moved",
    }
}

labels! {
    /// What a store was asked for.
    StoreOp {
        /// All members, or all notices of a fleet.
        List = "list",
        /// A sign of life: its own, or that of a session there.
        Ping = "ping",
        /// A lock, or a place in its line.
        Acquire = "acquire",
        /// One lock for longer.
        Renew = "renew",
        /// A lock that is given back.
        Release = "release",
        /// A word for all others.
        Publish = "publish",
        /// What others have published.
        Read = "read",
    }
}

labels! {
    /// How it stands with a store, from well to ill.
    StoreState {
        /// It answers.
        Up = "up",
        /// It answers, and may have forgotten something: what is missing there is kept for a time, and no locks are given.
        Settling = "settling",
        /// It did not answer the last time, or has not been asked yet; nothing is given up.
        Suspect = "suspect",
        /// What needs it goes on without.
        Lost = "lost",
    }
}

labels! {
    /// What a lock is for.
    LockUse {
        /// Requests of one key go one after the other.
        Serialize = "serialize",
        /// One proxy asks for what many want.
        Coalesce = "coalesce",
        /// One proxy does a job for all.
        Elect = "elect",
    }
}

labels! {
    /// What came of asking for a lock.
    LockResult {
        /// It is ours.
        Granted = "granted",
        /// As many as may wait for it already.
        QueueFull = "queue_full",
        /// Others had it for too long.
        Timeout = "timeout",
        /// Its store does not answer.
        StoreLost = "store_lost",
        /// Its store does not answer, and one of this process stands in.
        Local = "local",
        /// Its store does not answer, and it goes without.
        Bypass = "bypass",
    }
}

labels! {
    /// How a lock was lost while it was held.
    LockLoss {
        /// It was not renewed in time, although the store answers.
        Deadline = "deadline",
        /// The store is lost.
        Store = "store",
        /// The store says that it is gone.
        Session = "session",
    }
}
