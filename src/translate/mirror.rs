//! Mirrors, by filter and by annotation.

use api::{RequestMirror, ServiceRef};
use ir::Mirror;

use crate::reader::Reader;
use crate::report::{Field, Lines};
use crate::side_backend::side_backend;

/// What follows where the Service is not there.
pub(crate) const NO_MIRROR: &str = "nothing is mirrored";

/// The mirror of a filter.
pub(crate) fn mirror(
    spec: &RequestMirror,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Mirror {
    if spec.percent > 100 {
        lines.warning(field.key("percent"), "percent is taken as 100", "write 0 to 100");
    }
    let backend = side_backend(&spec.backend_ref, NO_MIRROR, field.key("backendRef"), reader, lines);
    Mirror { backend, percent: spec.percent.min(100), includes_body: spec.include_body }
}

/// The Service that an annotation names: `NAME`, `NAME:PORT`, or a URL whose host is a Service's name in the cluster.
/// What follows the host names the request, which the copy has from its request anyway. `None`: it is none of these.
/// A port of 0: none is named.
pub(crate) fn named_service(text: &str, own_namespace: &str) -> Option<ServiceRef> {
    let (is_url, rest, port) = match text.split_once("://") {
        Some(("http", rest)) => (true, rest, 80),
        Some(_) => return None,
        None => (false, text, 0),
    };
    let authority = if is_url { rest.split(['/', '$', '?']).next()? } else { rest };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (authority, port),
    };
    let mut labels = host.split('.');
    let name = labels.next().filter(|name| is_label(name))?;
    let namespace = labels.next();
    match (labels.next(), labels.collect::<Vec<_>>().join(".").as_str()) {
        (None, _) | (Some("svc"), "" | "cluster.local") => {}
        (Some(_), _) => return None,
    }
    if !namespace.is_none_or(is_label) {
        return None;
    }
    let namespace = namespace.filter(|namespace| *namespace != own_namespace).map(str::to_owned);
    Some(ServiceRef { name: name.to_owned(), namespace, port })
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_service_or_nothing() {
        let service = |name: &str, namespace: Option<&str>, port| {
            Some(ServiceRef { name: name.to_owned(), namespace: namespace.map(str::to_owned), port })
        };
        for (text, want) in [
            ("shadow", service("shadow", None, 0)),
            ("shadow:8080", service("shadow", None, 8080)),
            ("http://shadow.shop.svc.cluster.local:81$request_uri", service("shadow", None, 81)),
            ("http://shadow.other.svc/$request_uri", service("shadow", Some("other"), 80)),
            ("http://shadow.other", service("shadow", Some("other"), 80)),
            ("https://shadow.shop.svc", None),
            ("https://test.env.com$request_uri", None),
            ("http://test.env.com/$request_uri", None),
            ("http://10.0.0.1.svc", None),
            ("shadow:0", None),
            ("shadow:x", None),
            ("", None),
            ("/path", None),
        ] {
            assert_eq!(named_service(text, "shop"), want, "{text}");
        }
    }
}
