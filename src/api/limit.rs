//! The limits of a RateLimitPolicy: what they count, how much of it, and how they answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::ClaimCondition;
use crate::matches::{HeaderMatch, PathMatch};
use crate::text::{CIDR, DNS_LABEL, METHOD, TOKEN};
use crate::value::Duration;

/// Whether a limit refuses, only counts, or is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitMode {
    #[default]
    Enforce,
    Shadow,
    Disabled,
}

/// What shares the counters of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CounterScope {
    #[default]
    PerPolicy,
    PerTarget,
    PerRule,
}

/// How limits show in answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitResponse {
    /// The status of a refusal: 400 to 599. Default 429.
    #[serde(default = "too_many_requests")]
    #[schemars(range(min = 400, max = 599))]
    pub status_code: u16,
    /// The body of a refusal. Unset: the gateway's own, as application/problem+json or text/plain, whichever the client takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<LimitBody>,
    /// Standard (`RateLimit-Policy` and `RateLimit`), Legacy (`X-RateLimit-Limit`, `-Remaining` and `-Reset` of the
    /// limit that has the least left) or None. Both say `Retry-After` when they refuse. Default Standard.
    #[serde(default)]
    pub headers: LimitHeaders,
}

impl Default for LimitResponse {
    fn default() -> Self {
        Self { status_code: too_many_requests(), body: None, headers: LimitHeaders::default() }
    }
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.text) || !has(self.contentType) \
                 || self.contentType in ['application/problem+json', 'text/plain']",
        "message": "the gateway's own body is application/problem+json or text/plain; add text or change contentType",
    },
]))]
pub struct LimitBody {
    /// Its `Content-Type`. Without `text` application/problem+json or text/plain. Default application/problem+json.
    #[serde(default = "problem_json")]
    #[schemars(length(min = 3, max = 128))]
    pub content_type: String,
    /// The body, at most 4096 characters. Unset: the gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub text: Option<String>,
}

/// Which header fields tell of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitHeaders {
    #[default]
    Standard,
    Legacy,
    None,
}

/// One named limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.phase) || self.phase != 'PreAuth' \
                 || ((!has(self.when) || !has(self.when.claims) || size(self.when.claims) == 0) \
                 && (!has(self.keys) || !self.keys.exists(k, k.type in ['JWTClaim', 'APIKeyClient'])))",
        "message": "claims and API keys are known after authentication only; remove phase or write PostAuth",
    },
    {
        "rule": "(has(self.rates) && size(self.rates) > 0) != has(self.concurrency)",
        "message": "a limit has either rates or concurrency; add or remove one of them",
    },
    {
        "rule": "!has(self.concurrency) || !has(self.cost)",
        "message": "only rates have a cost; remove cost or concurrency",
    },
    {
        "rule": "!has(self.algorithm) || self.algorithm != 'SlidingWindow' || !has(self.rates) \
                 || self.rates.all(r, !has(r.burst))",
        "message": "a sliding window has no burst; remove burst or write algorithm GCRA",
    },
]))]
pub struct Limit {
    /// The limit's name, a DNS label; it stands in the `RateLimit` header.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Which requests count: all of its conditions hold. Unset: every request does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<LimitWhen>,
    /// What counts together: requests that are equal in all of these share a counter. Empty: all requests do.
    /// At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub keys: Vec<LimitKey>,
    /// The rates: 1 to 4, or none where there is `concurrency`. All of them must pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rates: Vec<Rate>,
    /// How many requests may be in flight at once, instead of rates. A request is in flight until its answer has ended, and a
    /// tunnel until it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What a request is charged. Unset: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<LimitCost>,
    /// How rates count that are not of the calendar. GCRA: refilled evenly, so that `burst` at once and then the rate are
    /// let through. SlidingWindow: never more than `requests` in any span of `per`; a request counts up to a fifteenth of
    /// `per` longer than that. Default GCRA.
    #[serde(default)]
    pub algorithm: LimitAlgorithm,
    /// When it is asked: PreAuth (before authentication), PostAuth (after it and after authorization), or Auto: PostAuth
    /// where a claim or an API key is used, else PreAuth. PreAuth with one of these is refused. Default Auto.
    #[serde(default)]
    pub phase: LimitPhase,
    /// Enforce, Shadow or Disabled. Unset: the policy's mode; but a policy that is Disabled asks none of its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
    /// How many counters are kept at most: 1 to 10000000; those that are used up least and asked for least go
    /// first. Default 100000.
    #[serde(default = "hundred_thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_keys: u32,
}

/// How many requests may be in flight at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// So many of each key: 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: u32,
    /// So many more of each key wait for their turn, in order: 0 to 1000. Default 0: nobody waits.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub queue: u32,
    /// How long one waits at most before it is refused: 1ms to 1m. Default 1s.
    #[serde(default = "one_second")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1ms') && duration(self) <= duration('1m')",
            "message": "queueTimeout is 1ms to 1m; write a time between them",
        },
    ]))]
    pub queue_timeout: Duration,
}

/// What a request is charged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.request) || self.request > 0 || has(self.responseHeader)",
        "message": "a request that costs nothing needs responseHeader; add it or raise request",
    },
]))]
pub struct LimitCost {
    /// Before it passes: 0 to 1000000, and no more than any rate lets through at once. 0: the request passes while anything is
    /// left, and the answer says what it cost. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub request: u32,
    /// By this header the backend's answer says what the request has cost in all; what is beyond `request` is charged then.
    /// Digits; more than 1000000 counts as that, and anything else as `request`. The client does not get to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub response_header: Option<String>,
}

