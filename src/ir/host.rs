//! Host names, folded once.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A host name or IP literal in the one form that is compared: lower case, no port, no trailing dot. An IPv6
/// literal keeps its brackets (RFC 3986 §3.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNameError {
    /// Nothing was left after folding.
    Empty,
    /// More than 253 characters (RFC 1035 §2.3.4) or a label over 63.
    TooLong,
    /// A character outside letters, digits, `-`, `_` and `.`, or an empty label.
    BadCharacter,
}

impl fmt::Display for HostNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host name is empty",
            Self::TooLong => "the host name is longer than 253 characters or has a label over 63",
            Self::BadCharacter => "a host name has letters, digits, '-' and '.' only, and no empty label",
        })
    }
}

impl std::error::Error for HostNameError {}

impl HostName {
    /// Folds and checks a host name as it stands in an object (no port).
    ///
    /// # Errors
    /// See [`HostNameError`].
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostNameError::Empty);
        }
        if text.len() > 253 {
            return Err(HostNameError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return match inner.parse::<std::net::Ipv6Addr>() {
                Ok(address) => Ok(Self(format!("[{address}]").into())),
                Err(_) => Err(HostNameError::BadCharacter),
            };
        }
        for label in text.split('.') {
            if label.len() > 63 {
                return Err(HostNameError::TooLong);
            }
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if label.is_empty() || !label.bytes().all(ok) {
                return Err(HostNameError::BadCharacter);
            }
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Which hosts a route takes. No pattern at all means every host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name only.
    Exact(HostName),
    /// `*.suffix`. `one_label`: the star stands for exactly one label (Ingress), else for one or more (Gateway API).
    Wildcard { suffix: HostName, one_label: bool },
}

impl HostPattern {
    /// Reads a name, or `*.` and one; `one_label` is what the star stands for.
    ///
    /// # Errors
    /// See [`HostNameError`].
    pub fn parse(text: &str, one_label: bool) -> Result<Self, HostNameError> {
        match text.strip_prefix("*.") {
            Some(suffix) => Ok(Self::Wildcard { suffix: HostName::parse(suffix)?, one_label }),
            None => HostName::parse(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard { suffix, .. } => write!(f, "*.{suffix}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
