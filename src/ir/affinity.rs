//! Sessions: requests of one client that go to one endpoint, by a cookie.

use std::time::Duration;

use serde::Serialize;

use crate::{Redacted, ser};

/// How the requests of a session are kept together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affinity {
    pub cookie: AffinityCookie,
    pub mode: AffinityMode,
    pub on_failure: AffinityFailure,
    /// The session keeps to its backend, too, where the rule has several.
    pub keeps_backend: bool,
    /// What the key that cookies are sealed with is made of: the same on every replica, and of one object.
    pub key: Redacted<Vec<u8>>,
}

/// The attributes of RFC 6265 §4.1. `HttpOnly` is always set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AffinityCookie {
    pub name: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// `None`: as long as the browser runs.
    #[serde(serialize_with = "ser::opt_millis", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    pub same_site: SameSite,
    /// `None`: where the client asked with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// What a session is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AffinityMode {
    /// Its place on the ring of the endpoints: a new endpoint takes its share of the sessions.
    Balanced,
    /// Its endpoint, for as long as that is there.
    Persistent,
}

/// What becomes of a session whose endpoint is ejected or does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AffinityFailure {
    /// Another endpoint takes it.
    Repick,
    /// It goes nowhere else while its endpoint is in the list.
    Fail,
}
