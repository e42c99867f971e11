//! Keys of identity providers that are fetched by URL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::upstream::CaRef;
use crate::value::Duration;

/// A key set by its URL. It is fetched before a request needs it and again in the background; a route whose keys never came
/// answers 503.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "duration(self.cacheDuration) <= duration(self.maxStale)",
        "message": "cacheDuration is not longer than maxStale; make it shorter or maxStale longer",
    },
]))]
pub struct RemoteJwks {
    /// An `https` URL, like `https://id.example.com/jwks`, at most 2048 characters. Redirects are followed to the same host only.
    /// `http` and addresses that are not public need the flag `--allow-private-jwks` in a cluster; link-local addresses are
    /// never asked.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// How long after a successful fetch the keys are fetched again: 10s to 24h, default 10m. Keys that the provider has taken
    /// back are good until then.
    #[serde(default = "ten_minutes")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('10s') && duration(self) <= duration('24h')",
            "message": "cacheDuration is 10s to 24h; write a time in between",
        },
    ]))]
    pub cache_duration: Duration,
    /// How long after the last successful fetch the keys are used while the provider fails: at most 744h, default 24h. Then the
    /// provider's routes answer 503.
    #[serde(default = "one_day")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "duration(self) <= duration('744h')", "message": "maxStale is at most 744h; write a shorter time"},
    ]))]
    pub max_stale: Duration,
    /// For one whole fetch, from the look-up of the name to the last byte: 100ms to 5s, default 3s.
    #[serde(default = "three_seconds")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('100ms') && duration(self) <= duration('5s')",
            "message": "timeout is 100ms to 5s; write a time in between",
        },
    ]))]
    pub timeout: Duration,
    /// The authorities that the provider's certificate must be of. Unset: those of the gateway's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
}

const fn ten_minutes() -> Duration {
    Duration::from_millis(600_000)
}

const fn one_day() -> Duration {
    Duration::from_millis(86_400_000)
}

const fn three_seconds() -> Duration {
    Duration::from_millis(3_000)
}
