//! How types of other crates are written in `/config` and in the goldens.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde::Serializer;
use serde::ser::SerializeSeq;

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

pub(crate) fn millis<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format!("{}ms", value.as_millis()))
}

pub(crate) fn opt_millis<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => millis(value, s),
        None => s.serialize_none(),
    }
}

/// How much there is of something that nobody reads.
pub(crate) fn length<S: Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format!("{} bytes", value.len()))
}

pub(crate) fn opt_length<S: Serializer>(value: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => length(value, s),
        None => s.serialize_none(),
    }
}

/// Bytes of public keys on one line.
pub(crate) fn hex<S: Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(value.len() * 2);
    for byte in value {
        text.push_str(&format!("{byte:02x}"));
    }
    s.serialize_str(&text)
}

pub(crate) fn header_name<S: Serializer>(value: &HeaderName, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(value.as_str())
}

pub(crate) fn opt_header_name<S: Serializer>(value: &Option<HeaderName>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => header_name(value, s),
        None => s.serialize_none(),
    }
}

pub(crate) fn opt_header_value<S: Serializer>(value: &Option<HeaderValue>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => s.serialize_str(&text(value)),
        None => s.serialize_none(),
    }
}

pub(crate) fn header_names<S: Serializer>(value: &[HeaderName], s: S) -> Result<S::Ok, S::Error> {
    let mut seq = s.serialize_seq(Some(value.len()))?;
    for name in value {
        seq.serialize_element(name.as_str())?;
    }
    seq.end()
}

pub(crate) fn header_pairs<S: Serializer>(
    value: &[(HeaderName, HeaderValue)],
    s: S,
) -> Result<S::Ok, S::Error> {
    let mut seq = s.serialize_seq(Some(value.len()))?;
    for (name, value) in value {
        let value = if is_private(name) { "[redacted]".to_owned() } else { text(value) };
        seq.serialize_element(&format!("{name}: {value}"))?;
    }
    seq.end()
}

/// Headers whose values are credentials, whoever sets them.
fn is_private(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization" | "proxy-authorization" | "cookie" | "set-cookie" | "x-api-key" | "x-auth-token"
    )
}

pub(crate) fn opt_header_names<S: Serializer>(
    value: &Option<Vec<HeaderName>>,
    s: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => header_names(value, s),
        None => s.serialize_none(),
    }
}

pub(crate) fn method<S: Serializer>(value: &Method, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(value.as_str())
}

pub(crate) fn methods<S: Serializer>(value: &[Method], s: S) -> Result<S::Ok, S::Error> {
    let mut seq = s.serialize_seq(Some(value.len()))?;
    for method in value {
        seq.serialize_element(method.as_str())?;
    }
    seq.end()
}
