//! `auth.external`: which service is asked about requests, and how. What cannot be built fails closed.

use std::sync::Arc;
use std::time::Duration;

use api::{AuthBackendRef, BackendRef};
use http::{HeaderName, Method};
use ir::{
    AnswerCache, BackendId, BackendTarget, CacheKey, ExternalAuth, FailureMode, SignIn, UpstreamProtocol,
    UrlPart, UrlTemplate,
};

use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::{upstream, value};

/// What follows where the service cannot be asked as it was written.
pub(crate) const FAILS_CLOSED: &str = "what needs the word of the service answers 500";
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_hours(1);

/// Reads `auth.external`.
pub(crate) fn external(
    spec: &api::ExternalAuth,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Arc<ExternalAuth>, Refused> {
    let place = service(&backend_ref(&spec.backend_ref), field.key("backendRef"), reader, lines);
    let method = method(&spec.method, field.key("method"), lines);
    let timeout = timeout(spec.timeout, field.key("timeout"), lines);
    let within = field.key("requestHeaders");
    let sent = spec.request_headers.as_ref();
    let sent = sent.map(|names| value::header_names(names, within, lines)).transpose();
    let told = response_headers(
        spec.response_headers_to_upstream.iter().map(String::as_str),
        field.key("responseHeadersToUpstream"),
        lines,
    );
    let sign_in = spec.sign_in.as_ref().map(|spec| sign_in(spec, field.key("signIn"), lines)).transpose();
    let cache = spec.cache.as_ref().map(|spec| cache(spec, field.key("cache"), lines)).transpose();
    if !is_plain_path(&spec.path) {
        let message = format!("'{}' is no path; {FAILS_CLOSED}", spec.path);
        return Err(lines.error(field.key("path"), message, "write a path that begins with a slash"));
    }
    let (backend, protocol) = place?;
    Ok(Arc::new(ExternalAuth {
        host: host(&backend, &protocol),
        backend,
        protocol,
        path: UrlTemplate::text(&spec.path),
        method: method?,
        timeout: timeout?,
        failure_mode: match spec.failure_mode {
            api::FailureMode::Closed => FailureMode::Closed,
            api::FailureMode::Open => FailureMode::Open,
        },
        request_headers: sent?,
        request_redirect: None,
        response_headers: told?,
        sign_in: sign_in?,
        cache: cache?,
    }))
}

/// The reference to a backend that means the same.
pub(crate) fn backend_ref(spec: &AuthBackendRef) -> BackendRef {
    BackendRef {
        name: spec.name.clone(),
        namespace: spec.namespace.clone(),
        address: spec.address.clone(),
        port: spec.port,
        weight: 1,
        protocol: spec.protocol,
        tls: spec.tls.clone(),
        proxy_protocol: None,
    }
}

/// Where the service is and how it is spoken to. One that is not there refuses the whole.
pub(crate) fn service(
    backend: &BackendRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<(BackendId, UpstreamProtocol), Refused> {
    match upstream::target(backend, field, reader, lines) {
        (BackendTarget::Backend(id), protocol) => Ok((id, protocol)),
        // Its line says what is missing.
        (BackendTarget::Missing(_), _) => Err(Refused),
    }
}

/// The `Host` by which the service is asked: its own, for that of the client is told as `X-Forwarded-Host`.
pub(crate) fn host(backend: &BackendId, protocol: &UpstreamProtocol) -> Arc<str> {
    let default_port = if protocol.tls.is_some() { 443 } else { 80 };
    let (name, port) = match backend {
        BackendId::Service { namespace, name, port } => (format!("{name}.{namespace}.svc"), *port),
        BackendId::Address { host, port } if host.contains(':') => (format!("[{host}]"), *port),
        BackendId::Address { host, port } => (host.as_ref().to_owned(), *port),
    };
    if port == default_port { name.into() } else { format!("{name}:{port}").into() }
}

pub(crate) fn method(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<Method, Refused> {
    let method = Method::from_bytes(text.as_bytes()).ok();
    let asks = |method: &Method| !matches!(*method, Method::CONNECT | Method::TRACE);
    method.filter(asks).ok_or_else(|| {
        let message = format!("'{text}' is no method to ask with; {FAILS_CLOSED}");
        lines.error(field, message, "write GET, HEAD or POST")
    })
}

pub(crate) fn timeout(spec: api::Duration, field: Field<'_>, lines: &mut Lines) -> Result<Duration, Refused> {
    let timeout = spec.get();
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        let message = format!("the service cannot have this time to answer; {FAILS_CLOSED}");
        return Err(lines.error(field, message, "write 1ms to 60s"));
    }
    Ok(timeout)
}

/// Names of headers that the upstream gets. Not one by which messages are framed: the service could smuggle.
pub(crate) fn response_headers<'a>(
    names: impl Iterator<Item = &'a str>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Vec<HeaderName>, Refused> {
    let names: Vec<&str> = names.collect();
    let mut read = value::all(&names, field, |name, field| value::own_header_name(name, field, lines))?;
    read.sort_by(|left, right| left.as_str().cmp(right.as_str()));
    read.dedup();
    Ok(read)
}

fn sign_in(spec: &api::SignIn, field: Field<'_>, lines: &mut Lines) -> Result<SignIn, Refused> {
    if !is_page(&spec.url) {
        let message = format!("'{}' is no URL of a page; {FAILS_CLOSED}", spec.url);
        let remedy = "write https://… or a path that begins with one slash, without a fragment";
        return Err(lines.error(field.key("url"), message, remedy));
    }
    Ok(signs_in(UrlTemplate::text(&spec.url), &spec.redirect_param))
}

/// The page, and the parameter where the URL does not have it.
pub(crate) fn signs_in(url: UrlTemplate, param: &str) -> SignIn {
    let text = url.to_string();
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let has_param = query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == param);
    SignIn { url, redirect_param: (!has_param).then(|| param.to_owned()) }
}

