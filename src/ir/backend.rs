//! Backends and the endpoints behind them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// One backend: what pools, breakers and counters belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendId {
    /// A port (by number) of a Service.
    Service { namespace: Arc<str>, name: Arc<str>, port: u16 },
    /// A fixed address (folder mode): an IP literal or a name that is resolved when connecting.
    Address { host: Arc<str>, port: u16 },
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { namespace, name, port } => write!(f, "{namespace}/{name}:{port}"),
            Self::Address { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Address { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for BackendId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where one pod (or fixed address) listens. `host` is an IP literal without brackets, or a name for
/// [`BackendId::Address`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub host: Arc<str>,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The endpoints of one backend that may be asked now: sorted, without duplicates. Ready ones, or, where none is
/// ready, those that serve while they terminate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendEndpoints {
    pub endpoints: Vec<Endpoint>,
    /// Places in `endpoints`, in order, of those that are meant for the zone of this gateway. Empty where that is not known
    /// of all, where all are, and where none is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<usize>,
    /// The same of the gateway's region, those of its zone among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<usize>,
}

/// All backends that some route names. Travels beside [`crate::Config`], so that a pod change recompiles no route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointMap {
    pub backends: BTreeMap<BackendId, Arc<BackendEndpoints>>,
}
