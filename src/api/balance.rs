//! How a rule chooses among the endpoints of a backend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Duration;

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.policy) && self.policy == 'ConsistentHash') == has(self.hashOn)",
        "message": "policy ConsistentHash and hashOn go together; set both, or remove hashOn",
    },
]))]
pub struct LoadBalancing {
    /// RoundRobin (each in turn), LeastRequest (the less busy of two taken at random), EWMA (of two taken at random the one
    /// whose latency and requests promise the sooner answer), Random, or ConsistentHash (requests that are alike in
    /// `hashOn` go to one endpoint, unless that has a quarter more requests than the mean). Default RoundRobin.
    #[serde(default)]
    pub policy: LoadBalancingPolicy,
    /// What ConsistentHash looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
    /// How long the share of an endpoint grows that is new or was ejected, from a tenth to the whole: 1s to 1h. Unset or
    /// 0s: it is whole at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) == duration('0s') \
                     || (duration(self) >= duration('1s') && duration(self) <= duration('1h'))",
            "message": "slowStart is 0s, or 1s to 1h; write a time between them",
        },
    ]))]
    pub slow_start: Option<Duration>,
    /// PreferLocal: endpoints that the Service's slices mean for the zone of the gateway (`--zone`) are asked before others,
    /// and then those of its region (`--region`), as long as enough of them are healthy. Any: all alike. Default Any.
    #[serde(default)]
    pub zone: ZonePreference,
}

/// Which zones' endpoints are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ZonePreference {
    #[default]
    Any,
    PreferLocal,
}

/// The ways to choose an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LoadBalancingPolicy {
    #[default]
    RoundRobin,
    LeastRequest,
    #[serde(rename = "EWMA")]
    Ewma,
    Random,
    ConsistentHash,
}

/// What of a request is hashed. A request without it goes to any endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'Header' || self.type == 'Cookie' || self.type == 'QueryParam') == has(self.name)",
        "message": "Header, Cookie and QueryParam have a name, and nothing else has; set or remove name",
    },
]))]
pub struct HashOn {
    /// Header, Cookie, QueryParam (each the first of that name), SourceIP (the client's address), Host, Path, or URI (path and
    /// query).
    pub r#type: HashOnType,
    /// The name of the header, cookie or query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[!-~]+$"))]
    pub name: Option<String>,
}

/// What may be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HashOnType {
    Header,
    Cookie,
    QueryParam,
    #[serde(rename = "SourceIP")]
    SourceIp,
    Host,
    Path,
    #[serde(rename = "URI")]
    Uri,
}
