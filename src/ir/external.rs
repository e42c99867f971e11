//! Who may pass by the word of another service (forward auth): what it is asked, and what becomes of its answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

use crate::{BackendId, UpstreamProtocol, ser};

/// A service that is asked about each request. 2xx: it may pass; 401, 403 and redirects: it may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalAuth {
    pub backend: BackendId,
    #[serde(skip_serializing_if = "UpstreamProtocol::is_plain_http1")]
    pub protocol: UpstreamProtocol,
    /// The `Host` that it is asked by.
    pub host: Arc<str>,
    /// The path, and query if any, that is asked for. Begins with a slash.
    pub path: UrlTemplate,
    #[serde(serialize_with = "ser::method")]
    pub method: Method,
    /// For the whole of question and answer.
    #[serde(serialize_with = "ser::millis")]
    pub timeout: Duration,
    pub failure_mode: FailureMode,
    /// The client's headers that it gets; `None`: all.
    #[serde(serialize_with = "ser::opt_header_names", skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<Vec<HeaderName>>,
    /// What it is told as `X-Auth-Request-Redirect`; `None`: path and query that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<UrlTemplate>,
    /// Headers of its answer that the upstream gets. The client's own copies are always removed first.
    #[serde(serialize_with = "ser::header_names")]
    pub response_headers: Vec<HeaderName>,
    /// Where a browser is sent instead of a 401.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignIn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<AnswerCache>,
}

/// What becomes of a request about which the service could not be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum FailureMode {
    /// 503.
    #[default]
    Closed,
    /// It passes.
    Open,
}

/// A page where people sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignIn {
    /// Absolute, or a path on the host that was asked.
    pub url: UrlTemplate,
    /// The query parameter that is added with the address that was asked for; `None`: the URL says it itself.
    pub redirect_param: Option<String>,
}

/// For how long an answer that let a request pass counts for others that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerCache {
    /// What must be alike; never empty. A request that lacks one of them is always asked about.
    pub key: Vec<CacheKey>,
    #[serde(serialize_with = "ser::millis")]
    pub ttl: Duration,
}

/// One part of a request that answers are kept by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum CacheKey {
    Header(#[serde(serialize_with = "ser::header_name")] HeaderName),
    /// One cookie by its name.
    Cookie(String),
    Method,
    Host,
    /// The path alone.
    Path,
    /// Path and query.
    RequestUri,
    Client,
}

/// A URL, or a part of one, with places for what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate(pub Vec<UrlPart>);

/// One part of a [`UrlTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlPart {
    Text(String),
    /// `http` or `https`.
    Scheme,
    /// Without a port.
    Host,
    /// With the port, unless it is that of the scheme.
    Authority,
    Method,
    /// The path alone.
    Path,
    /// Path and query.
    RequestUri,
    /// The same, percent-encoded whole.
    EscapedRequestUri,
}

impl UrlTemplate {
    /// A URL without places.
    pub fn text(text: &str) -> Self {
        Self(vec![UrlPart::Text(text.to_owned())])
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                UrlPart::Text(text) => text,
                UrlPart::Scheme => "$scheme",
                UrlPart::Host => "$host",
                UrlPart::Authority => "$http_host",
                UrlPart::Method => "$request_method",
                UrlPart::Path => "$uri",
                UrlPart::RequestUri => "$request_uri",
                UrlPart::EscapedRequestUri => "$escaped_request_uri",
            })
        })
    }
}

impl Serialize for UrlTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
