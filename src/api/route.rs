//! GatewayRoute: hosts and rules that say where requests go and what happens to them.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::affinity::Affinity;
use crate::auth::{Auth, JwtProvider};
use crate::balance::LoadBalancing;
use crate::condition::Status;
use crate::cors::Cors;
use crate::filter::Filter;
use crate::matches::RouteMatch;
use crate::text::{CIDR, DNS_LABEL, DNS_SUBDOMAIN, HOSTNAME, UPGRADE};
use crate::tls::Tls;
use crate::upstream::{BackendRef, CircuitBreaker, HealthCheck, Retry, Timeouts};
use crate::value::ByteQuantity;

/// What a GatewayRoute says.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.baribhara.io",
    version = "v1alpha1",
    kind = "GatewayRoute",
    plural = "gatewayroutes",
    shortname = "gwr",
    category = "baribhara",
    namespaced,
    derive = "PartialEq",
    status = "Status",
    doc = "Routes HTTP requests of some hosts to backends, with the policies that apply on the way.",
    printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.hostnames"),
    printcolumn = r#"{"name": "Class", "type": "string", "jsonPath": ".spec.ingressClassName", "priority": 1}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Passthrough' \
                 || (has(self.hostnames) && size(self.hostnames) > 0)",
        "message": "Passthrough goes by the name that a client asks for; add hostnames",
    },
    {
        "rule": "!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Passthrough' || size(self.rules) == 1",
        "message": "with Passthrough no request is seen that could choose between rules; keep one rule",
    },
    {
        "rule": "!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Passthrough' \
                 || self.rules.all(r, !has(r.matches) && !has(r.filters) && !has(r.auth) && !has(r.ipAccess) \
                 && !has(r.maxRequestBody) && !has(r.retry) && !has(r.upgrades))",
        "message": "with Passthrough no request is seen that this could hold for; remove matches, filters, auth, \
                    ipAccess, maxRequestBody, retry and upgrades",
    },
    {
        "rule": "!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Passthrough' || !has(self.defaults) \
                 || (!has(self.defaults.cors) && !has(self.defaults.ipAccess) && !has(self.defaults.auth) \
                 && !has(self.defaults.maxRequestBody))",
        "message": "with Passthrough no request is seen that this could hold for; remove all of defaults but timeouts",
    },
    {
        "rule": "!has(self.tls) || !has(self.tls.mode) || self.tls.mode != 'Passthrough' \
                 || self.rules.all(r, !has(r.backendRefs) || r.backendRefs.all(b, !has(b.tls) && !has(b.protocol)))",
        "message": "with Passthrough the client's own TLS goes to the backend; remove tls and protocol of backendRefs",
    },
    {
        "rule": "(has(self.tls) && has(self.tls.mode) && self.tls.mode == 'Passthrough') \
                 || self.rules.all(r, !has(r.backendRefs) || r.backendRefs.all(b, !has(b.proxyProtocol)))",
        "message": "a connection to a backend is shared by clients unless it is passed through; \
                    remove proxyProtocol, or set tls.mode to Passthrough",
    },
]))]
pub struct GatewayRouteSpec {
    /// The class (IngressClass) whose gateway serves this route. Unset: the one of the default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub ingress_class_name: Option<String>,
    /// Hosts that this route takes: names, or `*.` and a name (one or more labels). Empty: every host. At
    /// most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<String>,
    /// TLS of `hostnames`. Unset: what other objects say of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Issuers of tokens that the rules may name. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jwt_providers: Vec<JwtProvider>,
    /// What a rule takes that does not say it itself. Each member is taken or replaced as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<RouteDefaults>,
    /// The rules: 1 to 64. The most specific match takes a request, whatever the order of the rules.
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Vec<RouteRule>,
}

/// What rules take that do not say it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.auth) || !has(self.auth.disabled) || !self.auth.disabled",
        "message": "defaults.auth cannot be disabled, for it has no parent; remove defaults.auth",
    },
]))]
pub struct RouteDefaults {
    /// Timeouts of rules without `timeouts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// CORS of rules without a CORS filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Client addresses of rules without `ipAccess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_access: Option<IpAccess>,
    /// Authentication and authorization of rules without `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// The largest request body of rules without `maxRequestBody`: bytes like `8Mi`; `0`: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<ByteQuantity>,
}

/// One rule: what it takes, what it does, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.filters) || !has(self.backendRefs) || size(self.backendRefs) == 0 \
                 || !self.filters.exists(f, f.type == 'RequestRedirect' || f.type == 'DirectResponse')",
        "message": "a rule with RequestRedirect or DirectResponse answers by itself; remove backendRefs or that filter",
    },
    {
        "rule": "!has(self.filters) || self.filters.filter(f, f.type == 'RequestRedirect' \
                 || f.type == 'DirectResponse' || f.type == 'URLRewrite').size() <= 1",
        "message": "at most one of RequestRedirect, DirectResponse and URLRewrite may stand in a rule; \
                    keep one of them",
    },
    {
        "rule": "!has(self.filters) || !has(self.matches) || !self.filters.exists(f, \
                 (has(f.urlRewrite) && has(f.urlRewrite.path) && f.urlRewrite.path.type == 'ReplacePrefixMatch') || \
                 (has(f.requestRedirect) && has(f.requestRedirect.path) \
                 && f.requestRedirect.path.type == 'ReplacePrefixMatch')) \
                 || self.matches.all(m, !has(m.path) || m.path.type == 'PathPrefix')",
        "message": "ReplacePrefixMatch needs every match of its rule to be a PathPrefix; \
                    change the matches or replace the path in another way",
    },
]))]
pub struct RouteRule {
    /// The rule's name, a DNS label: what policies call `sectionName` and metrics `endpoint`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The rule takes a request that one of these fits. Empty: every request of the hosts. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub matches: Vec<RouteMatch>,
    /// Filters, each type at most once; their order does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub filters: Vec<Filter>,
    /// Who may pass. Unset: `defaults.auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Which client addresses may pass. Unset: `defaults.ipAccess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_access: Option<IpAccess>,
    /// The largest request body: bytes like `8Mi`, checked while it streams (413); `0`: unlimited. Unset:
    /// `defaults.maxRequestBody`, else unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<ByteQuantity>,
    /// Timeouts. Unset: `defaults.timeouts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// When a request is tried again. Unset: one retry of what is safe to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Bounds on the backends. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How the health of endpoints is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How an endpoint is chosen. Unset: RoundRobin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// Keeps the requests of one client at one endpoint. Unset: they go to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Protocols that clients may change to (RFC 9110 §7.8), in any case; `h2c` is refused. `[]`: none. At most 8.
    /// Unset: `websocket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 64), regex(pattern = UPGRADE)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub upgrades: Option<Vec<String>>,
    /// Where the requests go, by weight. Empty without RequestRedirect or DirectResponse: 500. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub backend_refs: Vec<BackendRef>,
}

/// Which client addresses may pass: `deny` wins, and a non-empty `allow` refuses all others (403).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpAccess {
    /// Networks (CIDR) or addresses that may pass. Empty: all. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<String>,
    /// Networks (CIDR) or addresses that may not pass. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub deny: Vec<String>,
}
