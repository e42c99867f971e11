//! Every metric's name, type, labels and help, once. Holds no value.

/// One metric as it is exposed. `docs/metrics.md` has a line for each; a test holds the two together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: FamilyKind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// The types of the Prometheus text format that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

/// All of them, in the order in which they are exposed.
pub(super) const ALL: [&Family; 56] = [
    &HTTP_REQUESTS_TOTAL,
    &HTTP_REQUEST_DURATION_SECONDS,
    &RETRIES_TOTAL,
    &AFFINITY_SESSIONS_TOTAL,
    &HTTP_REQUESTS_IN_FLIGHT,
    &HTTP_REQUESTS_PER_SECOND,
    &MEMORY_USAGE_BYTES,
    &CPU_USAGE_PERCENT,
    &MEMORY_HELD_BYTES,
    &MEMORY_BUDGET_BYTES,
    &OVERLOADED,
    &SHED_TOTAL,
    &BUILD_INFO,
    &CONFIG_GENERATION,
    &CONFIG_GENERATION_PUBLISHED,
    &CONFIG_REJECTED_OBJECTS,
    &CONFIG_RELOADS_TOTAL,
    &LEADER,
    &LAST_GOOD_IN_USE,
    &WATCH_UP,
    &CONNECTIONS,
    &PROXY_PROTOCOL_REFUSED_TOTAL,
    &TLS_HANDSHAKES_TOTAL,
    &TUNNELS_OPEN,
    &PASSTHROUGH_TOTAL,
    &ERROR_PAGES_TOTAL,
    &MIRRORED_REQUESTS_TOTAL,
    &FAULTS_INJECTED_TOTAL,
    &TLS_CERTIFICATES,
    &TLS_CERTIFICATE_NOT_AFTER_SECONDS,
    &TLS_OCSP_NEXT_UPDATE_SECONDS,
    &TLS_CRL_NEXT_UPDATE_SECONDS,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_CONNECT_FAILURES_TOTAL,
    &ENDPOINT_EJECTIONS_TOTAL,
    &BACKEND_ENDPOINTS,
    &HEALTH_CHECKS_TOTAL,
    &HEALTH_CHANGES_TOTAL,
    &BREAKER_STATE,
    &BREAKER_REJECTED_TOTAL,
    &ADAPTIVE_LIMIT,
    &RATELIMIT_REJECTED_TOTAL,
    &RATELIMIT_SHADOWED_TOTAL,
    &RATELIMIT_EVICTED_KEYS_TOTAL,
    &RATELIMIT_IN_FLIGHT,
    &RATELIMIT_QUEUED,
    &PASSWORD_CHECKS_TOTAL,
    &EXTERNAL_AUTH_TOTAL,
    &EXTERNAL_AUTH_DURATION_SECONDS,
    &JWKS_AGE_SECONDS,
    &JWKS_KEYS,
    &JWKS_FETCH_FAILURES_TOTAL,
    &JWKS_REFETCHES_TOTAL,
    &ACCESS_LOG_DROPPED_TOTAL,
    &TASK_RESTARTS_TOTAL,
    &PANICS_TOTAL,
];

pub(super) const HTTP_REQUESTS_TOTAL: Family = Family {
    name: "http_requests_total",
    kind: FamilyKind::Counter,
    labels: &["method", "endpoint", "status_code"],
    help: "Finished requests by method, route and status code.",
};

pub(super) const HTTP_REQUEST_DURATION_SECONDS: Family = Family {
    name: "http_request_duration_seconds",
    kind: FamilyKind::Histogram,
    labels: &["method", "endpoint"],
    help: "Time from the whole request head to the end of the answer.",
};

pub(super) const HTTP_REQUESTS_IN_FLIGHT: Family = Family {
    name: "http_requests_in_flight",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Requests that are being served now.",
};

pub(super) const HTTP_REQUESTS_PER_SECOND: Family = Family {
    name: "http_requests_per_second",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Requests finished per second, over the last second.",
};

pub(super) const MEMORY_USAGE_BYTES: Family = Family {
    name: "memory_usage_bytes",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Resident memory of the process.",
};

