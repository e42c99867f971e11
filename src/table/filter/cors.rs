//! CORS answers (Fetch standard §3.2), prepared per route. Must not decide whether a request passes: browsers do.

use hashbrown::HashSet;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

static STAR: HeaderValue = HeaderValue::from_static("*");
static TRUE: HeaderValue = HeaderValue::from_static("true");
static VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The CORS answers of one route; cloning header values only counts references.
#[derive(Clone, Debug)]
pub struct PreparedCors {
    any: bool,
    exact: HashSet<Box<[u8]>>,
    subdomains: Box<[Subdomains]>,
    credentials: bool,
    /// `None`: what the preflight asks for.
    methods: Option<HeaderValue>,
    /// `None`: what the preflight asks for.
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

/// The answer to a preflight: 204 with these headers.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// Whether the origin is allowed. A disallowed one gets no `Access-Control-*` header.
    pub allowed: bool,
    pub headers: HeaderMap,
}

/// `scheme://*.suffix[:port]` as what an origin starts and ends with.
#[derive(Clone, Debug)]
struct Subdomains {
    start: Box<[u8]>,
    end: Box<[u8]>,
}

impl PreparedCors {
    /// `matches` are those of the rule: their methods are allowed where `cors` names none.
    pub(crate) fn new(cors: &ir::Cors, matches: &[ir::Match]) -> Self {
        let mut any = false;
        let mut exact = HashSet::new();
        let mut subdomains = Vec::new();
        for origin in &cors.allow_origins {
            match origin {
                ir::CorsOrigin::Any => any = true,
                // The origin of sandboxed frames and of files is nobody's: only `*` allows it.
                ir::CorsOrigin::Exact(text) if text == "null" => {}
                ir::CorsOrigin::Exact(text) => {
                    exact.insert(text.as_bytes().into());
                }
                ir::CorsOrigin::Subdomains { scheme, suffix, port } => {
                    subdomains.push(Subdomains::new(scheme, suffix, *port));
                }
            }
        }
        let methods =
            if cors.allow_methods.is_empty() { named_methods(matches) } else { cors.allow_methods.clone() };
        Self {
            any,
            exact,
            subdomains: subdomains.into(),
            credentials: cors.allow_credentials,
            methods: list_unless_any(methods.iter().map(Method::as_str)),
            headers: list_unless_any(cors.allow_headers.iter().map(HeaderName::as_str)),
            expose: list(cors.expose_headers.iter().map(HeaderName::as_str)),
            max_age: cors.max_age.map(|age| HeaderValue::from(age.as_secs())),
        }
    }

    /// Whether this `Origin` may read answers. `null` only where every origin may.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.any || self.exact.contains(origin) || self.subdomains.iter().any(|one| one.allows(origin))
    }

    /// The answer to a preflight. The last two are the values of `Access-Control-Request-Method` and `-Headers`.
    pub fn preflight(
        &self,
        origin: &HeaderValue,
        requested_method: &HeaderValue,
        requested_headers: Option<&HeaderValue>,
    ) -> Preflight {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(VARY, VARY_PREFLIGHT.clone());
        let allowed = self.allows(origin.as_bytes());
        if allowed {
            self.insert_origin(origin, &mut headers);
            let methods = self.methods.as_ref().unwrap_or(requested_method);
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            if let Some(names) = self.headers.as_ref().or(requested_headers) {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            if let Some(max_age) = &self.max_age {
                headers.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
            }
        }
        Preflight { allowed, headers }
    }

    /// Makes the CORS headers of an answer ours: the backend's are removed, those of an allowed origin set, and
    /// `Vary: Origin` stands on every answer, so that no cache gives one origin's answer to another.
    pub fn apply_response(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        while let Some(name) =
            headers.keys().find(|name| name.as_str().starts_with("access-control-")).cloned()
        {
            headers.remove(&name);
        }
        if let Some(origin) = origin.filter(|origin| self.allows(origin.as_bytes())) {
            self.insert_origin(origin, headers);
            if let Some(expose) = &self.expose {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
            }
        }
        if !varies_by_origin(headers) {
            headers.append(VARY, VARY_ORIGIN.clone());
        }
    }

    /// Fetch standard §3.2.5: `*` does not go with credentials, so there the origin is echoed.
    fn insert_origin(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let allowed = if self.any && !self.credentials { STAR.clone() } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE.clone());
        }
    }
}

impl Subdomains {
    fn new(scheme: &str, suffix: &str, port: Option<u16>) -> Self {
        // Browsers leave the default port out.
        let end = match (scheme, port) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!(".{suffix}"),
            (_, Some(port)) => format!(".{suffix}:{port}"),
        };
        Self { start: format!("{scheme}://").into_bytes().into(), end: end.into_bytes().into() }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        let labels = origin.strip_prefix(&*self.start).and_then(|rest| rest.strip_suffix(&*self.end));
        let label = |label: &[u8]| {
            !label.is_empty()
                && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        labels.is_some_and(|labels| labels.split(|byte| *byte == b'.').all(label))
    }
}

/// The methods that all matches together name, each once; nothing when one of them takes any method.
fn named_methods(matches: &[ir::Match]) -> Vec<Method> {
    let mut named = Vec::new();
    for matched in matches {
        if matched.methods.is_empty() {
            return Vec::new();
        }
        for method in &matched.methods {
            if !named.contains(method) {
                named.push(method.clone());
            }
        }
    }
    named
}

/// Names in one header value; `None` when there are none.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// The same for what a preflight may ask for: `*` stands for everything, which a browser takes literally as soon as
/// credentials are sent (Fetch standard §3.2.5), so what is asked for is named instead.
fn list_unless_any<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<HeaderValue> {
    if names.clone().any(|name| name == "*") { None } else { list(names) }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let mut names =
        headers.get_all(VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(b"origin")
    })
}

#[cfg(test)]
mod tests;
