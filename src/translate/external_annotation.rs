//! What an Ingress says by annotation of a service that is asked about its requests: `auth-url` and what belongs to it,
//! as ingress-nginx has them. A word that is not understood fails closed.

use std::sync::Arc;
use std::time::Duration;

use api::{BackendProtocol, BackendRef};
use ir::{
    AnswerCache, Auth, AuthMode, BackendId, CacheKey, ExternalAuth, FailureMode, SignIn, UpstreamProtocol,
    UrlPart, UrlTemplate,
};
use k8s_openapi::api::networking::v1::Ingress;

use crate::basic::ingress_basic;
use crate::external::{self, FAILS_CLOSED};
use crate::notes::Notes;
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};

/// How long a service may take unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long its answers count unless something else is said.
const CACHED_FOR: Duration = Duration::from_mins(5);
const REDIRECT_PARAM: &str = "rd";
/// Annotations that mean nothing without `auth-url`.
const COMPANIONS: [&str; 9] = [
    api::AUTH_SIGNIN_ANNOTATION,
    api::AUTH_SIGNIN_REDIRECT_PARAM_ANNOTATION,
    api::AUTH_METHOD_ANNOTATION,
    api::AUTH_RESPONSE_HEADERS_ANNOTATION,
    api::AUTH_CACHE_KEY_ANNOTATION,
    api::AUTH_CACHE_DURATION_ANNOTATION,
    api::AUTH_TIMEOUT_ANNOTATION,
    api::AUTH_FAILURE_MODE_ANNOTATION,
    api::AUTH_REQUEST_REDIRECT_ANNOTATION,
];

