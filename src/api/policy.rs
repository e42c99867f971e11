//! Policies that are attached by reference: RateLimitPolicy and AuthPolicy.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Auth, ClaimCondition, JwtProvider};
use crate::condition::Status;
use crate::matches::{HeaderMatch, PathMatch};
use crate::text::{CIDR, DNS_LABEL, DNS_SUBDOMAIN, METHOD, TOKEN};
use crate::value::Duration;

/// What a RateLimitPolicy says.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.baribhara.io",
    version = "v1alpha1",
    kind = "RateLimitPolicy",
    plural = "ratelimitpolicies",
    shortname = "rlp",
    category = "baribhara",
    namespaced,
    derive = "PartialEq",
    status = "Status",
    doc = "Limits how many requests its targets take in a time. Several policies on one target all apply.",
    label("gateway.networking.k8s.io/policy", "inherited"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitPolicySpec {
    /// What is limited: 1 to 16 objects of the same namespace.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name \
                     && has(a.sectionName) == has(b.sectionName) \
                     && (!has(a.sectionName) || a.sectionName == b.sectionName)))",
            "message": "a target stands twice in targetRefs; remove one of them",
        },
    ]))]
    pub target_refs: Vec<TargetRef>,
    /// Enforce; Shadow: counts and reports, but never refuses and sends no header; or Disabled: is not asked. Default
    /// Enforce.
    #[serde(default)]
    pub mode: LimitMode,
    /// What shares the counters: PerPolicy (all targets), PerTarget (the rules of one target) or PerRule. Default
    /// PerPolicy. `maxKeys` bounds each of them.
    #[serde(default)]
    pub counter_scope: CounterScope,
    /// How limits show in answers.
    #[serde(default)]
    pub response: LimitResponse,
    /// The limits: 1 to 32. All of them must pass.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Vec<Limit>,
}

/// What an AuthPolicy says.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.baribhara.io",
    version = "v1alpha1",
    kind = "AuthPolicy",
    plural = "authpolicies",
    shortname = "ap",
    category = "baribhara",
    namespaced,
    derive = "PartialEq",
    status = "Status",
    doc = "Says who may pass its targets. Several policies on one target, and its own `auth`, must all pass.",
    label("gateway.networking.k8s.io/policy", "inherited"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.auth.disabled) || !self.auth.disabled",
        "message": "a policy adds requirements and cannot be disabled; remove the policy or auth.disabled",
    },
]))]
pub struct AuthPolicySpec {
    /// What is protected: 1 to 16 objects of the same namespace.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name \
                     && has(a.sectionName) == has(b.sectionName) \
                     && (!has(a.sectionName) || a.sectionName == b.sectionName)))",
            "message": "a target stands twice in targetRefs; remove one of them",
        },
    ]))]
    pub target_refs: Vec<TargetRef>,
    /// Issuers of tokens that `auth` may name. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jwt_providers: Vec<JwtProvider>,
    /// What a request must bring.
    pub auth: Auth,
}

/// An object of the same namespace that a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.kind == 'Ingress') == (self.group == 'networking.k8s.io')",
        "message": "group does not fit kind; GatewayRoute is of gateway.baribhara.io and Ingress of networking.k8s.io",
    },
]))]
pub struct TargetRef {
    /// `gateway.baribhara.io` or `networking.k8s.io`.
    pub group: TargetGroup,
    /// GatewayRoute or Ingress.
    pub kind: TargetKind,
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// One rule of it: its name in a GatewayRoute; in an Ingress the index of the path, counted from 0 over
    /// all rules, or `default` for the default backend. Unset: the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub section_name: Option<String>,
}

/// The groups of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TargetGroup {
    #[serde(rename = "gateway.baribhara.io")]
    Baribhara,
    #[serde(rename = "networking.k8s.io")]
    Networking,
}

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TargetKind {
    GatewayRoute,
    Ingress,
}

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitResponse {
    /// Standard (`RateLimit-Policy` and `RateLimit`), Legacy (`X-RateLimit-Limit`, `-Remaining` and `-Reset` of the
    /// limit that has the least left) or None. Both say `Retry-After` when they refuse. Default Standard.
    #[serde(default)]
    pub headers: LimitHeaders,
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
        "rule": "!has(self.algorithm) || self.algorithm != 'SlidingWindow' || self.rates.all(r, !has(r.burst))",
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
    /// The rates: 1 to 4. All of them must pass.
    #[schemars(length(min = 1, max = 4))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rates: Vec<Rate>,
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

fn hundred_thousand() -> u32 {
    100_000
}
