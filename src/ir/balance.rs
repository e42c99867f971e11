//! How an endpoint of a backend is chosen. Holds no endpoint.

use std::time::Duration;

use http::HeaderName;
use serde::Serialize;

use crate::{Affinity, ser};

/// The choice between the endpoints of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadBalancing {
    pub policy: BalancePolicy,
    /// How long the share of an endpoint grows that is new or was out. `None`: it is whole at once.
    #[serde(serialize_with = "ser::opt_millis", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    #[serde(skip_serializing_if = "ZonePreference::is_default")]
    pub zone: ZonePreference,
    /// Comes before all else for the requests of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
}

/// Which zones' endpoints are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ZonePreference {
    #[default]
    Any,
    /// Those of [`crate::BackendEndpoints::local`] as long as enough of them are healthy.
    PreferLocal,
}

impl ZonePreference {
    fn is_default(&self) -> bool {
        *self == Self::Any
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum BalancePolicy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The less busy of two endpoints taken at random.
    LeastRequest,
    /// The one of two endpoints taken at random that answers sooner, by its latency and by how busy it is.
    Ewma,
    Random,
    /// Requests that are alike in this go to one endpoint, unless that is much busier than the others. Those without it
    /// go to any.
    ConsistentHash(HashOn),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HashOn {
    Header {
        #[serde(serialize_with = "ser::header_name")]
        name: HeaderName,
    },
    Cookie {
        name: String,
    },
    /// Of the first parameter of this name, decoded.
    QueryParam {
        name: String,
    },
    /// The client's address.
    SourceIp,
    Host,
    /// The canonical path.
    Path,
    /// The canonical path, and the query as it was sent.
    Uri,
}

impl From<BalancePolicy> for LoadBalancing {
    fn from(policy: BalancePolicy) -> Self {
        Self { policy, ..Self::default() }
    }
}
