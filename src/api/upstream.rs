//! How a rule speaks with its backends: references, timeouts, retries, breaker, passive health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::ActiveHealthCheck;
use crate::matches::yes;
use crate::text::{
    ADDRESS, DATA_KEY, DNS_LABEL, DNS_SUBDOMAIN, METHOD, NO_NAMESPACE, ONE_TARGET, PRECISE_HOSTNAME,
    TLS_PROTOCOL,
};
use crate::tls::SecretRef;
use crate::value::Duration;

/// A backend: a Service by `name`, or a fixed `address`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": ONE_TARGET.0, "message": ONE_TARGET.1},
    {"rule": NO_NAMESPACE.0, "message": NO_NAMESPACE.1},
    {
        "rule": TLS_PROTOCOL,
        "message": "tls needs a protocol with TLS; write protocol HTTPS or GRPCS, or remove tls",
    },
]))]
pub struct BackendRef {
    /// The Service's name: a DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: Option<String>,
    /// The Service's namespace. Unset: that of this object. Another one needs a ReferenceGrant there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub namespace: Option<String>,
    /// A host name or an IP address (IPv6 without brackets) instead of a Service. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = ADDRESS))]
    pub address: Option<String>,
    /// The port of the Service (not of its pods) or of the address: 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The share of the requests, in proportion to the sum of all weights: 0 (none) to 1000000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// How the backend is spoken to: HTTP (HTTP/1.1), H2C (HTTP/2), GRPC (HTTP/2), each without TLS, HTTPS (HTTP/1.1)
    /// or GRPCS (HTTP/2), both with TLS. Unset: what the Service port's `appProtocol` says, else HTTP; with `tls`
    /// always with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<BackendProtocol>,
    /// TLS towards the backend. Unset with a protocol that has TLS: verified by the authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Tells the backend who the client is, in a header of the PROXY protocol before the first byte: V1 (text) or V2
    /// (binary). Only with `spec.tls.mode: Passthrough`. Unset: it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How a backend is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum BackendProtocol {
    Http,
    H2c,
    Https,
    Grpc,
    Grpcs,
}

/// Whom the gateway takes for the backend, and what it shows for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.insecureSkipVerify) || !self.insecureSkipVerify || !has(self.validation) \
                 || (!has(self.validation.caRef) && !has(self.validation.subjectAltNames))",
        "message": "insecureSkipVerify verifies nothing; remove it, or caRef and subjectAltNames",
    },
]))]
pub struct BackendTls {
    /// How the backend's certificate is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<BackendValidation>,
    /// The Secret of type `kubernetes.io/tls` with the certificate that the gateway shows. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_ref: Option<SecretRef>,
    /// Takes any certificate of anyone. Then TLS keeps nobody out who can get between. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub insecure_skip_verify: bool,
}

/// What a backend's certificate must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendValidation {
    /// The authorities that may have issued it, and no others. Unset: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// The name that is asked for (SNI) and that the certificate must be for. Unset: `name.namespace.svc` of the
    /// Service (its `externalName`, if it is of that type), or the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = PRECISE_HOSTNAME))]
    pub hostname: Option<String>,
    /// Names of which the certificate must be for one, in the place of `hostname`. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253), regex(pattern = PRECISE_HOSTNAME)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub subject_alt_names: Vec<String>,
}

/// Certificates of authorities as PEM, in a ConfigMap or Secret in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// ConfigMap or Secret.
    pub kind: CaKind,
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// The entry. Default `ca.crt`.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// What may hold authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CaKind {
    ConfigMap,
    Secret,
}

/// Timeouts of a rule (GEP-2257 durations, each at least 1ms). A rule's timeouts take the place of
/// `defaults.timeouts` as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Until a connection to an endpoint stands. Unset: 3s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "duration(self) >= duration('1ms')", "message": "connect is at least 1ms; write a longer time"},
    ]))]
    pub connect: Option<Duration>,
    /// The whole of request and answer, all tries together. Unset or 0s: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One try until the head of its answer. Unset or 0s: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Duration>,
    /// The longest time without progress to or from the backend. Unset: 30s; 0s: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// The same for tunnels (WebSocket), gRPC and server-sent events, once they have begun. Unset: 1h; 0s: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
}