pub(super) const CPU_USAGE_PERCENT: Family = Family {
    name: "cpu_usage_percent",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "CPU time of the process over the last second; 100 is one core.",
};

pub(super) const MEMORY_HELD_BYTES: Family = Family {
    name: "baribhara_memory_held_bytes",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Memory of the process that the kernel can't take back (resident, without pages of files): what the budget bounds.",
};

pub(super) const MEMORY_BUDGET_BYTES: Family = Family {
    name: "baribhara_memory_budget_bytes",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Held memory from which on new load is turned away; 0 without a budget.",
};

pub(super) const OVERLOADED: Family = Family {
    name: "baribhara_overloaded",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "1 while new load is turned away for want of memory, else 0.",
};

pub(super) const SHED_TOTAL: Family = Family {
    name: "baribhara_shed_total",
    kind: FamilyKind::Counter,
    labels: &["what", "budget"],
    help: "Requests and connections that were turned away, by the budget that was used up.",
};

pub(super) const BUILD_INFO: Family = Family {
    name: "baribhara_build_info",
    kind: FamilyKind::Gauge,
    labels: &["version"],
    help: "Always 1; the version stands in the label.",
};

pub(super) const CONFIG_GENERATION: Family = Family {
    name: "baribhara_config_generation",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "The generation of the configuration that all workers serve.",
};

pub(super) const CONFIG_GENERATION_PUBLISHED: Family = Family {
    name: "baribhara_config_generation_published",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "The generation that the control plane made last; the data plane is behind while it serves an older one.",
};

pub(super) const LEADER: Family = Family {
    name: "baribhara_leader",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "1 on the replica that writes status, else 0.",
};

pub(super) const LAST_GOOD_IN_USE: Family = Family {
    name: "baribhara_last_good_in_use",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "1 while the last good copy is served because the API server was not reached yet.",
};

pub(super) const WATCH_UP: Family = Family {
    name: "baribhara_watch_up",
    kind: FamilyKind::Gauge,
    labels: &["kind"],
    help: "1 while the watch of this kind stands. Only in a cluster.",
};

pub(super) const CONFIG_REJECTED_OBJECTS: Family = Family {
    name: "baribhara_config_rejected_objects",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Objects that are refused now; their last good version stays, if there is one.",
};

pub(super) const CONFIG_RELOADS_TOTAL: Family = Family {
    name: "baribhara_config_reloads_total",
    kind: FamilyKind::Counter,
    labels: &["result"],
    help: "Configurations put into service; partial: while some object was refused.",
};

pub(super) const CONNECTIONS: Family = Family {
    name: "baribhara_connections",
    kind: FamilyKind::Gauge,
    labels: &["listener"],
    help: "Open connections of clients.",
};

pub(super) const PROXY_PROTOCOL_REFUSED_TOTAL: Family = Family {
    name: "baribhara_proxy_protocol_refused_total",
    kind: FamilyKind::Counter,
    labels: &["listener"],
    help: "Connections that were closed because they must begin with a PROXY protocol header and did not.",
};

pub(super) const TUNNELS_OPEN: Family = Family {
    name: "baribhara_tunnels_open",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Open tunnels: WebSockets, other protocols that clients changed to, and connections that are passed through.",
};

pub(super) const PASSTHROUGH_TOTAL: Family = Family {
    name: "baribhara_passthrough_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "result"],
    help: "Connections to be passed through with their TLS as it is, by route and by what became of them.",
};

pub(super) const ERROR_PAGES_TOTAL: Family = Family {
    name: "baribhara_error_pages_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "result"],
    help: "Errors for which a page was asked, by whether there was one.",
};

pub(super) const MIRRORED_REQUESTS_TOTAL: Family = Family {
    name: "baribhara_mirrored_requests_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "result"],
    help: "Copies of requests for mirrors, by what became of them.",
};

pub(super) const FAULTS_INJECTED_TOTAL: Family = Family {
    name: "baribhara_faults_injected_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "fault"],
    help: "Requests that were delayed or aborted on purpose.",
};

