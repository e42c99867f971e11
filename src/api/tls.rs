//! TLS of a GatewayRoute: its certificate and what clients without TLS are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::DNS_SUBDOMAIN;
use crate::upstream::CaRef;
use crate::value::Duration;

/// How the hosts of a route are served over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.mode) || self.mode != 'Passthrough' || (!has(self.secretRef) && !has(self.redirectHTTP) \
                 && !has(self.hsts) && !has(self.clientAuth) && (!has(self.minVersion) || self.minVersion == '1.2'))",
        "message": "with Passthrough the backend serves TLS, and nothing else of tls can hold; \
                    remove secretRef, minVersion, redirectHTTP, hsts and clientAuth",
    },
]))]
pub struct Tls {
    /// Terminate (the gateway serves TLS) or Passthrough (connections go to the backend as they are, by the name that
    /// the client asks for, and the backend serves TLS). Passthrough needs `hostnames` and one rule with `backendRefs`,
    /// and leaves no policy to apply. Default Terminate.
    #[serde(default)]
    pub mode: TlsMode,
    /// The Secret with the certificate and its key. Unset: the install's default certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The oldest version that is spoken: `1.2` or `1.3`. Default `1.2`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Sends requests that come without TLS to `https`. Unset: they are served.
    #[serde(default, rename = "redirectHTTP", skip_serializing_if = "Option::is_none")]
    pub redirect_http: Option<RedirectHttp>,
    /// Tells browsers to come with TLS only (RFC 6797). Unset: they are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Asks clients for a certificate. Unset: no client is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// Certificates of clients (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuth {
    /// Require (no client is served without a certificate) or Optional. A certificate that is not of these authorities,
    /// or has expired, is refused in either. Require sends requests without TLS to `https`, with or without
    /// `redirectHTTP`. Default Require.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// The authorities of the clients. Where the same object has an entry `ca.crl` with revocation lists as PEM, what
    /// they revoke is refused, and so is what they say nothing of.
    pub ca_ref: CaRef,
    /// What backends are told: Subject (`X-Client-Subject`), Verify (`X-Client-Verify`: `SUCCESS` or `NONE`),
    /// Certificate (`Client-Cert`, RFC 9440). Empty: nothing. What clients themselves send of these is taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub forward: Vec<ClientForward>,
}

/// What becomes of a client without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ClientAuthMode {
    #[default]
    Require,
    Optional,
}

/// A part of a client's certificate that backends are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ClientForward {
    Subject,
    Verify,
    Certificate,
}

/// Who serves TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsMode {
    #[default]
    Terminate,
    Passthrough,
}

/// A Secret of type `kubernetes.io/tls` in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// The redirect from `http` to `https`. ACME challenges (`/.well-known/acme-challenge/`) are served all the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedirectHttp {
    /// 301, 302, 303, 307 or 308. Default 308.
    #[serde(default = "permanent")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: u16,
}

/// `Strict-Transport-Security` of every answer over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hsts {
    /// How long a browser remembers it; whole seconds are sent. Default 8760h.
    #[serde(default = "a_year")]
    pub max_age: Duration,
    /// Whether it holds for all names below, too. Default true.
    #[serde(default = "yes")]
    pub include_sub_domains: bool,
    /// Whether browsers may put the host into the list that they are shipped with. Default false.
    #[serde(default)]
    pub preload: bool,
}

fn permanent() -> u16 {
    308
}

fn a_year() -> Duration {
    Duration::from_millis(8760 * 3_600_000)
}

fn yes() -> bool {
    true
}
