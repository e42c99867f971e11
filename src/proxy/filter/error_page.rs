//! Error pages: which answers get one, what the Service is asked, and what of its answer the client gets. Asks nobody
//! itself.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ir::{BackendId, BackendTarget, RouteId, StatusRange, Timeouts};

use crate::answer::{DECISION, Payload};
use crate::error::Reason;
use crate::generation::RouteBackend;
use crate::request::Asked;
use crate::upstream::AsideTerms;

/// Says what the error was. A request that has it asks for a page itself, and gets none for its own errors: a Service
/// that leads back to the gateway ends there.
const X_CODE: HeaderName = HeaderName::from_static("x-code");

/// What of the client's fields the Service gets. Neither cookies nor credentials: a page needs none.
const TOLD: [HeaderName; 3] = [header::ACCEPT, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE];
/// What of the fields of the first answer stays beside those of the page.
const KEPT: [HeaderName; 4] = [header::WWW_AUTHENTICATE, header::RETRY_AFTER, header::ALLOW, DECISION];

/// The longest time without a part of a page that has begun.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A Service that makes pages, and of what.
#[derive(Debug)]
pub(crate) struct PageSource {
    pub(crate) statuses: Vec<StatusRange>,
    pub(crate) without_endpoints: bool,
    /// `None`: it is missing.
    pub(crate) upstream: Option<RouteBackend>,
}

impl PageSource {
    /// Whether an answer gets its page. `refused`: the gateway's own reason, if the answer is its own.
    pub(crate) fn takes(&self, status: StatusCode, refused: Option<Reason>) -> bool {
        let is_without = matches!(refused, Some(Reason::NoEndpoint | Reason::BackendMissing));
        (self.without_endpoints && is_without)
            || self.statuses.iter().any(|range| range.contains(status.as_u16()))
    }
}

/// How the Services are asked.
pub(super) fn page_terms() -> AsideTerms {
    let timeouts = Timeouts { idle: Some(IDLE_MAX), ..Timeouts::default() };
    AsideTerms { timeouts, ..AsideTerms::default() }
}

/// Whether the client of this request can be shown a page.
pub(crate) fn can_be_shown(asked: &Asked) -> bool {
    !asked.names_upgrade && !asked.headers.contains_key(X_CODE)
}

/// The fields that tell the Service of the error, by the names of ingress-nginx.
pub(crate) fn fields(
    status: StatusCode,
    asked: &Asked,
    route: &RouteId,
    backend: Option<&BackendTarget>,
) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(16);
    for name in &TOLD {
        for value in asked.headers.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    let mut tell = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(HeaderName::from_static(name), value);
        }
    };
    tell("x-code", status.as_str());
    if let Some(format) = asked.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) {
        tell("x-format", format);
    }
    match asked.query() {
        Some(query) => tell("x-original-uri", &format!("{}?{query}", asked.path())),
        None => tell("x-original-uri", asked.path()),
    }
    tell("x-namespace", &route.object.namespace);
    tell("x-ingress-name", &route.object.name);
    if let Some(BackendTarget::Backend(id) | BackendTarget::Missing(id)) = backend {
        let (name, port) = match id {
            BackendId::Service { name, port, .. } => (name, port),
            BackendId::Address { host, port } => (host, port),
        };
        tell("x-service-name", name);
        tell("x-service-port", itoa::Buffer::new().format(*port));
    }
    fields
}

/// The status of an answer with the page. A Service that answers 2xx or the error's own status has made the page of it;
/// a redirect or another 4xx is its own word, as with nginx. `None`: it has failed.
pub(crate) fn shown_status(error: StatusCode, page: StatusCode) -> Option<StatusCode> {
    match page {
        StatusCode::NOT_MODIFIED => None,
        page if page.is_success() || page == error => Some(error),
        page if page.is_redirection() || page.is_client_error() => Some(page),
        _ => None,
    }
}

/// A page on its way to the client.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
}

impl Page {
    /// Takes the place of an answer.
    pub(crate) fn replace(self, response: &mut Response<Payload>) {
        let Self { status, headers, payload } = self;
        let first = std::mem::replace(response.headers_mut(), headers);
        for name in KEPT {
            // An id of a decision is the gateway's alone.
            if first.contains_key(&name) || name == DECISION {
                response.headers_mut().remove(&name);
            }
            for value in first.get_all(&name) {
                response.headers_mut().append(&name, value.clone());
            }
        }
        *response.status_mut() = status;
        *response.body_mut() = payload;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_errors_unless_the_service_has_a_word_of_its_own() {
        for (error, page, want) in [
            (404, 200, Some(404)),
            (404, 204, Some(404)),
            (503, 503, Some(503)),
            (404, 302, Some(302)),
            (503, 404, Some(404)),
            (404, 304, None),
            (404, 500, None),
            (503, 502, None),
        ] {
            let status = |code| StatusCode::from_u16(code).unwrap();
            let got = shown_status(status(error), status(page)).map(|status| status.as_u16());
            assert_eq!(got, want, "{error} {page}");
        }
    }

    #[test]
    fn a_page_keeps_what_the_client_must_know_of_the_error() {
        let mut response = Response::new(Payload::Full("first".into()));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        for (name, value) in [
            ("www-authenticate", "Basic"),
            ("www-authenticate", "Bearer"),
            ("content-encoding", "gzip"),
            ("set-cookie", "a=b"),
            ("x-baribhara-decision", "0123"),
        ] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let mut headers = HeaderMap::new();
        headers.insert("www-authenticate", HeaderValue::from_static("Digest"));
        headers.insert("x-baribhara-decision", HeaderValue::from_static("forged"));
        headers.insert("content-type", HeaderValue::from_static("text/html"));
        Page { status: StatusCode::UNAUTHORIZED, headers, payload: Payload::Full("page".into()) }
            .replace(&mut response);
        let mut got: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        got.sort();
        assert_eq!(
            got,
            [
                "content-type: text/html",
                "www-authenticate: Basic",
                "www-authenticate: Bearer",
                "x-baribhara-decision: 0123",
            ]
        );
    }
}
