//! Routes: what takes a request and what is done with it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    ActiveHealth, Auth, BackendId, Cors, DirectResponse, HeaderEdits, HostPattern, IpAccess, LimitPolicy,
    LoadBalancing, Redirect, Rewrite, RouteExtras, RouteId, RouteTls, Upgrades, UpstreamProtocol, ser,
};

/// One rule of one object, with everything that the proxy needs to serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    pub id: RouteId,
    /// Seconds since 1970 when the object was created; the oldest wins a tie. `None` (folder) counts as oldest.
    pub created: Option<i64>,
    /// Place of the rule in its object; the first wins a tie.
    pub rule_index: u32,
    /// Empty: every host.
    pub hosts: Vec<HostPattern>,
    /// Any of them; never empty.
    pub matches: Vec<Match>,
    /// An Ingress's default backend: asked only when nothing else takes the request, on any host.
    pub last_resort: bool,
    /// `None`: the route's object says nothing of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
    pub cors: Option<Cors>,
    pub ip_access: IpAccess,
    /// Bytes; `None`: unlimited.
    pub request_body_bytes_max: Option<u64>,
    pub limits: Vec<Arc<LimitPolicy>>,
    /// All must pass.
    pub auth: Vec<Auth>,
    /// Headers by which other rules of the object tell their backends who asks: the client's own never reach a backend of
    /// this one either.
    #[serde(serialize_with = "ser::header_names", skip_serializing_if = "Vec::is_empty")]
    pub identity_headers: Vec<HeaderName>,
    pub header_edits: HeaderEdits,
    pub timeouts: Timeouts,
    pub action: Action,
    /// Only where the route forwards, and then not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extras: Option<Box<RouteExtras>>,
}

/// What becomes of a request that passed all policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::large_enum_variant, reason = "nearly every route forwards, so a box would save nothing")]
pub enum Action {
    Forward {
        /// Weights of 0 get nothing; when all are 0 or the list is empty the answer is 500.
        backends: Vec<WeightedBackend>,
        rewrite: Option<Rewrite>,
        retry: Retry,
        circuit_breaker: CircuitBreaker,
        load_balancing: LoadBalancing,
        passive_health: Option<PassiveHealth>,
        #[serde(skip_serializing_if = "Option::is_none")]
        active_health: Option<Arc<ActiveHealth>>,
        #[serde(skip_serializing_if = "Upgrades::is_default")]
        upgrades: Upgrades,
        /// Requests of gRPC-Web are sent on as gRPC, and their answers come back as gRPC-Web.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        grpc_web: bool,
    },
    Redirect(Redirect),
    Respond(DirectResponse),
    /// The rule or one of its policies could not be built: answered 500, whatever else it says.
    Fail(FailReason),
}

/// Why a rule fails closed. The text for people is in the translation's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum FailReason {
    /// Something in the rule itself (a regular expression, a filter, a reference).
    InvalidRule,
    /// An authentication or authorization policy of the rule.
    InvalidAuth,
    /// A rate-limit policy of the rule.
    InvalidLimit,
}

/// The conditions of one match; all must hold. Precedence is that of HTTPRoute (see the `table` room).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Match {
    pub path: PathMatch,
    /// Empty: any.
    #[serde(serialize_with = "ser::methods")]
    pub methods: Vec<Method>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
    pub cookies: Vec<CookieMatch>,
    /// Empty: any.
    pub client_cidrs: Vec<IpNet>,
}

/// Compared with the canonical path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    Exact {
        value: String,
        case_sensitive: bool,
    },
    /// By whole elements; no trailing slash, `/` takes everything.
    Prefix {
        value: String,
        case_sensitive: bool,
    },
    /// Must match the whole path; linear time.
    Regex {
        pattern: String,
        case_sensitive: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    #[serde(serialize_with = "ser::header_name")]
    pub name: HeaderName,
    pub value: ValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// Compared after percent-decoding, with regard to case.
    pub name: String,
    pub value: ValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CookieMatch {
    pub name: String,
    pub value: ValueMatch,
}

/// What a header, query parameter or cookie must be. A regular expression matches the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ValueMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
    Present,
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedBackend {
    pub target: BackendTarget,
    /// 0 to 1,000,000 (Gateway API BackendRef).
    pub weight: u32,
    #[serde(skip_serializing_if = "UpstreamProtocol::is_plain_http1")]
    pub protocol: UpstreamProtocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum BackendTarget {
    Backend(BackendId),
    /// No such Service or port, or a reference that is not allowed: its share is answered 500.
    Missing(BackendId),
}

/// `None`: no bound of that kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Until a connection stands; 503 (or another endpoint). Default 3 s.
    #[serde(serialize_with = "ser::millis")]
    pub connect: Duration,
    /// The whole of request and answer, all tries together; 504 before the answer's head, cut after it.
    #[serde(serialize_with = "ser::opt_millis")]
    pub request: Option<Duration>,
    /// One try until the answer's head.
    #[serde(serialize_with = "ser::opt_millis")]
    pub per_try: Option<Duration>,
    /// The longest time without progress to or from the upstream. Default 30 s.
    #[serde(serialize_with = "ser::opt_millis")]
    pub idle: Option<Duration>,
    /// What `idle` is for tunnels (WebSocket), gRPC and server-sent events, once they have begun. Default 1 h.
    #[serde(serialize_with = "ser::opt_millis", skip_serializing_if = "is_default_stream_idle")]
    pub stream_idle: Option<Duration>,
}

const STREAM_IDLE: Duration = Duration::from_secs(3600);

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn is_default_stream_idle(stream_idle: &Option<Duration>) -> bool {
    *stream_idle == Some(STREAM_IDLE)
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            request: None,
            per_try: None,
            idle: Some(Duration::from_secs(30)),
            stream_idle: Some(STREAM_IDLE),
        }
    }
}

