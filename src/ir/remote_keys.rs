//! Key sets that are fetched by URL: from where, how often, and which addresses may be asked for them. Fetches nothing
//! and resolves no name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use http::Uri;
use serde::{Serialize, Serializer};

use crate::{Scheme, Trust, ser};

/// A key set by its URL. Equal ones are one key set, whatever names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteKeys {
    pub uri: KeysUri,
    /// Since the last successful fetch, until the next.
    #[serde(serialize_with = "ser::millis")]
    pub cache_duration: Duration,
    /// Since the last successful fetch, for as long as the keys may be used.
    #[serde(serialize_with = "ser::millis")]
    pub max_stale: Duration,
    /// For one whole fetch.
    #[serde(serialize_with = "ser::millis")]
    pub timeout: Duration,
    pub trust: Trust,
    /// Whether `http` and addresses of [`AddressRange::Private`] may be asked.
    pub allow_private: bool,
}

impl RemoteKeys {
    /// Whether keys fetched for one are good for the other: only the schedule differs.
    pub fn is_same_source(&self, other: &Self) -> bool {
        self.uri == other.uri && self.trust == other.trust && self.allow_private == other.allow_private
    }
}

/// Where a key set is. Prints without its query, which may hold a credential.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeysUri {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysUriError {
    /// Not an absolute URL with a host.
    Malformed,
    /// Neither `https` nor `http`.
    Scheme,
    /// A name or password stands before the host.
    Credentials,
}

impl KeysUriError {
    /// What is wrong, for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "this is no absolute URL with a host",
            Self::Scheme => "the URL is neither https nor http",
            Self::Credentials => {
                "the URL holds a name or password, which would be seen by whoever reads the object"
            }
        }
    }
}

impl KeysUri {
    /// # Errors
    /// See [`KeysUriError`]. The text itself is never quoted.
    pub fn parse(text: &str) -> Result<Self, KeysUriError> {
        let (scheme, _) = text.split_once("://").ok_or(KeysUriError::Malformed)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(KeysUriError::Scheme),
        };
        let uri: Uri = text.parse().map_err(|_| KeysUriError::Malformed)?;
        let authority = uri.authority().ok_or(KeysUriError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(KeysUriError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            after if !after.is_empty() => {
                let digits = after.strip_prefix(':').ok_or(KeysUriError::Malformed)?;
                digits.parse().map_err(|_| KeysUriError::Malformed)?
            }
            _ => match scheme {
                Scheme::Http => 80,
                Scheme::Https => 443,
            },
        };
        if host.is_empty() || port == 0 {
            return Err(KeysUriError::Malformed);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self { scheme, host, port, target: target.to_owned() })
    }

    /// Where a redirect to this leads (RFC 9110 §10.2.2).
    ///
    /// # Errors
    /// The reference is no such URL.
    pub fn join(&self, reference: &str) -> Result<Self, KeysUriError> {
        if let Some(network) = reference.strip_prefix("//") {
            return Self::parse(&format!("{}://{network}", self.scheme.as_str()));
        }
        // RFC 3986 §3.1: a colon before any other delimiter ends a scheme.
        let is_absolute = reference.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        if is_absolute {
            return Self::parse(reference);
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.starts_with('?') {
            format!("{path}{reference}")
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{reference}")
        };
        let target = target.split('#').next().unwrap_or("/").to_owned();
        target.parse::<http::uri::PathAndQuery>().map_err(|_| KeysUriError::Malformed)?;
        Ok(Self { target, ..self.clone() })
    }

    /// Whether both lead to one server.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A DNS name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// As it stands in the field `Host`.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Path and query, for the request alone.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for KeysUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or("/");
        write!(f, "{}://{}{path}", self.scheme.as_str(), self.authority())?;
        if self.target.contains('?') { f.write_str("?[redacted]") } else { Ok(()) }
    }
}

impl fmt::Debug for KeysUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeysUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an address is to somebody who lets others write down where the gateway sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRange {
    /// Anybody could ask it.
    Public,
    /// Only those near the gateway can: loopback, private networks, a cluster's Services.
    Private,
    /// Link-local (the cloud's metadata service among them), or of no one machine. Never asked.
    Never,
}

/// Metadata services that stand outside the link-local networks (RFC 3927 §2.1, RFC 4291 §2.5.6).
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl AddressRange {
    /// What the address is (RFC 6890). An IPv6 address that stands for one of IPv4 is what that one is.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(address) => Self::of_v4(address),
                None => Self::of_v6(address),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        let is_never = address.is_link_local()
            || address.is_multicast()
            || METADATA_V4.contains(&address)
            // RFC 1122 §3.2.1.3: systems take 0.0.0.0 for loopback. RFC 1112 §4: the last sixteenth is nobody's.
            || a == 0
            || a >= 240;
        let is_private = address.is_loopback()
            || address.is_private()
            || address.is_documentation()
            // RFC 6598, RFC 2544, RFC 6890 §2.1.
            || (a == 100 && b & 0xc0 == 64)
            || (a == 198 && b & 0xfe == 18)
            || (a == 192 && b == 0 && c == 0);
        match (is_never, is_private) {
            (true, _) => Self::Never,
            (false, true) => Self::Private,
            (false, false) => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [first, second, ..] = address.segments();
        if address.is_unspecified()
            || address.is_multicast()
            || address.is_unicast_link_local()
            || address == METADATA_V6
        {
            return Self::Never;
        }
        // RFC 4193, RFC 3879 §4 (site-local, still routed as such by some), RFC 3849.
        let is_private = address.is_loopback()
            || first & 0xfe00 == 0xfc00
            || first & 0xffc0 == 0xfec0
            || (first == 0x2001 && second == 0xdb8);
        if is_private { Self::Private } else { Self::Public }
    }
}

/// The IPv4 address within: mapped or compatible (RFC 4291 §2.5.5), for a translator (RFC 6052 §2.1, RFC 8215), or of a
/// tunnel (RFC 3056 §2).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let [[first, second], [third, fourth]] = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, _, _, _] => {
            [high.to_be_bytes(), low.to_be_bytes()]
        }
        // The unspecified address and loopback have this form too, and are none.
        [0, 0, 0, 0, 0, 0] if high != 0 => [high.to_be_bytes(), low.to_be_bytes()],
        [0x2002, first, second, _, _, _] => [first.to_be_bytes(), second.to_be_bytes()],
        _ => return None,
    };
    Some(Ipv4Addr::new(first, second, third, fourth))
}

#[cfg(test)]
mod tests;
