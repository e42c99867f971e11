//! Cross-origin resource sharing (Fetch standard §3.2) of a route.

use std::time::Duration;

use http::{HeaderName, Method};
use serde::Serialize;

use crate::ser;

/// The origins, methods and headers that a browser may use across origins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cors {
    pub allow_origins: Vec<CorsOrigin>,
    /// Empty: the methods that the rule's matches name, or the one that the preflight asks for; `*`: always the latter.
    #[serde(serialize_with = "ser::methods")]
    pub allow_methods: Vec<Method>,
    /// Empty or `*`: the headers that the preflight asks for.
    #[serde(serialize_with = "ser::header_names")]
    pub allow_headers: Vec<HeaderName>,
    #[serde(serialize_with = "ser::header_names")]
    pub expose_headers: Vec<HeaderName>,
    pub allow_credentials: bool,
    /// How long a browser may keep a preflight's answer. `None`: the header is not sent.
    #[serde(serialize_with = "ser::opt_millis")]
    pub max_age: Option<Duration>,
}

/// One allowed origin. Scheme and host are lower case; a default port is left out, as browsers do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum CorsOrigin {
    /// `*`: every origin. With credentials the asking origin is echoed, never `*`.
    Any,
    /// `scheme://host[:port]`, compared byte by byte.
    Exact(String),
    /// `scheme://*.suffix[:port]`: one or more labels in front of the suffix.
    Subdomains { scheme: String, suffix: String, port: Option<u16> },
}
