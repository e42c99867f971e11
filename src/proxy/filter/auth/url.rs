//! URLs of what was asked for, and those that are made of them: for a service that decides, and for a page where people
//! sign in. Edits no request.

use std::borrow::Cow;

use http::HeaderValue;
use ir::{Scheme, SignIn, UrlPart, UrlTemplate};

use crate::request::Asked;

/// A longer Location no browser takes for sure.
const LOCATION_BYTES_MAX: usize = 16 << 10;

/// Path and query.
pub(super) fn request_uri(asked: &Asked) -> String {
    let mut uri = asked.path().to_owned();
    if let Some(query) = asked.query() {
        uri.push('?');
        table::push_query(&mut uri, query);
    }
    uri
}

/// The host that the client asked for, with its port unless it is that of the scheme.
pub(super) fn authority(asked: &Asked) -> Cow<'_, str> {
    let (host, port) = (asked.public_host(), asked.public_port());
    if port == default_port(asked.scheme()) { host } else { format!("{host}:{port}").into() }
}

/// All that was asked for.
pub(super) fn full(asked: &Asked) -> String {
    [asked.scheme().as_str(), "://", &authority(asked), &request_uri(asked)].concat()
}

pub(crate) fn render(template: &UrlTemplate, asked: &Asked) -> String {
    let mut url = String::new();
    for part in &template.0 {
        match part {
            UrlPart::Text(text) => url.push_str(text),
            UrlPart::Scheme => url.push_str(asked.scheme().as_str()),
            UrlPart::Host => url.push_str(&asked.public_host()),
            UrlPart::Authority => url.push_str(&authority(asked)),
            UrlPart::Method => url.push_str(asked.method.as_str()),
            UrlPart::Path => url.push_str(asked.path()),
            UrlPart::RequestUri => url.push_str(&request_uri(asked)),
            UrlPart::EscapedRequestUri => escape(&mut url, &request_uri(asked)),
        }
    }
    url
}

/// Where a browser is sent to sign in. `None`: it is there already, so that it would be sent round and round, or what was asked
/// for is too long to be told.
pub(crate) fn sign_in(page: &SignIn, asked: &Asked) -> Option<HeaderValue> {
    let mut location = render(&page.url, asked);
    if is_page(&location, asked) {
        return None;
    }
    if let Some(param) = &page.redirect_param {
        let ends = location.ends_with(['?', '&']);
        location.push_str(if ends {
            ""
        } else if location.contains('?') {
            "&"
        } else {
            "?"
        });
        location.push_str(param);
        location.push('=');
        escape(&mut location, &full(asked));
    }
    HeaderValue::try_from(location).ok().filter(|location| location.len() <= LOCATION_BYTES_MAX)
}

/// Whether the URL is what was asked for, but for the query.
fn is_page(url: &str, asked: &Asked) -> bool {
    let url = url.split_once('?').map_or(url, |(url, _)| url);
    let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (None, Some(rest)) => (Scheme::Http, rest),
        (None, None) => return url == asked.path(),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let suffix = format!(":{}", default_port(scheme));
    let host = host.strip_suffix(&suffix).unwrap_or(host);
    let path = if path.is_empty() { "/" } else { path };
    host.eq_ignore_ascii_case(&authority(asked)) && path == asked.path()
}

const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// Appends the text so that it can stand in a query (RFC 3986 §2.3).
fn escape(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            ir::push_escape(url, byte);
        }
    }
}