/// All that an Ingress itself asks of its clients. `None`: nothing.
pub(crate) fn ingress_auth(
    ingress: &Ingress,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Option<Auth>, Refused> {
    let basic = ingress_basic(ingress, reader, lines);
    let external = ingress_external(ingress, reader, lines);
    Ok(match (basic?, external?) {
        (auth, None) => auth,
        (Some(auth), external @ Some(_)) => Some(Auth { external, ..auth }),
        (None, external @ Some(_)) => Some(Auth {
            source: lines.object().clone(),
            mode: AuthMode::All,
            jwt: None,
            api_key: None,
            basic: None,
            external,
            authorization: None,
        }),
    })
}

fn ingress_external(
    ingress: &Ingress,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Option<Arc<ExternalAuth>>, Refused> {
    let Some(annotations) = &ingress.metadata.annotations else { return Ok(None) };
    let root = Field::root("metadata");
    let notes = Notes { annotations, field: root.key("annotations") };
    let Some((url, field)) = notes.get(api::AUTH_URL_ANNOTATION) else {
        // Whoever says how a service is asked wants it asked.
        return match COMPANIONS.into_iter().find(|name| annotations.contains_key(*name)) {
            None => Ok(None),
            Some(name) => {
                let message = "it says how a service is asked, and none is named; the Ingress answers 500";
                let remedy = "add gateway.baribhara.io/auth-url, or remove this annotation";
                Err(lines.error(notes.field.quoted(name), message, remedy))
            }
        };
    };
    let place = place(url, field, reader, lines);
    let sign_in = notes.sign_in(lines);
    let method = notes.get(api::AUTH_METHOD_ANNOTATION);
    let method = external::method(
        method.map_or("GET", |(text, _)| text),
        method.map_or(field, |(_, field)| field),
        lines,
    );
    let told = notes.get(api::AUTH_RESPONSE_HEADERS_ANNOTATION);
    let told = told.map(|(text, field)| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        external::response_headers(names, field, lines)
    });
    let cache = notes.cache(lines);
    let timeout = notes.timeout(lines);
    let failure_mode = notes.failure_mode(lines);
    let request_redirect = notes.request_redirect(lines);
    let Place { backend, protocol, host, path } = place?;
    Ok(Some(Arc::new(ExternalAuth {
        backend,
        protocol,
        host,
        path,
        method: method?,
        timeout: timeout?,
        failure_mode: failure_mode?,
        request_headers: None,
        request_redirect: request_redirect?,
        response_headers: told.transpose()?.unwrap_or_default(),
        sign_in: sign_in?,
        cache: cache?,
    })))
}

/// A service by its URL.
struct Place {
    backend: BackendId,
    protocol: UpstreamProtocol,
    host: Arc<str>,
    path: UrlTemplate,
}

/// Reads `auth-url`. A name of the cluster's DNS is a Service, anything else an address.
fn place(url: &str, field: Field<'_>, reader: &mut Reader<'_>, lines: &mut Lines) -> Result<Place, Refused> {
    let is_no_url = |lines: &mut Lines| {
        let message = format!("'{url}' is no URL of a service; {FAILS_CLOSED}");
        let remedy = "write http://NAME.NAMESPACE.svc.cluster.local:PORT/PATH, without a fragment";
        Err(lines.error(field, message, remedy))
    };
    let (protocol, rest) = match url.split_once("://") {
        Some(("http", rest)) => (BackendProtocol::Http, rest),
        Some(("https", rest)) => (BackendProtocol::Https, rest),
        _ => return is_no_url(lines),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.contains('$') {
        let message = format!("'{authority}' would let the client say whom the gateway asks; {FAILS_CLOSED}");
        let remedy =
            "name the service itself, like http://oauth2-proxy.auth.svc.cluster.local:4180/oauth2/auth";
        return Err(lines.error(field, message, remedy));
    }
    let default_port = if protocol == BackendProtocol::Https { 443 } else { 80 };
    let Some((host, port)) = host_and_port(authority, default_port) else { return is_no_url(lines) };
    let path = match path {
        "" => "/".to_owned(),
        path if path.starts_with('?') => format!("/{path}"),
        path => path.to_owned(),
    };
    if !external::is_plain_path(&path) {
        return is_no_url(lines);
    }
    let path = template(&path, field, lines)?;
    let service = service_of(&host);
    let backend = BackendRef {
        name: service.map(|(name, _)| name.to_owned()),
        namespace: service.map(|(_, namespace)| namespace.to_owned()),
        address: service.is_none().then(|| host.clone()),
        port,
        weight: 1,
        protocol: Some(protocol),
        tls: None,
        proxy_protocol: None,
    };
    let (backend, protocol) = external::service(&backend, field, reader, lines)?;
    Ok(Place { backend, protocol, host: authority.to_ascii_lowercase().into(), path })
}

/// A host, without brackets, and its port.
fn host_and_port(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        None => return None,
        Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    (!host.is_empty() && host.bytes().all(is_host)).then_some((host, port))
}

/// Name and namespace of `NAME.NAMESPACE.svc`, whatever the cluster's domain behind it.
fn service_of(host: &str) -> Option<(&str, &str)> {
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    (labels.next() == Some("svc") && !name.is_empty() && !namespace.is_empty()).then_some((name, namespace))
}

/// A text with variables of nginx (`$name`, `${name}`).
fn template(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<UrlTemplate, Refused> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        let (name, after) = variable_name(from);
        let Some(part) = external::variable(name) else {
            let message = format!("the variable '${name}' is not known; {FAILS_CLOSED}");
            let remedy =
                "use $scheme, $host, $http_host, $request_method, $uri, $request_uri or $escaped_request_uri";
            return Err(lines.error(field, message, remedy));
        };
        if !before.is_empty() {
            parts.push(UrlPart::Text(before.to_owned()));
        }
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(UrlPart::Text(rest.to_owned()));
    }
    Ok(UrlTemplate(parts))
}

/// The name at the start of `$name…` or `${name}…`, and what follows it.
fn variable_name(text: &str) -> (&str, &str) {
    let text = text.strip_prefix('$').unwrap_or(text);
    if let Some((name, after)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, after);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

impl Notes<'_> {
    fn sign_in(&self, lines: &mut Lines) -> Result<Option<SignIn>, Refused> {
        let param = self.get(api::AUTH_SIGNIN_REDIRECT_PARAM_ANNOTATION);
        let Some((url, field)) = self.get(api::AUTH_SIGNIN_ANNOTATION) else {
            return match param {
                None => Ok(None),
                Some((_, field)) => {
                    let message = format!("a parameter is named, and no page to send it to; {FAILS_CLOSED}");
                    let remedy = "add gateway.baribhara.io/auth-signin, or remove this annotation";
                    Err(lines.error(field, message, remedy))
                }
            };
        };
        if !external::is_page(url) {
            let message = format!("'{url}' is no URL of a page; {FAILS_CLOSED}");
            let remedy = "write https://… or a path that begins with one slash, without a fragment";
            return Err(lines.error(field, message, remedy));
        }
        let url = template(url, field, lines)?;
        let (param, field) = param.unwrap_or((REDIRECT_PARAM, field));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if param.is_empty() || param.len() > 64 || !param.bytes().all(is_name) {
            let message = format!("'{param}' is no name of a query parameter; {FAILS_CLOSED}");
            return Err(lines.error(field, message, "write a name like rd"));
        }
        Ok(Some(external::signs_in(url, param)))
    }

    fn timeout(&self, lines: &mut Lines) -> Result<Duration, Refused> {
        let Some((text, field)) = self.get(api::AUTH_TIMEOUT_ANNOTATION) else { return Ok(TIMEOUT) };
        let Some(timeout) = api::Duration::parse(text) else {
            let message = format!("'{text}' is no duration; {FAILS_CLOSED}");
            return Err(lines.error(field, message, "write 1ms to 60s"));
        };
        external::timeout(timeout, field, lines)
    }

    fn failure_mode(&self, lines: &mut Lines) -> Result<FailureMode, Refused> {
        match self.get(api::AUTH_FAILURE_MODE_ANNOTATION) {
            None | Some(("Closed", _)) => Ok(FailureMode::Closed),
            Some(("Open", _)) => Ok(FailureMode::Open),
            Some((text, field)) => {
                let message = format!("'{text}' is neither Closed nor Open; {FAILS_CLOSED}");
                Err(lines.error(field, message, "write Closed or Open"))
            }
        }
    }

    fn request_redirect(&self, lines: &mut Lines) -> Result<Option<UrlTemplate>, Refused> {
        let Some((text, field)) = self.get(api::AUTH_REQUEST_REDIRECT_ANNOTATION) else { return Ok(None) };
        let template = template(text, field, lines)?;
        if !leads_where_it_says(&template) {
            let message =
                format!("'{text}' is no URL, or lets the client say where people are sent; {FAILS_CLOSED}");
            let remedy =
                "write https://HOST/…, or a path, with variables behind the host only, like $request_uri";
            return Err(lines.error(field, message, remedy));
        }
        Ok(Some(template))
    }

    fn cache(&self, lines: &mut Lines) -> Result<Option<AnswerCache>, Refused> {
        let duration = self.get(api::AUTH_CACHE_DURATION_ANNOTATION);
        let Some((text, field)) = self.get(api::AUTH_CACHE_KEY_ANNOTATION) else {
            return match duration {
                None => Ok(None),
                Some((_, field)) => {
                    let message = format!("a time is named, and nothing to keep answers by; {FAILS_CLOSED}");
                    let remedy = "add gateway.baribhara.io/auth-cache-key, or remove this annotation";
                    Err(lines.error(field, message, remedy))
                }
            };
        };
        let key = cache_key(text, field, lines)?;
        let ttl = match duration {
            None => CACHED_FOR,
            Some((text, field)) => cached_for(text, field, lines)?,
        };
        Ok(Some(AnswerCache { key, ttl }))
    }
}

/// Whether it is an absolute URL or a path in which variables stand behind the host only: else a client could say where
/// people are sent after they signed in.
fn leads_where_it_says(template: &UrlTemplate) -> bool {
    let is_path = |part: Option<&UrlPart>| matches!(part, Some(UrlPart::Path | UrlPart::RequestUri));
    let mut parts = template.0.iter();
    let first = parts.next();
    if !template.0.iter().all(is_plain) {
        return false;
    }
    let (Some(UrlPart::Text(text)), second) = (first, parts.next()) else { return is_path(first) };
    let is_whole = match text.split_once("://") {
        Some((_, rest)) => rest.contains(['/', '?']) || second.is_none() || is_path(second),
        // Two slashes would name a host.
        None => text != "/" || !is_path(second),
    };
    is_whole && external::is_page(text)
}

fn is_plain(part: &UrlPart) -> bool {
    match part {
        UrlPart::Text(text) => external::is_plain_url(text),
        UrlPart::Scheme
        | UrlPart::Host
        | UrlPart::Authority
        | UrlPart::Method
        | UrlPart::Path
        | UrlPart::RequestUri
        | UrlPart::EscapedRequestUri => true,
    }
}

/// The variables of `auth-cache-key`; what stands between them is the same for all.
fn cache_key(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<Vec<CacheKey>, Refused> {
    let mut key = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (name, after) = variable_name(rest.split_at(at).1);
        let Some(part) = cache_key_part(name) else {
            let message = format!("answers cannot be kept by the variable '${name}'; {FAILS_CLOSED}");
            let remedy =
                "use $http_NAME, $cookie_NAME, $host, $uri, $request_uri, $request_method or $remote_addr";
            return Err(lines.error(field, message, remedy));
        };
        if !key.contains(&part) {
            key.push(part);
        }
        rest = after;
    }
    if !external::names_client(&key) {
        let message = format!(
            "'{text}' names nothing of the client, so that one answer would count for all; {FAILS_CLOSED}"
        );
        return Err(lines.error(field, message, "write $http_authorization or $http_cookie"));
    }
    Ok(key)
}

fn cache_key_part(name: &str) -> Option<CacheKey> {
    Some(match name {
        "host" | "http_host" | "best_http_host" | "server_name" => CacheKey::Host,
        "request_method" => CacheKey::Method,
        "uri" => CacheKey::Path,
        "request_uri" => CacheKey::RequestUri,
        "remote_addr" | "the_real_ip" => CacheKey::Client,
        _ => match (name.strip_prefix("http_"), name.strip_prefix("cookie_")) {
            (Some(header), _) => CacheKey::Header(header.replace('_', "-").parse().ok()?),
            (None, Some(cookie)) if !cookie.is_empty() => CacheKey::Cookie(cookie.to_owned()),
            (None, _) => return None,
        },
    })
}

/// `5m`, or as ingress-nginx has it `200 202 401 5m`. Only answers that let a request pass are kept, whatever statuses it
/// names.
fn cached_for(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<Duration, Refused> {
    let mut words = text.split_ascii_whitespace().rev();
    let duration = words.next().and_then(api::Duration::parse);
    let is_status = |word: &str| word.len() == 3 && word.parse::<u16>().is_ok();
    match duration {
        Some(duration) if words.all(is_status) => external::ttl(duration.get(), field, lines),
        Some(_) | None => {
            let message = format!("'{text}' is no time to keep answers for; {FAILS_CLOSED}");
            Err(lines.error(field, message, "write one time, like 5m, with or without statuses before it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_says_where_people_are_sent() {
        let lines = || Lines::new(ir::ObjectRef::new(ir::Kind::Ingress, "shop", "a"));
        for (text, want) in [
            ("https://shop.example.com/back", true),
            ("https://shop.example.com", true),
            ("https://shop.example.com$request_uri", true),
            ("https://shop.example.com:8443/a?to=$escaped_request_uri", true),
            ("https://shop.example.com/a?by=$host", true),
            ("$request_uri", true),
            ("$uri", true),
            ("/back?to=$escaped_request_uri", true),
            ("https://$host$request_uri", false),
            ("https://shop.$host/", false),
            ("https://shop.example.com$host", false),
            ("https://shop.example.com$escaped_request_uri", false),
            ("$scheme://shop.example.com/", false),
            ("$host/a", false),
            ("/$request_uri", false),
            ("//evil.example.com/", false),
            ("/\\evil.example.com/", false),
            ("javascript:alert(1)", false),
            ("https://shop.example.com/$request_uri#a", false),
            ("", false),
        ] {
            let root = Field::root("metadata");
            let template = template(text, root, &mut lines()).expect("known variables");
            assert_eq!(leads_where_it_says(&template), want, "{text}");
        }
    }
}
