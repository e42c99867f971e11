//! Who may pass by the word of another service: forward auth, as ingress-nginx (`auth-url`) and Traefik know it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{ADDRESS, DNS_LABEL, METHOD, NO_NAMESPACE, ONE_TARGET, TLS_PROTOCOL, TOKEN};
use crate::upstream::{BackendProtocol, BackendTls};
use crate::value::Duration;

/// A service is asked about each request, without its body. 2xx: it passes. 401, 403 and redirects with a Location: the
/// client gets that answer. Anything else lets nobody pass, unless `failureMode` says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.method != 'CONNECT' && self.method != 'TRACE'",
        "message": "CONNECT and TRACE ask for no answer; write GET, HEAD or POST",
    },
]))]
pub struct ExternalAuth {
    /// The service that is asked.
    pub backend_ref: AuthBackendRef,
    /// The path that it is asked for, with a query if need be. At most 1024 characters. Default `/`.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-\"$-~]*$"))]
    pub path: String,
    /// The method that it is asked with, whatever the client's is. Default GET.
    #[serde(default = "get")]
    #[schemars(length(min = 1, max = 32), regex(pattern = METHOD))]
    pub method: String,
    /// How long it may take, with all tries: 1ms to 60s. Default 2s.
    #[serde(default = "two_seconds")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) > duration('0s') && duration(self) <= duration('60s')",
            "message": "timeout is 1ms to 60s; write a time within that",
        },
    ]))]
    pub timeout: Duration,
    /// What becomes of requests while the service cannot be reached, does not answer in time or answers 5xx. Closed: 503.
    /// Open: they pass, without any header of it. Default Closed.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// The client's headers that the service gets, beside those that the gateway makes. Unset: all, but those that are about
    /// the connection, the body, ranges and conditions. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256), regex(pattern = TOKEN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub request_headers: Option<Vec<String>>,
    /// Headers of an answer that lets a request pass which the backend gets. The client's own headers of these names are
    /// always removed. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = TOKEN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub response_headers_to_upstream: Vec<String>,
    /// Where browsers are sent instead of a 401.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignIn>,
    /// Answers that let a request pass are kept. Unset: each request is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<AuthCache>,
}

/// A service that is asked: a Service by `name`, or a fixed `address`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": ONE_TARGET.0, "message": ONE_TARGET.1},
    {"rule": NO_NAMESPACE.0, "message": NO_NAMESPACE.1},
    {
        "rule": TLS_PROTOCOL,
        "message": "tls needs a protocol with TLS; write protocol HTTPS, or remove tls",
    },
]))]
pub struct AuthBackendRef {
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
    /// How it is spoken to, as in `backendRefs`. Unset: what the Service port's `appProtocol` says, else HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<BackendProtocol>,
    /// TLS towards it, as in `backendRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
}

/// What becomes of requests about which the service could not be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FailureMode {
    #[default]
    Closed,
    Open,
}

/// A page where people sign in. Requests that a browser makes to show a page get 302 to it instead of a 401.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// `https://…`, `http://…`, or a path on the host that was asked. At most 1024 characters.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^(https?:/)?/[!-\"$-~]*$"))]
    pub url: String,
    /// The query parameter that tells the page what was asked for: scheme, host, path and query, percent-encoded. It is
    /// added unless the URL has it. Default `rd`.
    #[serde(default = "rd")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9._~-]+$"))]
    pub redirect_param: String,
}

/// For how long an answer that let a request pass counts for others that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthCache {
    /// What must be alike: names of headers, `cookie:NAME` for one cookie, `:method`, `:authority` (the host), `:path` (with the
    /// query). 1 to 8. Whatever else the service looks at does not count. A request that lacks one of them is asked about.
    #[schemars(
        length(min = 1, max = 8),
        inner(
            length(min = 1, max = 256),
            regex(pattern = "^(:method|:authority|:path|(cookie:)?[A-Za-z0-9!#$%&'*+.^_`|~-]+)$"),
        )
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub key: Vec<String>,
    /// How long an answer counts: 1s to 1h. Default 5m.
    #[serde(default = "five_minutes")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
            "message": "ttl is 1s to 1h; write a time within that",
        },
    ]))]
    pub ttl: Duration,
}

fn slash() -> String {
    "/".into()
}

fn get() -> String {
    "GET".into()
}

fn two_seconds() -> Duration {
    Duration::from_millis(2_000)
}

fn five_minutes() -> Duration {
    Duration::from_millis(300_000)
}

fn rd() -> String {
    "rd".into()
}