/// When a request is tried again. What was never sent is always safe to try again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first: 0 (never) to 10. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: u32,
    /// What is tried again: ConnectFailure (no connection), Reset (it broke before the head of an answer), a
    /// status code like `503` or a range like `500-599`. At most 16. Default ConnectFailure and Reset. Write
    /// the field as `"on"`, in quotes: kubectl reads a bare `on` as true.
    #[serde(default = "retry_on")]
    #[schemars(length(max = 16))]
    #[schemars(inner(
        length(min = 3, max = 16),
        regex(pattern = "^(ConnectFailure|Reset|[45][0-9]{2}(-[45][0-9]{2})?)$")
    ))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub on: Vec<String>,
    /// Methods that may be repeated after bytes were sent. At most 16. Default: the idempotent ones, GET,
    /// HEAD, OPTIONS, PUT, DELETE and TRACE.
    #[serde(default = "idempotent")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = METHOD)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<String>,
    /// How long to wait before a try.
    #[serde(default)]
    pub backoff: Backoff,
    /// Retries in per cent of the requests of the last ten seconds: 0 to 100; ten a second are always free.
    /// Default 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: u32,
    /// Whether another endpoint is taken where there is one. Default true.
    #[serde(default = "yes")]
    pub different_endpoint: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: one(),
            on: retry_on(),
            methods: idempotent(),
            backoff: Backoff::default(),
            budget_percent: twenty(),
            different_endpoint: true,
        }
    }
}

/// The wait before a retry: `base`, doubled each time, at most `max`, with jitter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "duration(self.base) <= duration(self.max)",
        "message": "backoff.base is at most backoff.max; raise max or lower base",
    },
]))]
pub struct Backoff {
    /// Before the first retry. Default 25ms.
    #[serde(default = "backoff_base")]
    pub base: Duration,
    /// The longest wait: at most 60s. Default 250ms.
    #[serde(default = "backoff_max")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "duration(self) <= duration('60s')", "message": "backoff.max is at most 60s; write a shorter time"},
    ]))]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: backoff_base(), max: backoff_max() }
    }
}

/// Bounds on each backend of the rule, over all cores of a replica; over one: 503 at once. Unset: no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections that are open at once: 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection once `maxConnections` are open: 0 (nobody waits) to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_pending_requests: Option<u32>,
    /// Requests that are under way at once: 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// Retries that are under way at once: 0 (none) to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_retries: Option<u32>,
    /// Beside these bounds one on requests under way that the gateway finds itself: it grows while the backend answers as
    /// quickly as it can, and falls in proportion when its answers slow down. For backends whose requests are much alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveConcurrency>,
    /// Opens the breaker when requests fail: then all are answered 503 with `Retry-After` at once, for a time. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<BreakerFailures>,
}

/// Between which numbers the bound moves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.minRequests <= self.maxRequests",
        "message": "minRequests is at most maxRequests; raise maxRequests or lower minRequests",
    },
]))]
pub struct AdaptiveConcurrency {
    /// So many requests may always be under way: 1 to 1000000. Default 4.
    #[serde(default = "least_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// Never more than so many: 1 to 1000000. Default 1000.
    #[serde(default = "most_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: u32,
}

fn least_requests() -> u32 {
    4
}

fn most_requests() -> u32 {
    1000
}

/// What opens the breaker of a backend, and how it closes again. A request fails when its last try was answered with 5xx, or
/// not at all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.consecutive) || has(self.successRate)",
        "message": "failures says nothing that could open the breaker; set consecutive or successRate",
    },
]))]
pub struct BreakerFailures {
    /// So many in a row: 1 to 10000. Unset: not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub consecutive: Option<u32>,
    /// So few successes of all requests in an interval. Unset: not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// How long nothing is sent: 100ms to 1h. Default 10s.
    #[serde(default = "open_for")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('100ms') && duration(self) <= duration('1h')",
            "message": "openFor is 100ms to 1h; write a time between them",
        },
    ]))]
    pub open_for: Duration,
    /// So many requests are let through after that. When all have succeeded the breaker is closed; the first that fails opens
    /// it again. 1 to 100. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub probes: u32,
}