pub(super) const TLS_HANDSHAKES_TOTAL: Family = Family {
    name: "baribhara_tls_handshakes_total",
    kind: FamilyKind::Counter,
    labels: &["listener", "result"],
    help: "TLS handshakes with clients by how they ended.",
};

pub(super) const TLS_CERTIFICATES: Family = Family {
    name: "baribhara_tls_certificates",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "Certificates that clients are served with now.",
};

pub(super) const TLS_CERTIFICATE_NOT_AFTER_SECONDS: Family = Family {
    name: "baribhara_tls_certificate_not_after_seconds",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "When the first of the certificates ends, in seconds since 1970; 0 without any.",
};

pub(super) const TLS_OCSP_NEXT_UPDATE_SECONDS: Family = Family {
    name: "baribhara_tls_ocsp_next_update_seconds",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "When the first of the stapled OCSP responses ends, in seconds since 1970; 0 without any.",
};

pub(super) const TLS_CRL_NEXT_UPDATE_SECONDS: Family = Family {
    name: "baribhara_tls_crl_next_update_seconds",
    kind: FamilyKind::Gauge,
    labels: &[],
    help: "When the first of the revocation lists of clients ends, in seconds since 1970; 0 without any.",
};

pub(super) const UPSTREAM_CONNECTIONS: Family = Family {
    name: "baribhara_upstream_connections",
    kind: FamilyKind::Gauge,
    labels: &["backend"],
    help: "Open connections to a backend, idle ones among them.",
};

pub(super) const UPSTREAM_CONNECT_FAILURES_TOTAL: Family = Family {
    name: "baribhara_upstream_connect_failures_total",
    kind: FamilyKind::Counter,
    labels: &["backend"],
    help: "Connections to a backend that did not come about.",
};

pub(super) const AFFINITY_SESSIONS_TOTAL: Family = Family {
    name: "baribhara_affinity_sessions_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "result"],
    help: "Cookies of session affinity that answers set.",
};

pub(super) const RETRIES_TOTAL: Family = Family {
    name: "baribhara_retries_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint"],
    help: "Tries of requests after the first.",
};

pub(super) const ENDPOINT_EJECTIONS_TOTAL: Family = Family {
    name: "baribhara_endpoint_ejections_total",
    kind: FamilyKind::Counter,
    labels: &["backend"],
    help: "Endpoints taken out for a time after consecutive failures.",
};

pub(super) const BACKEND_ENDPOINTS: Family = Family {
    name: "baribhara_backend_endpoints",
    kind: FamilyKind::Gauge,
    labels: &["backend", "state"],
    help: "Endpoints of a backend by their health.",
};

pub(super) const HEALTH_CHECKS_TOTAL: Family = Family {
    name: "baribhara_health_checks_total",
    kind: FamilyKind::Counter,
    labels: &["backend", "result"],
    help: "Active health checks of endpoints.",
};

pub(super) const HEALTH_CHANGES_TOTAL: Family = Family {
    name: "baribhara_health_changes_total",
    kind: FamilyKind::Counter,
    labels: &["backend", "to"],
    help: "Endpoints whose active health checks began to fail, or passed again.",
};

pub(super) const BREAKER_STATE: Family = Family {
    name: "baribhara_breaker_state",
    kind: FamilyKind::Gauge,
    labels: &["backend"],
    help: "2 while failures keep the circuit breaker of the backend open, 1 while it lets probes through.",
};

pub(super) const BREAKER_REJECTED_TOTAL: Family = Family {
    name: "baribhara_breaker_rejected_total",
    kind: FamilyKind::Counter,
    labels: &["backend", "kind"],
    help: "Times that the circuit breaker of a backend refused, by what was over its bound.",
};

pub(super) const ADAPTIVE_LIMIT: Family = Family {
    name: "baribhara_adaptive_limit",
    kind: FamilyKind::Gauge,
    labels: &["backend"],
    help: "Requests that an adaptive circuit breaker gives a backend at once.",
};

