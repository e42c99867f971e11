//! What a route asks of clients that came without TLS, and tells those that came with it.

use http::HeaderValue;
use ir::{Route, Scheme};

use crate::request::Asked;

/// Where an authority looks for the answers to its challenges, without TLS (RFC 8555 §8.3).
const ACME_CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The status by which the client is sent to `https`, where the route wants that.
pub(crate) fn redirect_status(asked: &Asked, route: &Route) -> Option<u16> {
    let status = route.tls.as_ref()?.redirect_status?;
    (asked.scheme() == Scheme::Http && !asked.path().starts_with(ACME_CHALLENGES)).then_some(status)
}

/// The same place under `https`, on its well-known port: the client can't know ours, which a Service may hide. `None`:
/// there is no host.
pub(crate) fn location(host: &str, path: &str, query: Option<&str>) -> Option<HeaderValue> {
    if host.is_empty() {
        return None;
    }
    let mut location = ["https://", host, path].concat();
    if let Some(query) = query {
        location.push('?');
        table::push_query(&mut location, query);
    }
    HeaderValue::try_from(location).ok()
}

/// The `Strict-Transport-Security` of the route's answers. Only over TLS does it count (RFC 6797 §7.2).
pub(crate) fn hsts<'a>(asked: &Asked, route: &'a Route) -> Option<&'a HeaderValue> {
    let hsts = route.tls.as_ref()?.hsts.as_ref()?;
    (asked.scheme() == Scheme::Https).then_some(hsts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_same_one_under_https() {
        for (host, path, query, want) in [
            ("a.example", "/", None, Some("https://a.example/")),
            ("a.example", "/a%20b/c", Some("q=1&r"), Some("https://a.example/a%20b/c?q=1&r")),
            ("a.example", "/", Some(""), Some("https://a.example/?")),
            ("a.example", "/", Some("q=é#\"<"), Some("https://a.example/?q=%C3%A9%23\"<")),
            ("[2001:db8::1]", "/", None, Some("https://[2001:db8::1]/")),
            ("", "/", None, None),
        ] {
            let got = location(host, path, query);
            assert_eq!(got.as_ref().map(|value| value.to_str().unwrap()), want, "{host}{path}?{query:?}");
        }
    }
}
