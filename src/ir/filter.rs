//! What happens to requests and answers on their way.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::{HostName, ser};

/// Header changes of a rule, on the way in and on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdits {
    pub request: HeaderEdit,
    pub response: HeaderEdit,
}

/// `remove` first, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdit {
    #[serde(serialize_with = "ser::header_pairs")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    #[serde(serialize_with = "ser::header_pairs")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    #[serde(serialize_with = "ser::header_names")]
    pub remove: Vec<HeaderName>,
}

impl HeaderEdit {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// What the upstream is asked instead of what the client asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// The Host that the upstream sees.
    pub hostname: Option<HostName>,
    pub path: Option<PathRewrite>,
}

/// A new path. The result is made canonical again before it is sent (hardening PN07).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathRewrite {
    /// Puts this in the place of the prefix that matched (Gateway API ReplacePrefixMatch).
    ReplacePrefixMatch(RewritePath),
    /// Puts this in the place of the whole path; the query stays.
    ReplaceFullPath(RewritePath),
    /// Replaces the first match of the expression; `${1}` … in the substitution are its groups.
    ReplaceRegex { regex: String, substitution: String },
}

/// A path that starts with `/`.
pub type RewritePath = String;

/// An answer that sends the client elsewhere. What is not named stays as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    pub scheme: Option<Scheme>,
    pub hostname: Option<HostName>,
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A fixed answer of the gateway's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DirectResponse {
    pub status: u16,
    #[serde(serialize_with = "ser::opt_header_value")]
    pub content_type: Option<HeaderValue>,
    #[serde(serialize_with = "body_length")]
    pub body: Vec<u8>,
}

fn body_length<S: Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(value) {
        Ok(text) => s.serialize_str(text),
        Err(_) => s.serialize_bytes(value),
    }
}

/// Which client addresses may ask. `deny` wins; a non-empty `allow` refuses all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IpAccess {
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

impl IpAccess {
    /// Whether everybody may ask.
    pub fn is_empty(&self) -> bool {
        let Self { allow, deny } = self;
        allow.is_empty() && deny.is_empty()
    }

    /// Whether this address may ask. The caller has folded IPv4-mapped addresses.
    pub fn allows(&self, address: IpAddr) -> bool {
        !self.deny.iter().any(|net| net.contains(&address))
            && (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&address)))
    }
}