/// How rates count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitAlgorithm {
    #[default]
    #[serde(rename = "GCRA")]
    Gcra,
    SlidingWindow,
}

/// When a limit is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitPhase {
    #[default]
    Auto,
    PreAuth,
    PostAuth,
}

/// Conditions of a limit. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitWhen {
    /// The request has one of these methods. Empty: any method. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = METHOD)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<String>,
    /// The canonical path is one of these. Empty: any path. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub paths: Vec<PathMatch>,
    /// All of these headers are as said. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderMatch>,
    /// The client's address lies in one of these networks (CIDR, or one address). Empty: any address. At most 64.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_cidrs: Vec<String>,
    /// The client's address lies in none of these networks. At most 64.
    #[serde(default, rename = "exceptClientCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub except_client_cidrs: Vec<String>,
    /// All of these hold of verified tokens, compared as in `authorization`; a request without the claim is not counted,
    /// whatever the operator. Empty: any request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub claims: Vec<ClaimCondition>,
}

/// One part of what names a counter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type in ['Header', 'Cookie', 'QueryParam']) == has(self.name)",
        "message": "a Header, Cookie or QueryParam key needs name and no other key takes one; add or remove name",
    },
    {
        "rule": "(self.type == 'JWTClaim') == has(self.claim)",
        "message": "a JWTClaim key needs claim and no other key takes one; add or remove claim",
    },
    {
        "rule": "self.type == 'JWTClaim' || !has(self.provider)",
        "message": "only a JWTClaim key takes provider; remove provider",
    },
    {
        "rule": "self.type in ['Header', 'Cookie', 'QueryParam', 'JWTClaim', 'APIKeyClient'] || !has(self.onMissing)",
        "message": "only a Header, Cookie, QueryParam, JWTClaim or APIKeyClient can be missing; remove onMissing",
    },
    {
        "rule": "self.type == 'ClientIP' || (!has(self.ipv4Prefix) && !has(self.ipv6Prefix))",
        "message": "only a ClientIP key takes ipv4Prefix and ipv6Prefix; remove them",
    },
]))]
pub struct LimitKey {
    /// ClientIP, Header, Cookie or QueryParam (the value of that of the `name`), Path (the canonical path), Host, Method,
    /// RouteRule (the route and its rule), JWTClaim (the `claim` of a verified token) or APIKeyClient (the id of the client
    /// whose API key was accepted).
    #[serde(rename = "type")]
    pub kind: LimitKeyType,
    /// Header, Cookie and QueryParam only: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: Option<String>,
    /// JWTClaim only: the provider whose token counts. Unset: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub provider: Option<String>,
    /// JWTClaim only: the claim, as its name, a dotted path or a JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// What becomes of a request without the header, cookie, parameter, claim or API key: Skip (the limit does not count
    /// it), Shared (all such requests share), Reject (it is refused as if the limit were reached) or UseClientIP (its
    /// client's address counts). Unset: UseClientIP for a JWTClaim and an APIKeyClient, Shared for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
    /// ClientIP only: so many bits of an IPv4 address count, 0 to 32. Unset: 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub ipv4_prefix: Option<u8>,
    /// ClientIP only: so many bits of an IPv6 address count, 0 to 128. Unset: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub ipv6_prefix: Option<u8>,
}

impl LimitKey {
    /// Bits of an IPv4 address that count where `ipv4Prefix` is not set.
    pub const IPV4_PREFIX_DEFAULT: u8 = 32;
    /// Bits of an IPv6 address that count where `ipv6Prefix` is not set: one subscriber's network.
    pub const IPV6_PREFIX_DEFAULT: u8 = 64;
}

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LimitKeyType {
    #[serde(rename = "ClientIP")]
    ClientIp,
    Header,
    Cookie,
    QueryParam,
    Path,
    Host,
    Method,
    RouteRule,
    #[serde(rename = "JWTClaim")]
    JwtClaim,
    #[serde(rename = "APIKeyClient")]
    ApiKeyClient,
}

/// What becomes of a request that lacks a part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnMissing {
    Skip,
    Shared,
    Reject,
    #[serde(rename = "UseClientIP")]
    UseClientIp,
}

/// So many requests in a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.calendar) || !self.calendar || !has(self.burst)",
        "message": "a rate of the calendar has no burst; remove burst or calendar",
    },
]))]
pub struct Rate {
    /// How many requests: 0 to 1000000000. 0 refuses every request.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub requests: u32,
    /// In which time: 1s to 744h (31 days).
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('744h')",
            "message": "per is 1s to 744h; write a time between them",
        },
    ]))]
    pub per: Duration,
    /// How many may pass at once: 1 to 1000000000. Unset: `requests`. Without effect where `requests` is 0. Only with GCRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<u32>,
    /// `requests` in each span of the calendar, in UTC: `per` divides a day (1m: each minute of the clock; 24h: each day from
    /// midnight), or is 168h (each week from Monday). Default false.
    #[serde(default)]
    pub calendar: bool,
}

fn too_many_requests() -> u16 {
    429
}

fn problem_json() -> String {
    "application/problem+json".into()
}

fn one() -> u32 {
    1
}

fn one_second() -> Duration {
    Duration::from_millis(1000)
}

fn hundred_thousand() -> u32 {
    100_000
}