/// When a request is tried again. What was never sent is always safe to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    pub on: Vec<RetryOn>,
    /// Methods that may be repeated after bytes were sent.
    #[serde(serialize_with = "ser::methods")]
    pub methods: Vec<Method>,
    #[serde(serialize_with = "ser::millis")]
    pub backoff_base: Duration,
    #[serde(serialize_with = "ser::millis")]
    pub backoff_max: Duration,
    /// Retries in per cent of the requests of the last ten seconds (ten a second are always free).
    pub budget_percent: u32,
    pub different_endpoint: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: vec![RetryOn::ConnectFailure, RetryOn::Reset],
            methods: vec![
                Method::GET,
                Method::HEAD,
                Method::OPTIONS,
                Method::PUT,
                Method::DELETE,
                Method::TRACE,
            ],
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget_percent: 20,
            different_endpoint: true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RetryOn {
    ConnectFailure,
    /// The connection broke before the answer's head.
    Reset,
    /// An answer with a status in this range, ends included.
    Status {
        first: u16,
        last: u16,
    },
}

/// Bounds on one backend, over all workers of the process; over one: 503 at once. `None`: no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CircuitBreaker {
    pub max_connections: Option<u32>,
    /// How many may wait for a connection once `max_connections` are open; 0: nobody waits.
    pub max_pending_requests: Option<u32>,
    pub max_requests: Option<u32>,
    pub max_retries: Option<u32>,
    /// A bound on requests under way that follows the backend's latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<BreakerFailures>,
}

/// Between which numbers a bound moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AdaptiveLimit {
    /// At least 1.
    pub min: u32,
    /// Not less than `min`.
    pub max: u32,
}

/// When failures of requests open the breaker of a backend, so that nothing is sent to it for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerFailures {
    /// In a row; 0: not counted.
    pub consecutive: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<SuccessRate>,
    #[serde(serialize_with = "ser::millis")]
    pub open_for: Duration,
    /// So many requests are let through after that, and all of them must succeed.
    pub probes: u32,
}

/// When failures take an endpoint out for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PassiveHealth {
    /// 0: not counted.
    pub consecutive_5xx: u32,
    /// 0: not counted.
    pub consecutive_connect_failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// The first time; as many times as long as the endpoint was ejected in a row.
    #[serde(serialize_with = "ser::millis")]
    pub eject_for: Duration,
    /// No ejection is longer, unless `eject_for` is.
    #[serde(serialize_with = "ser::millis", skip_serializing_if = "is_default_eject_for_max")]
    pub eject_for_max: Duration,
    /// At most this share of a backend's endpoints is out at once for what they answer. Those that can't be reached are
    /// out whatever the share, as long as one is left; 0: nobody is ejected.
    pub max_ejected_percent: u8,
    /// Below this share of well endpoints, in per cent of those that can be reached, health is ignored: all that can be
    /// reached are asked.
    #[serde(skip_serializing_if = "is_default_panic_percent")]
    pub panic_percent: u8,
}

/// How often an endpoint must answer well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SuccessRate {
    /// Out with less than this share of successes, 1 to 100.
    pub minimum_percent: u8,
    /// Fewer tries in an interval say nothing.
    pub minimum_requests: u32,
    #[serde(serialize_with = "ser::millis")]
    pub interval: Duration,
}

const EJECT_FOR_MAX: Duration = Duration::from_mins(5);
const PANIC_PERCENT: u8 = 25;

fn is_default_eject_for_max(eject_for_max: &Duration) -> bool {
    *eject_for_max == EJECT_FOR_MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_default_panic_percent(panic_percent: &u8) -> bool {
    *panic_percent == PANIC_PERCENT
}

impl Default for PassiveHealth {
    /// What holds where an object says nothing: an endpoint that cannot be reached is left alone for a time. Answers of
    /// 5xx take one out only where that is asked for: they may be the application's own word.
    fn default() -> Self {
        Self {
            consecutive_5xx: 0,
            consecutive_connect_failures: 3,
            success_rate: None,
            eject_for: Duration::from_secs(30),
            eject_for_max: EJECT_FOR_MAX,
            max_ejected_percent: 50,
            panic_percent: PANIC_PERCENT,
        }
    }
}