/// Whether a browser can be sent there: an absolute URL, or a path of the same host.
pub(crate) fn is_page(url: &str) -> bool {
    let absolute = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_placed = match absolute {
        Some(rest) => !rest.is_empty() && !rest.starts_with(['/', '?', ':']),
        // Two slashes would name another host (RFC 3986 §4.2), and browsers take a backslash for a slash.
        None => url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\"),
    };
    is_placed && is_plain_url(url)
}

/// What a request line, or a Location, can hold as it is.
pub(crate) fn is_plain_url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

pub(crate) fn is_plain_path(text: &str) -> bool {
    text.starts_with('/') && is_plain_url(text)
}

fn cache(spec: &api::AuthCache, field: Field<'_>, lines: &mut Lines) -> Result<AnswerCache, Refused> {
    let key = value::all(&spec.key, field.key("key"), |text, field| cache_key(text, field, lines))?;
    if !names_client(&key) {
        let message = format!(
            "the key names nothing of the client, so that one answer would count for all; {FAILS_CLOSED}"
        );
        return Err(lines.error(field.key("key"), message, "add a header, like Authorization or Cookie"));
    }
    Ok(AnswerCache { key, ttl: ttl(spec.ttl.get(), field.key("ttl"), lines)? })
}

/// Whether answers are kept apart by who asks.
pub(crate) fn names_client(key: &[CacheKey]) -> bool {
    key.iter().any(|part| match part {
        CacheKey::Header(_) | CacheKey::Cookie(_) | CacheKey::Client => true,
        CacheKey::Method | CacheKey::Host | CacheKey::Path | CacheKey::RequestUri => false,
    })
}

pub(crate) fn ttl(ttl: Duration, field: Field<'_>, lines: &mut Lines) -> Result<Duration, Refused> {
    if ttl < TTL_MIN || ttl > TTL_MAX {
        let message = format!("an answer cannot count for this time; {FAILS_CLOSED}");
        return Err(lines.error(field, message, "write 1s to 1h"));
    }
    Ok(ttl)
}

fn cache_key(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<CacheKey, Refused> {
    match text {
        ":method" => return Ok(CacheKey::Method),
        ":authority" => return Ok(CacheKey::Host),
        ":path" => return Ok(CacheKey::RequestUri),
        _ => {}
    }
    match text.split_once(':') {
        Some(("cookie", name)) if !name.is_empty() => Ok(CacheKey::Cookie(name.to_owned())),
        Some(_) => {
            let message = format!("'{text}' is nothing to keep answers by; {FAILS_CLOSED}");
            let remedy = "write a header's name, cookie:NAME, :method, :authority or :path";
            Err(lines.error(field, message, remedy))
        }
        None => value::header_name(text, field, lines).map(CacheKey::Header),
    }
}

/// The variables of nginx that are known, by their names without the dollar sign.
pub(crate) fn variable(name: &str) -> Option<UrlPart> {
    Some(match name {
        "scheme" | "pass_access_scheme" => UrlPart::Scheme,
        "host" => UrlPart::Host,
        "http_host" | "best_http_host" => UrlPart::Authority,
        "request_method" => UrlPart::Method,
        "uri" => UrlPart::Path,
        "request_uri" => UrlPart::RequestUri,
        "escaped_request_uri" => UrlPart::EscapedRequestUri,
        _ => return None,
    })
}
