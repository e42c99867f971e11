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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TlsPolicy {
    pub min_version: TlsVersion,
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
}
