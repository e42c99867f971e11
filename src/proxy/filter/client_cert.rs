//! Certificates of clients at a route: whether one is there where it must be, and what backends are told of it. What a
//! client itself says of its certificate never gets through.

use http::{HeaderMap, HeaderName, HeaderValue};
use ir::{ClientAuthMode, Route, RouteClient};

use crate::server::Downstream;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const X_CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-client-subject");
const X_CLIENT_VERIFY: HeaderName = HeaderName::from_static("x-client-verify");

/// Fields by which proxies tell of a client's certificate: ours, those of RFC 9440 and those of ingress-nginx.
pub(crate) fn speaks_of_certificate(name: &str) -> bool {
    // Asked of every field of every request, so most are told apart by their first letter.
    match name.as_bytes().first() {
        Some(b'c') => matches!(name, "client-cert" | "client-cert-chain"),
        Some(b's') => name.starts_with("ssl-client-"),
        Some(b'x') => {
            name.starts_with("x-ssl-client-") || matches!(name, "x-client-subject" | "x-client-verify")
        }
        Some(_) | None => false,
    }
}

/// Whether the connection has the certificate that the route requires. Its own policy may be that of another object,
/// which speaks of the same host and is older.
pub(crate) fn is_shown(downstream: &Downstream, route: &Route) -> bool {
    let Some(client) = route.tls.as_ref().and_then(|tls| tls.client.as_ref()) else { return true };
    match client.auth.mode {
        ClientAuthMode::Optional => true,
        ClientAuthMode::Require => {
            downstream.tls().and_then(|session| session.client.verified_by(&client.auth)).is_some()
        }
    }
}

/// Puts what the route forwards in the place of whatever the request says of a certificate; here not even a trusted
/// proxy is believed, for the gateway asks the client itself.
pub(crate) fn tell(client: &RouteClient, downstream: &Downstream, headers: &mut HeaderMap) {
    let said: Vec<HeaderName> =
        headers.keys().filter(|name| speaks_of_certificate(name.as_str())).cloned().collect();
    for name in &said {
        headers.remove(name);
    }
    let shown = downstream.tls().and_then(|session| session.client.verified_by(&client.auth));
    if client.forward.verify {
        let text = if shown.is_some() { "SUCCESS" } else { "NONE" };
        headers.insert(X_CLIENT_VERIFY, HeaderValue::from_static(text));
    }
    let Some(certificate) = shown else { return };
    if client.forward.subject {
        headers.insert(X_CLIENT_SUBJECT, certificate.subject.clone());
    }
    if client.forward.certificate {
        headers.insert(CLIENT_CERT, certificate.field.clone());
    }
}
