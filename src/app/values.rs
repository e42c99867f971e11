//! Parsers for values of flags: durations, sizes, networks, addresses. Knows no flag and no default.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use ir::Algorithm;
use proxy::AccessLogTarget;

/// Why a flag's value was not understood. The text is what the user reads after the flag's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// Nothing to parse.
    Empty,
    /// A number was expected at this place of the text.
    NoNumber,
    /// The number has no unit; these would do.
    NoUnit(&'static str),
    /// A unit that does not exist; these do.
    UnknownUnit(String, &'static str),
    /// A unit stands twice or after a smaller one.
    UnitOrder,
    /// More than the machine can count.
    TooLarge,
    /// Outside the bounds, which stand here as text.
    OutOfBounds { least: String, most: String },
    /// Not an address with a port.
    NotAnAddress,
    /// Not an IP address or a network in CIDR form.
    NotANetwork,
    /// Not the name of a namespace.
    NotANamespace,
    /// Not a namespace and a Service.
    NotAService,
    /// Not a namespace and a Secret.
    NotASecret,
    /// Neither a status nor a range of them.
    NotStatuses,
    /// No name of RFC 7518 that we sign with.
    UnknownAlgorithm,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the value is empty"),
            Self::NoNumber => f.write_str("a number is missing"),
            Self::NoUnit(units) => write!(f, "the unit is missing: one of {units}"),
            Self::UnknownUnit(unit, units) => write!(f, "unknown unit '{unit}': use one of {units}"),
            Self::UnitOrder => f.write_str("each unit stands once, larger ones first, as in 1h30m"),
            Self::TooLarge => f.write_str("the value is too large"),
            Self::OutOfBounds { least, most } => write!(f, "must be between {least} and {most}"),
            Self::NotAnAddress => {
                f.write_str("expected ADDRESS:PORT, as in 127.0.0.1:8080, [::]:8080 or :8080")
            }
            Self::NotANetwork => f.write_str("expected an IP address or a network, as in 10.0.0.0/8 or fd00::/8"),
            Self::NotANamespace => {
                f.write_str("expected the name of a namespace: lower case letters, digits and '-', at most 63")
            }
            Self::NotAService => f.write_str("expected NAMESPACE/NAME of a Service"),
            Self::NotASecret => f.write_str("expected NAMESPACE/NAME of a Secret"),
            Self::NotStatuses => f.write_str("expected a status or a range, as in 200 or 200-399"),
            Self::UnknownAlgorithm => {
                f.write_str("expected HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")
            }
        }
    }
}

impl std::error::Error for ValueError {}

const DURATION_UNITS: &str = "h, m, s, ms";
const SIZE_UNITS: &str = "Ki, Mi, Gi, k, M, G (or none for bytes)";

/// Parses a duration of GEP-2257 (`1h30m`, `30s`, `500ms`); `0` needs no unit.
///
/// # Errors
/// See [`ValueError`].
pub(crate) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut last_unit_ms = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, tail) = after.split_at(unit_end);
        let unit_ms = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            "" => return Err(ValueError::NoUnit(DURATION_UNITS)),
            other => return Err(ValueError::UnknownUnit(other.to_owned(), DURATION_UNITS)),
        };
        if unit_ms >= last_unit_ms {
            return Err(ValueError::UnitOrder);
        }
        last_unit_ms = unit_ms;
        let part = number.checked_mul(unit_ms).ok_or(ValueError::TooLarge)?;
        total_ms = total_ms.checked_add(part).ok_or(ValueError::TooLarge)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// A parser of durations that lie in these bounds.
pub(crate) fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, ValueError> + Clone + Send + Sync + 'static {
    move |text| {
        let value = parse_duration(text)?;
        if bounds.contains(&value) {
            return Ok(value);
        }
        Err(ValueError::OutOfBounds {
            least: format!("{:?}", bounds.start()),
            most: format!("{:?}", bounds.end()),
        })
    }
}