pub(super) const RATELIMIT_REJECTED_TOTAL: Family = Family {
    name: "baribhara_ratelimit_rejected_total",
    kind: FamilyKind::Counter,
    labels: &["policy", "limit"],
    help: "Requests refused by a limit.",
};

pub(super) const RATELIMIT_SHADOWED_TOTAL: Family = Family {
    name: "baribhara_ratelimit_shadowed_total",
    kind: FamilyKind::Counter,
    labels: &["policy", "limit"],
    help: "Requests that a limit in Shadow mode would have refused.",
};

pub(super) const RATELIMIT_EVICTED_KEYS_TOTAL: Family = Family {
    name: "baribhara_ratelimit_evicted_keys_total",
    kind: FamilyKind::Counter,
    labels: &["policy", "limit"],
    help: "Keys forgotten before their time because a limit had as many as it may.",
};

pub(super) const RATELIMIT_IN_FLIGHT: Family = Family {
    name: "baribhara_ratelimit_in_flight",
    kind: FamilyKind::Gauge,
    labels: &["policy", "limit"],
    help: "Requests in flight that a concurrency limit counts.",
};

pub(super) const RATELIMIT_QUEUED: Family = Family {
    name: "baribhara_ratelimit_queued",
    kind: FamilyKind::Gauge,
    labels: &["policy", "limit"],
    help: "Requests that wait until a concurrency limit has a place for them.",
};

pub(super) const ACCESS_LOG_DROPPED_TOTAL: Family = Family {
    name: "baribhara_access_log_dropped_total",
    kind: FamilyKind::Counter,
    labels: &[],
    help: "Lines of the access log that could not be written.",
};

pub(super) const PASSWORD_CHECKS_TOTAL: Family = Family {
    name: "baribhara_password_checks_total",
    kind: FamilyKind::Counter,
    labels: &["result"],
    help: "Names and passwords that were checked, that were known already, or that were refused because too many waited.",
};

pub(super) const EXTERNAL_AUTH_TOTAL: Family = Family {
    name: "baribhara_external_auth_total",
    kind: FamilyKind::Counter,
    labels: &["endpoint", "result"],
    help: "Requests that another service decides about, by route and by what came of it.",
};

pub(super) const EXTERNAL_AUTH_DURATION_SECONDS: Family = Family {
    name: "baribhara_external_auth_duration_seconds",
    kind: FamilyKind::Histogram,
    labels: &["endpoint"],
    help: "Time that questions to such services took, failed ones too.",
};

pub(super) const JWKS_AGE_SECONDS: Family = Family {
    name: "baribhara_jwks_age_seconds",
    kind: FamilyKind::Gauge,
    labels: &["provider"],
    help: "Time since the provider's key set was fetched last. No series before the first success.",
};

pub(super) const JWKS_KEYS: Family = Family {
    name: "baribhara_jwks_keys",
    kind: FamilyKind::Gauge,
    labels: &["provider"],
    help: "Keys of the provider's fetched key set that are in use; 0: its routes answer 503.",
};

pub(super) const JWKS_FETCH_FAILURES_TOTAL: Family = Family {
    name: "baribhara_jwks_fetch_failures_total",
    kind: FamilyKind::Counter,
    labels: &["provider"],
    help: "Fetches of the provider's key set that brought nothing.",
};

pub(super) const JWKS_REFETCHES_TOTAL: Family = Family {
    name: "baribhara_jwks_refetches_total",
    kind: FamilyKind::Counter,
    labels: &["provider"],
    help: "Fetches of the provider's key set because a token named a key that was not in it.",
};

pub(super) const TASK_RESTARTS_TOTAL: Family = Family {
    name: "baribhara_task_restarts_total",
    kind: FamilyKind::Counter,
    labels: &["task"],
    help: "Tasks that must not end, panicked and began again; each is a bug.",
};

pub(super) const PANICS_TOTAL: Family = Family {
    name: "baribhara_panics_total",
    kind: FamilyKind::Counter,
    labels: &[],
    help: "Panics that were caught; each is a bug.",
};

#[cfg(test)]
mod tests;
