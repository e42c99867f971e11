//! Connections that are passed through with their TLS as it is: whose they are by the name in their first message, and
//! where they go.

use std::time::Duration;

use serde::Serialize;

use crate::{BackendTarget, CircuitBreaker, LoadBalancing, PassiveHealth, RouteId, ser};

/// What becomes of the connections of one host. Of the patterns that cover a name the most specific counts, those of
/// [`crate::Tls`] among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passthrough {
    /// The rule that asks for it.
    pub id: RouteId,
    /// Weights of 0 get nothing; when all are 0 or the list is empty the connections are refused.
    pub backends: Vec<PassthroughBackend>,
    /// Until a connection to an endpoint stands.
    #[serde(serialize_with = "ser::millis")]
    pub connect: Duration,
    /// The longest time without a byte in either direction; `None`: for ever.
    #[serde(serialize_with = "ser::opt_millis")]
    pub stream_idle: Option<Duration>,
    /// Each connection counts as a request and as a connection.
    pub circuit_breaker: CircuitBreaker,
    pub load_balancing: LoadBalancing,
    /// Only connections that could not be opened are counted.
    pub passive_health: Option<PassiveHealth>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassthroughBackend {
    /// One that is missing has its share of the connections refused.
    pub target: BackendTarget,
    /// As in [`crate::WeightedBackend`].
    pub weight: u32,
    /// `None`: the backend is not told who the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
}

/// A version of the PROXY protocol, by which a backend is told who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
