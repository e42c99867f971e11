//! Rate limits.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::Serialize;

use crate::{ClaimCondition, Match, ObjectRef, ser};

/// A RateLimitPolicy as it applies to a route. One value is shared by all its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitPolicy {
    pub source: ObjectRef,
    pub counter_scope: CounterScope,
    pub headers: LimitHeaders,
    /// What a refused client is told; `None`: 429 and a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Arc<LimitAnswer>>,
    pub limits: Vec<Limit>,
}

/// The answer of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitAnswer {
    pub status: u16,
    /// `None`: the gateway's own, in the form that the client takes.
    pub body: Option<LimitBody>,
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum LimitBody {
    /// The gateway's own, in this form.
    Problem { is_json: bool },
    Text {
        /// Fit for a header.
        content_type: Arc<str>,
        text: Arc<str>,
    },
}

/// What shares the counters of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CounterScope {
    /// All its targets.
    Policy,
    /// The rules of one target.
    Target,
    /// Nothing: each rule has its own.
    Rule,
}

/// Which header fields tell of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitHeaders {
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), `Retry-After`.
    Standard,
    /// `X-RateLimit-*` of the limit with the least left, `Retry-After`.
    Legacy,
    None,
}

/// Which requests a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitWhen {
    /// One of them takes the request. Never empty.
    pub matches: Vec<Match>,
    /// Clients that are not counted.
    pub except: Vec<IpNet>,
    /// All of them hold of verified tokens. Not empty: the limit is asked after authentication.
    pub claims: Vec<ClaimCondition>,
}

/// One named limit of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub name: Arc<str>,
    /// `None`: every request.
    pub when: Option<LimitWhen>,
    /// The ordered tuple that names a bucket; empty means one bucket for all.
    pub keys: Vec<LimitKey>,
    /// All of them must pass; 1 to 4. Empty where there is `concurrency`.
    pub rates: Vec<Rate>,
    #[serde(skip_serializing_if = "LimitCost::is_one")]
    pub cost: LimitCost,
    /// How many requests may be in flight at once; then there are no rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How many buckets are kept at most.
    pub keys_max: u32,
    pub mode: LimitMode,
    pub phase: LimitPhase,
}

/// What a request is charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitCost {
    /// Before it passes. 0: it passes while anything is left.
    pub request: u32,
    /// The answer says by this header what it has cost in all. It goes no further.
    #[serde(serialize_with = "ser::opt_header_name")]
    pub response_header: Option<HeaderName>,
}

impl LimitCost {
    /// Whether every request costs one.
    pub const fn is_one(&self) -> bool {
        self.request == 1 && self.response_header.is_none()
    }
}

impl Default for LimitCost {
    fn default() -> Self {
        Self { request: 1, response_header: None }
    }
}

/// `max` requests at once; `queue` more wait for `queue_timeout` at most, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    pub max: u32,
    pub queue: u32,
    #[serde(serialize_with = "ser::millis")]
    pub queue_timeout: Duration,
}

/// `requests` per `per`. 0 requests refuse every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub requests: u32,
    #[serde(serialize_with = "ser::millis")]
    pub per: Duration,
    /// How many may pass at once, at least 1; only GCRA has a burst that is not `requests`.
    pub burst: u32,
    #[serde(skip_serializing_if = "RateCounting::is_gcra")]
    pub counting: RateCounting,
}

/// How requests are counted against a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum RateCounting {
    /// Refilled evenly.
    #[default]
    Gcra,
    /// Never more in any span of `per`.
    SlidingWindow,
    /// By spans of the calendar (UTC); `per` is a whole part of a day, or a week that begins on Monday.
    Calendar,
}

impl RateCounting {
    pub const fn is_gcra(&self) -> bool {
        match self {
            Self::Gcra => true,
            Self::SlidingWindow | Self::Calendar => false,
        }
    }
}

/// What a bucket is named by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum LimitKey {
    /// The client's address, cut to a prefix.
    ClientIp {
        ipv4_prefix: u8,
        ipv6_prefix: u8,
    },
    /// The value of a request header.
    Header {
        #[serde(serialize_with = "ser::header_name")]
        name: HeaderName,
        on_missing: OnMissing,
    },
    Cookie {
        name: Arc<str>,
        on_missing: OnMissing,
    },
    /// The decoded value of the first query parameter of the name.
    QueryParam {
        name: Arc<str>,
        on_missing: OnMissing,
    },
    /// The canonical path.
    Path,
    Host,
    Method,
    /// The route and its rule.
    RouteRule,
    /// A claim of the verified token.
    JwtClaim {
        provider: Option<Arc<str>>,
        claim: Arc<str>,
        on_missing: OnMissing,
    },
    /// The client whose API key was accepted.
    ApiKeyClient {
        on_missing: OnMissing,
    },
}

impl LimitKey {
    /// Whether it is known only after authentication.
    pub const fn needs_identity(&self) -> bool {
        match self {
            Self::JwtClaim { .. } | Self::ApiKeyClient { .. } => true,
            Self::ClientIp { .. }
            | Self::Header { .. }
            | Self::Cookie { .. }
            | Self::QueryParam { .. }
            | Self::Path
            | Self::Host
            | Self::Method
            | Self::RouteRule => false,
        }
    }
}

/// What becomes of a request that lacks a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OnMissing {
    /// The limit does not count it.
    Skip,
    /// All such requests share.
    Shared,
    /// It is refused.
    Reject,
    /// Its client's address stands in: all of IPv4, the /64 of IPv6.
    UseClientIp,
}

/// Whether a limit refuses or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitMode {
    Enforce,
    /// Counts and reports, never refuses, sends no header.
    Shadow,
}

/// Before authentication, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitPhase {
    PreAuth,
    PostAuth,
}
