//! The one form of a request's host. Must not know routes, and accepts exactly what `ir::HostName` accepts.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// Why a `Host` or `:authority` is refused; the request is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Nothing is left without port and dot.
    Empty,
    /// More than 253 characters or a label over 63.
    TooLong,
    /// Userinfo, a comma, a slash, a blank, an empty label: anything that no host name has.
    BadCharacter,
    /// Something in brackets that is no IPv6 address.
    BadAddress,
    /// Not a number up to 65535.
    BadPort,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::TooLong => "the host is longer than 253 characters or has a label over 63",
            Self::BadCharacter => "the host holds a character that no host name has",
            Self::BadAddress => "the host's brackets hold no IPv6 address",
            Self::BadPort => "the host's port is not a number up to 65535",
        })
    }
}

impl std::error::Error for HostError {}

/// Folds a request's `Host` or authority: without port and trailing dot, in lower case, an IPv6 literal in its
/// shortest form with brackets. Borrows where nothing but the end is cut off.
///
/// # Errors
/// See [`HostError`].
pub fn fold(raw: &str) -> Result<Cow<'_, str>, HostError> {
    if raw.starts_with('[') {
        return fold_ipv6(raw);
    }
    let name = match memchr::memchr(b':', raw.as_bytes()) {
        Some(colon) => {
            let (name, port) = raw.split_at(colon);
            check_port(port)?;
            name
        }
        None => raw,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if check_name(name)? { Ok(Cow::Owned(name.to_ascii_lowercase())) } else { Ok(Cow::Borrowed(name)) }
}

fn fold_ipv6(raw: &str) -> Result<Cow<'_, str>, HostError> {
    let end = raw.find(']').ok_or(HostError::BadAddress)? + 1;
    let (literal, port) = raw.split_at(end);
    if !port.is_empty() {
        check_port(port)?;
    }
    let inner = literal.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or_default();
    let address: Ipv6Addr = inner.parse().map_err(|_| HostError::BadAddress)?;
    let folded = format!("[{address}]");
    Ok(if folded == literal { Cow::Borrowed(literal) } else { Cow::Owned(folded) })
}

/// Checks `:digits`. RFC 3986 §3.2.3 allows no digit at all, which means the default port.
fn check_port(port: &str) -> Result<(), HostError> {
    let digits = port.strip_prefix(':').ok_or(HostError::BadPort)?;
    if digits.is_empty() {
        return Ok(());
    }
    let plain = digits.len() <= 5 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if plain && digits.parse::<u16>().is_ok() { Ok(()) } else { Err(HostError::BadPort) }
}

/// Checks every label and says whether one has an upper-case letter.
fn check_name(name: &str) -> Result<bool, HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::TooLong);
    }
    let mut upper = false;
    let mut label_bytes = 0_usize;
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label_bytes += 1,
            b'A'..=b'Z' => {
                upper = true;
                label_bytes += 1;
            }
            b'.' if label_bytes > 0 => label_bytes = 0,
            _ => return Err(HostError::BadCharacter),
        }
        if label_bytes > 63 {
            return Err(HostError::TooLong);
        }
    }
    if label_bytes == 0 { Err(HostError::BadCharacter) } else { Ok(upper) }
}

#[cfg(test)]
mod tests;
