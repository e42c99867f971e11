//! Mirrors: copies of requests for another Service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error_page::ServiceRef;
use crate::matches::yes;

/// A Service that gets a copy of the rule's requests, as the backend gets them, with the client's own Host. Its answers
/// are thrown away. It never delays a client: 256 requests at most are under way to it, a copy of a body may be 1 MiB
/// behind, and what is over is not mirrored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// The Service.
    pub backend_ref: ServiceRef,
    /// How many of a hundred requests are mirrored, by chance: 0 to 100. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
    /// Whether the copies have the bodies of their requests. Default true.
    #[serde(default = "yes")]
    pub include_body: bool,
}

pub(crate) fn hundred() -> u8 {
    100
}
