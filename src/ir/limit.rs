//! Rate limits.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Serialize;

use crate::{ObjectRef, ser};

/// A RateLimitPolicy as it applies to a route. One value is shared by all its targets, and so are its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitPolicy {
    pub source: ObjectRef,
    pub limits: Vec<Limit>,
}

/// One named limit of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub name: Arc<str>,
    /// The ordered tuple that names a bucket; empty means one bucket for all.
    pub keys: Vec<LimitKey>,
    /// All of them must pass; 1 to 4.
    pub rates: Vec<Rate>,
    /// How many buckets are kept at most; the oldest goes first.
    pub keys_max: u32,
    pub mode: LimitMode,
    pub phase: LimitPhase,
}

/// `requests` per `per`, refilled evenly; `burst` may pass at once (at least 1). 0 requests refuse every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub requests: u32,
    #[serde(serialize_with = "ser::millis")]
    pub per: Duration,
    pub burst: u32,
}

/// What a bucket is named by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum LimitKey {
    /// The client's address, cut to a prefix.
    ClientIp {
        ipv4_prefix: u8,
        ipv6_prefix: u8,
    },
    /// The value of a request header; a request without it shares one bucket.
    Header {
        #[serde(serialize_with = "ser::header_name")]
        name: HeaderName,
    },
    /// The canonical path.
    Path,
    Host,
    Method,
    /// A claim of the verified token. A missing claim means the client's address.
    JwtClaim {
        provider: Option<Arc<str>>,
        claim: Arc<str>,
    },
}

/// Whether a limit refuses or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitMode {
    Enforce,
    /// Counts and reports, never refuses, sends no header.
    Shadow,
}

/// Before authentication, or after it because a key needs a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitPhase {
    PreAuth,
    PostAuth,
}