/// How the health of endpoints is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// By the answers to the requests themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveHealthCheck>,
    /// By requests of the gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveHealthCheck>,
    /// Where fewer than this share of a backend's endpoints are well, in per cent of those that can be reached, health is
    /// ignored and all that can be reached are asked: so the last well ones are not overrun. 0 to 100; 0: only where none
    /// is well. Default 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: Option<u8>,
}

/// When failures take an endpoint out for a time. After it the endpoint gets one request, and that one says whether it
/// is in again or out for longer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.maxEjectFor) || !has(self.ejectFor) || duration(self.ejectFor) <= duration(self.maxEjectFor)",
        "message": "maxEjectFor is at least ejectFor; raise maxEjectFor or lower ejectFor",
    },
]))]
pub struct PassiveHealthCheck {
    /// So many answers with 5xx, or none at all (reset, timeout), in a row: 1 to 1000; 0: not counted. Default 5.
    #[serde(default = "five", rename = "consecutive5xx")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_5xx: u32,
    /// So many connections in a row that could not be opened or came to nothing (reset, timeout): 1 to 1000; 0: not
    /// counted. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_connect_failures: u32,
    /// So few successes of all requests in an interval. Unset: not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// How long the endpoint stays out the first time, and as many times as long when it must go out again before it was in
    /// for as long: 1s to 1h. Default 30s.
    #[serde(default = "eject_for")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
            "message": "ejectFor is 1s to 1h; write a time between them",
        },
    ]))]
    pub eject_for: Duration,
    /// No endpoint stays out for longer: 1s to 24h. Unset: 5m, or `ejectFor` where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
            "message": "maxEjectFor is 1s to 24h; write a time between them",
        },
    ]))]
    pub max_eject_for: Option<Duration>,
    /// At most this share of a backend's endpoints is out at once for what they answer, in per cent: 0 to 100. Those that
    /// cannot be connected to are out whatever the share, as long as one is left. 0: no endpoint is ever out. Default 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: u8,
}

impl Default for PassiveHealthCheck {
    fn default() -> Self {
        Self {
            consecutive_5xx: five(),
            consecutive_connect_failures: three(),
            success_rate: None,
            eject_for: eject_for(),
            max_eject_for: None,
            max_ejected_percent: fifty(),
        }
    }
}

/// How many of an endpoint's requests must succeed. A failure is an answer with 5xx, or none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// With less than this share of successes in an interval the endpoint goes out, in per cent: 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub minimum_percent: u8,
    /// Intervals with fewer requests say nothing: 1 to 1000000. Default 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_requests: u32,
    /// 1s to 10m. Default 10s.
    #[serde(default = "rate_interval")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('10m')",
            "message": "interval is 1s to 10m; write a time between them",
        },
    ]))]
    pub interval: Duration,
}

fn ca_key() -> String {
    crate::CA_KEY.to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_no(flag: &bool) -> bool {
    !flag
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn five() -> u32 {
    5
}

fn twenty() -> u32 {
    20
}

fn fifty() -> u8 {
    50
}

fn rate_interval() -> Duration {
    Duration::from_millis(10_000)
}

fn open_for() -> Duration {
    Duration::from_millis(10_000)
}

fn eject_for() -> Duration {
    Duration::from_millis(30_000)
}

fn backoff_base() -> Duration {
    Duration::from_millis(25)
}

fn backoff_max() -> Duration {
    Duration::from_millis(250)
}

fn retry_on() -> Vec<String> {
    ["ConnectFailure", "Reset"].map(String::from).to_vec()
}

fn idempotent() -> Vec<String> {
    ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"].map(String::from).to_vec()
}
