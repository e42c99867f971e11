//! Small values that several parts of objects share: header names and values, methods, networks, claim paths. The
//! schema has patterns for them; what they let through and no request can carry is refused here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use k8s_openapi::ByteString;

use crate::report::{Field, Lines, Refused};

/// RFC 9110 §7.6.1 and RFC 9112 §6: who could change them could smuggle requests.
const FRAMING_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether an answer with this status sends the client elsewhere (RFC 9110 §15.4).
pub(crate) const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// What a Secret or ConfigMap holds: entries of text, and of bytes.
pub(crate) type Entries<'a> =
    (Option<&'a BTreeMap<String, String>>, Option<&'a BTreeMap<String, ByteString>>);

/// One entry. Text wins, as `stringData` does on the API server, which a folder has none of.
pub(crate) fn entry<'a>((texts, binaries): Entries<'a>, key: &str) -> Option<&'a [u8]> {
    let text = texts.and_then(|entries| entries.get(key)).map(String::as_bytes);
    text.or_else(|| binaries?.get(key).map(|entry| entry.0.as_slice()))
}

/// A header's name.
pub(crate) fn header_name(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<HeaderName, Refused> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        let remedy = "use letters, digits and '-' only";
        lines.error(field, format!("'{text}' is no header name"), remedy)
    })
}

/// A header that a user may write to: not one of those by which the gateway itself frames and addresses messages.
pub(crate) fn own_header_name(
    text: &str,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<HeaderName, Refused> {
    let name = header_name(text, field, lines)?;
    if name == http::header::HOST {
        let message = "'host' is not changed as a header";
        return Err(lines.error(field, message, "use a URLRewrite filter with hostname"));
    }
    if FRAMING_HEADERS.contains(&name.as_str()) {
        let message =
            format!("'{name}' belongs to the connection, not to the message, and is set by the gateway");
        return Err(lines.error(field, message, "leave this header out"));
    }
    Ok(name)
}

/// Names of headers; a bad one refuses the list, after all have been looked at.
pub(crate) fn header_names(
    texts: &[String],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Vec<HeaderName>, Refused> {
    all(texts, field, |text, field| header_name(text, field, lines))
}

/// A header's value.
pub(crate) fn header_value(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<HeaderValue, Refused> {
    HeaderValue::from_str(text).map_err(|_| {
        let remedy = "use visible ASCII characters and blanks only";
        lines.error(field, "the header's value has characters that no header can carry", remedy)
    })
}

/// Methods, as they are asked: with regard to case.
pub(crate) fn methods(texts: &[String], field: Field<'_>, lines: &mut Lines) -> Result<Vec<Method>, Refused> {
    all(texts, field, |text, field| {
        Method::from_bytes(text.as_bytes()).map_err(|_| {
            lines.error(field, format!("'{text}' is no HTTP method"), "write a method like GET, in capitals")
        })
    })
}

/// A status from `least` to 599, or a range of them with both ends.
pub(crate) fn status_range(text: &str, least: u16) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let status = text.parse::<u16>().ok().filter(|status| (least..=599).contains(status));
        status.filter(|_| text.len() == 3)
    };
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}

/// Networks, or single addresses. Bits behind the prefix are cleared.
pub(crate) fn networks(texts: &[String], field: Field<'_>, lines: &mut Lines) -> Result<Vec<IpNet>, Refused> {
    all(texts, field, |text, field| {
        let parsed = match text.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
        };
        parsed.ok_or_else(|| {
            let remedy = "write an address like 192.0.2.1 or a network like 10.0.0.0/8 or 2001:db8::/32";
            lines.error(field, format!("'{text}' is neither an IP address nor a network"), remedy)
        })
    })
}

/// The way to a claim: dotted, or a JSON pointer (RFC 6901) where it starts with `/`.
pub(crate) fn claim_path(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<Vec<String>, Refused> {
    if let Some(pointer) = text.strip_prefix('/') {
        return Ok(pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect());
    }
    if text.is_empty() || text.split('.').any(str::is_empty) {
        let remedy =
            "write realm.roles, or a JSON pointer like /https:~1~1example.com~1roles where a name has dots";
        return Err(lines.error(
            field,
            format!("'{text}' names no claim: a step of the way is empty"),
            remedy,
        ));
    }
    Ok(text.split('.').map(str::to_owned).collect())
}

/// Reads all elements, so that every bad one gets its line; one bad element refuses the list.
pub(crate) fn all<'a, I, O>(
    items: &'a [I],
    field: Field<'_>,
    mut read: impl FnMut(&'a I, Field<'_>) -> Result<O, Refused>,
) -> Result<Vec<O>, Refused> {
    let mut values = Vec::with_capacity(items.len());
    let mut refused = None;
    for (index, item) in items.iter().enumerate() {
        match read(item, field.index(index)) {
            Ok(value) => values.push(value),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        None => Ok(values),
        Some(error) => Err(error),
    }
}
