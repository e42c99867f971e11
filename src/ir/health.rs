//! Active checks of endpoints: what is asked, and what the answers mean. Asks nothing.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::ser;

/// How each endpoint of a backend is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveHealth {
    pub probe: Probe,
    /// `None`: that of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From the beginning of one check to that of the next.
    #[serde(serialize_with = "ser::millis")]
    pub interval: Duration,
    /// For a whole check, the connection included.
    #[serde(serialize_with = "ser::millis")]
    pub timeout: Duration,
    /// So many checks in a row must pass until an endpoint that failed is asked again.
    pub healthy: u32,
    /// So many in a row must fail until an endpoint is left out.
    pub unhealthy: u32,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Probe {
    /// That a connection comes about, without TLS.
    Tcp,
    /// A GET, as the backend is spoken to.
    Http {
        path: String,
        #[serde(serialize_with = "ser::opt_header_value", skip_serializing_if = "Option::is_none")]
        host: Option<HeaderValue>,
        #[serde(serialize_with = "ser::header_pairs", skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Status codes that pass, as ranges with both ends included.
        expected: Vec<(u16, u16)>,
    },
    /// `grpc.health.v1.Health/Check` of this service; empty: of the server as a whole.
    Grpc { service: String },
}