/// Parses a size in bytes with an optional unit of Kubernetes quantities (`1Mi`, `64k`).
///
/// # Errors
/// See [`ValueError`].
pub(crate) fn parse_size(text: &str) -> Result<u64, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    let (number, unit) = split_number(text)?;
    let unit_bytes: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        other => return Err(ValueError::UnknownUnit(other.to_owned(), SIZE_UNITS)),
    };
    number.checked_mul(unit_bytes).ok_or(ValueError::TooLarge)
}

/// A parser of sizes in bytes that lie in these bounds.
pub(crate) fn size(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, ValueError> + Clone + Send + Sync + 'static {
    move |text| {
        let value = parse_size(text)?;
        if bounds.contains(&value) {
            return Ok(value);
        }
        Err(ValueError::OutOfBounds {
            least: format!("{} bytes", bounds.start()),
            most: format!("{} bytes", bounds.end()),
        })
    }
}

/// How much memory the process may take before it turns load away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryBudget {
    Off,
    Bytes(u64),
    /// Of the limit of the process's control group, if it has one.
    Percent(u8),
}

/// Parses where to listen. `:8080` means every address of the machine.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotAnAddress`].
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.parse().map_err(|_| ValueError::NotAnAddress)
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeListen(pub(crate) Option<SocketAddr>);

/// The same, or `off`.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotAnAddress`].
pub(crate) fn parse_maybe_listen(text: &str) -> Result<MaybeListen, ValueError> {
    if text == "off" { Ok(MaybeListen(None)) } else { parse_listen(text).map(|addr| MaybeListen(Some(addr))) }
}

/// Parses a network; a bare address is the network of that one address.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotANetwork`].
pub(crate) fn parse_network(text: &str) -> Result<IpNet, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(net.trunc());
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => Err(ValueError::NotANetwork),
    }
}

/// Reads the name of a namespace (a DNS label, RFC 1123).
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotANamespace`].
pub(crate) fn parse_namespace(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err(ValueError::NotANamespace) }
}

/// Reads the namespace and the name of a Service, with a slash between.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotAService`].
pub(crate) fn parse_service(text: &str) -> Result<(String, String), ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    match text.split_once('/') {
        Some((namespace, name)) if is_dns_label(namespace) && is_dns_label(name) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err(ValueError::NotAService),
    }
}

/// Reads the namespace and the name of a Secret, with a slash between.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotASecret`].
pub(crate) fn parse_secret(text: &str) -> Result<(String, String), ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    match text.split_once('/') {
        Some((namespace, name))
            if is_dns_label(namespace) && name.len() <= 253 && name.split('.').all(is_dns_label) =>
        {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err(ValueError::NotASecret),
    }
}

/// Reads HTTP statuses: one, or the first and the last of a range.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NotStatuses`].
pub(crate) fn parse_statuses(text: &str) -> Result<RangeInclusive<u16>, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(_) | None, _) => Err(ValueError::NotStatuses),
    }
}

/// Reads where the access log goes.
///
/// # Errors
/// [`ValueError::Empty`].
pub(crate) fn parse_access_log(text: &str) -> Result<AccessLogTarget, ValueError> {
    match text {
        "" => Err(ValueError::Empty),
        "off" => Ok(AccessLogTarget::Off),
        "stdout" | "-" => Ok(AccessLogTarget::Stdout),
        file => Ok(AccessLogTarget::File(PathBuf::from(file))),
    }
}

/// Reads the name of a signature algorithm (RFC 7518 §3.1, RFC 8037), as it stands in a token's head.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::UnknownAlgorithm`].
pub(crate) fn parse_algorithm(text: &str) -> Result<Algorithm, ValueError> {
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    Algorithm::named(text).ok_or(ValueError::UnknownAlgorithm)
}

/// Reads `Name: value`.
///
/// # Errors
/// There is no colon.
pub(crate) fn read_header(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line
        .split_once(':')
        .with_context(|| format!("a header is 'Name: value', and '{line}' has no colon"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The decimal number at the start of the text, and what follows it.
fn split_number(text: &str) -> Result<(u64, &str), ValueError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Err(ValueError::NoNumber);
    }
    let (digits, rest) = text.split_at(end);
    // Only digits are left, so that the one way to fail is the size.
    let number = digits.parse().map_err(|_| ValueError::TooLarge)?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests;
