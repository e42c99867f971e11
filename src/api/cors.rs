//! Cross-origin resource sharing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{METHOD_OR_ANY, ORIGIN, TOKEN};
use crate::value::Duration;

/// Which browsers of other origins may use a rule, and how (Fetch standard §3.2). The backend's own
/// `Access-Control-*` headers are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// `scheme://host[:port]`, `scheme://*.suffix[:port]` (one or more labels) or `*` (every origin). Empty:
    /// no other origin may. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 300), regex(pattern = ORIGIN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allow_origins: Vec<String>,
    /// Methods that a browser may use; `*`: whichever it asks for. Empty: those that the rule's matches name, else
    /// the one that is asked for. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = METHOD_OR_ANY)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allow_methods: Vec<String>,
    /// Headers that a browser may send. Empty or `*`: those that are asked for. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256), regex(pattern = TOKEN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allow_headers: Vec<String>,
    /// Headers of the answer that a script may read. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256), regex(pattern = TOKEN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub expose_headers: Vec<String>,
    /// Whether a browser may send cookies and the like. Default false.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser may keep the answer of a preflight: at most 24h. Unset: the browser's own time
    /// (5s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "duration(self) <= duration('24h')", "message": "maxAge is at most 24h; write a shorter time"},
    ]))]
    pub max_age: Option<Duration>,
}
