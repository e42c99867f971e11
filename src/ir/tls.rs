//! What is served over TLS: certificates and settings by host. Holds them as they were written; nothing is parsed here.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use serde::Serialize;

use crate::{HostPattern, ObjectRef, Redacted, ser};

/// TLS by host. Of the patterns that cover a name the most specific counts: the name itself, else the wildcard with the
/// longest suffix, and of two equal ones that for a single label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    pub hosts: BTreeMap<HostPattern, Arc<TlsHost>>,
    /// For clients that name no host or one that is not among these. `None`: their handshakes are refused.
    pub default: Option<Arc<Certificate>>,
}

impl Tls {
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.default.is_none()
    }
}

/// What one host is served with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsHost {
    /// The object that asks for it.
    pub source: ObjectRef,
    /// `None`: the default one, as the object names none or one that cannot be used.
    pub certificate: Option<Arc<Certificate>>,
    pub policy: TlsPolicy,
}

/// What a handshake must keep to. Hosts with equal policies may share a connection's resumption.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TlsPolicy {
    pub min_version: TlsVersion,
    /// `None`: no client is asked for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<Arc<ClientAuth>>,
}

/// Which certificates of clients are believed (RFC 8446 §4.3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientAuth {
    pub mode: ClientAuthMode,
    /// What holds the authorities.
    pub source: ObjectRef,
    /// The authorities as PEM (RFC 7468). Empty: there is none that can be used, and every handshake is refused.
    #[serde(serialize_with = "ser::length")]
    pub ca_pem: Vec<u8>,
    /// Their revocation lists as PEM (RFC 5280 §5). Empty: nothing is asked about revocation.
    #[serde(serialize_with = "ser::length", skip_serializing_if = "Vec::is_empty")]
    pub crl_pem: Vec<u8>,
}

/// What becomes of a client that shows no certificate. One that shows a bad one is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ClientAuthMode {
    /// Its handshake is refused.
    Require,
    /// It is served.
    Optional,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TlsVersion {
    /// RFC 5246, with AEAD suites only.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// A certificate chain with its key, as PEM (RFC 7468). Whether they can be used was found out when they were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The Secret.
    pub source: ObjectRef,
    /// The server's own certificate first.
    #[serde(serialize_with = "ser::length")]
    pub chain_pem: Vec<u8>,
    pub key_pem: Redacted<Vec<u8>>,
    /// What its authority says of it (RFC 6960), as DER. It may be anything: whether it can be stapled is found out
    /// where it is.
    #[serde(serialize_with = "ser::opt_length", skip_serializing_if = "Option::is_none")]
    pub ocsp_response: Option<Vec<u8>>,
}

/// What TLS means for the requests of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteTls {
    /// A request that came without TLS is sent to `https` with this status, but for an ACME challenge (RFC 8555 §8.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_status: Option<u16>,
    /// `Strict-Transport-Security` of every answer over TLS (RFC 6797).
    #[serde(serialize_with = "ser::opt_header_value", skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HeaderValue>,
    /// `None`: the route does not ask for certificates of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<RouteClient>,
}

/// What a client's certificate means for a route. Where `auth` requires one, no request is served on a connection that
/// has none of these very authorities, whatever the connection's own policy was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteClient {
    pub auth: Arc<ClientAuth>,
    pub forward: ClientForward,
}

/// What backends are told of a client's certificate. Only one that `RouteClient::auth` has verified counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientForward {
    /// `X-Client-Subject`: its subject (RFC 4514).
    pub subject: bool,
    /// `X-Client-Verify`: `SUCCESS` or `NONE`.
    pub verify: bool,
    /// `Client-Cert`: the certificate itself (RFC 9440).
    pub certificate: bool,
}
