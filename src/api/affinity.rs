//! How the requests of one client are kept at one endpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::matches::yes;
use crate::text::TOKEN;
use crate::value::Duration;

/// Session affinity: the requests of one client go to one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Cookie: by a cookie that the gateway sets and seals. Default Cookie.
    #[serde(default)]
    pub r#type: AffinityType,
    /// The cookie. Unset: one of the rule's own, for as long as the browser runs.
    #[serde(default)]
    pub cookie: AffinityCookie,
    /// Balanced (a new endpoint takes its share of the sessions) or Persistent (a session stays with its endpoint for as
    /// long as that is there). Default Balanced.
    #[serde(default)]
    pub mode: AffinityMode,
    /// What becomes of a session whose endpoint is ejected or does not answer: Repick (another one takes it) or Fail (its
    /// requests go nowhere else while the endpoint is there). Default Repick.
    #[serde(default)]
    pub on_failure: AffinityFailure,
    /// Whether a session keeps to its backend, too, where the rule has several. Default true.
    #[serde(default = "yes")]
    pub sticky_to_canary: bool,
}

/// Kinds of session affinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AffinityType {
    #[default]
    Cookie,
}

/// The attributes of the cookie. `HttpOnly` is always set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.sameSite) || self.sameSite != 'None' || !has(self.secure) || self.secure",
        "message": "browsers take sameSite None with secure alone; set secure to true or remove it",
    },
]))]
pub struct AffinityCookie {
    /// The cookie's name. Unset: `SRV-` and eight digits that stand for the rule, so that rules do not take each other's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = TOKEN))]
    pub name: Option<String>,
    /// The path that the cookie is for. Default `/`.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-:<-~]*$"))]
    pub path: String,
    /// The domain that the cookie is for, with those below it. Unset or empty: the host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$")
    )]
    pub domain: Option<String>,
    /// How long the browser keeps the cookie, from when it was set: 1s to 9600h (400 days). Unset or 0s: as long as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) == duration('0s') \
                     || (duration(self) >= duration('1s') && duration(self) <= duration('9600h'))",
            "message": "ttl is 0s, or 1s to 9600h; write a time between them",
        },
    ]))]
    pub ttl: Option<Duration>,
    /// Strict, Lax or None: whether the browser sends the cookie along from other sites. Default Lax.
    #[serde(default)]
    pub same_site: SameSite,
    /// Whether the browser sends the cookie over TLS alone. Unset: where the client asked with TLS; always with `sameSite`
    /// None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
}

impl Default for AffinityCookie {
    fn default() -> Self {
        Self {
            name: None,
            path: slash(),
            domain: None,
            ttl: None,
            same_site: SameSite::default(),
            secure: None,
        }
    }
}

/// Whether a browser sends a cookie along from other sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SameSite {
    Strict,
    #[default]
    Lax,
    None,
}

/// What a session is tied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AffinityMode {
    #[default]
    Balanced,
    Persistent,
}

/// What becomes of a session whose endpoint fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AffinityFailure {
    #[default]
    Repick,
    Fail,
}

fn slash() -> String {
    "/".to_owned()
}
