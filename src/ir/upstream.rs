//! How a backend is spoken to: the version of HTTP and TLS towards it. Holds certificates as they were written.

use std::sync::Arc;

use serde::Serialize;

use crate::{Certificate, ObjectRef, ser};

/// HTTP/1.1 without TLS unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamProtocol {
    pub version: UpstreamVersion,
    /// `None`: without TLS. Keeps its `Arc` where nothing of it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<UpstreamTls>>,
}

impl UpstreamProtocol {
    pub(crate) fn is_plain_http1(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum UpstreamVersion {
    /// RFC 9112.
    #[default]
    Http1,
    /// RFC 9113: by prior knowledge without TLS, by ALPN with it.
    Http2,
}

/// TLS towards a backend (Gateway API BackendTLSPolicy).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// Sent as server name unless it is an IP literal, and what the certificate must be for.
    pub server_name: Arc<str>,
    /// Where it is not empty, the certificate must be for one of these DNS names instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<Arc<str>>,
    pub trust: Trust,
    /// What the gateway shows for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Arc<Certificate>>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Trust {
    /// The authorities of the system the gateway runs on.
    System,
    /// The authorities of this object alone, as PEM (RFC 7468).
    Authorities {
        source: ObjectRef,
        #[serde(serialize_with = "ser::length")]
        pem: Vec<u8>,
    },
    /// Anyone's: nothing is verified.
    Anyone,
}
