//! A service that decides about requests: what it is asked, and what its answer means. Asks nobody itself (see the
//! pipeline).

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use ir::{CacheKey, ExternalAuth, FailureMode, Timeouts};

use super::answer_cache::{AnswerCache, AnswerKey};
use super::stage::AuthRequest;
use super::url;
use crate::request::Asked;
use crate::upstream::AsideTerms;

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");

/// What is about the body, or asks for a part of what is there: the service has another body, and no part of it.
const NOT_ASKED: [HeaderName; 9] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// One service, ready to be asked about the requests of one route.
pub(crate) struct External {
    /// Names this version of it for the life of the process: answers of another never count for it.
    id: u64,
    pub(crate) spec: Arc<ExternalAuth>,
    pub(crate) terms: AsideTerms,
}

/// What a service said of the client that it let pass: the headers that the upstream gets.
#[derive(Default)]
pub(crate) struct Pass {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub(crate) enum ExternalVerdict {
    Passed(Rc<Pass>),
    /// It could not be asked, and requests pass then.
    Opened,
    /// The client gets what the service said.
    Refused,
    /// It could not be asked, or gave no answer that decides.
    Unavailable,
}

/// What an answer's head means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Passes,
    Refused,
    /// The service itself failed.
    Failed,
    /// Nothing that is known. That is no failure of the service, and the client may have brought it about, so that nobody
    /// passes because of it.
    Unclear,
}

impl External {
    pub(super) fn new(spec: &Arc<ExternalAuth>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let timeouts = Timeouts {
            connect: Timeouts::default().connect.min(spec.timeout),
            request: Some(spec.timeout),
            per_try: None,
            idle: Some(spec.timeout),
            stream_idle: Some(spec.timeout),
        };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            spec: Arc::clone(spec),
            terms: AsideTerms { timeouts, ..AsideTerms::default() },
        }
    }

    /// What no answer means for the request.
    pub(crate) fn unanswered(&self) -> ExternalVerdict {
        match self.spec.failure_mode {
            FailureMode::Closed => ExternalVerdict::Unavailable,
            FailureMode::Open => ExternalVerdict::Opened,
        }
    }

    /// The headers of the question: the client's, as far as they are the service's business, and what was asked for. What
    /// only the service may say of a client it is not told by the client, unless it wants that.
    pub(crate) fn headers(&self, asked: &Asked) -> HeaderMap {
        let mut headers = match &self.spec.request_headers {
            None => {
                let mut all = asked.headers.clone();
                for name in &self.spec.response_headers {
                    if !matches!(*name, header::AUTHORIZATION | header::COOKIE) {
                        all.remove(name);
                    }
                }
                all
            }
            Some(names) => {
                let mut some = HeaderMap::with_capacity(names.len() + 8);
                for name in names {
                    for value in asked.headers.get_all(name) {
                        some.append(name.clone(), value.clone());
                    }
                }
                some
            }
        };
        for name in &NOT_ASKED {
            headers.remove(name);
        }
        self.remove_aliases(&mut headers);
        let uri = url::request_uri(asked);
        let url = url::full(asked);
        let redirect = self.spec.request_redirect.as_ref().map(|redirect| url::render(redirect, asked));
        for (name, text) in [
            (X_FORWARDED_METHOD, asked.method.as_str()),
            (X_ORIGINAL_METHOD, asked.method.as_str()),
            (X_FORWARDED_URI, &uri),
            (X_AUTH_REQUEST_REDIRECT, redirect.as_deref().unwrap_or(&uri)),
            (X_ORIGINAL_URL, &url),
        ] {
            match HeaderValue::from_str(text) {
                Ok(value) => headers.insert(name, value),
                // Never the client's own.
                Err(_) => headers.remove(name),
            };
        }
        headers
    }

    /// Many services (CGI, WSGI) read `X_Original_URL` as `X-Original-URL`.
    fn remove_aliases(&self, headers: &mut HeaderMap) {
        let is_alias = |name: &&HeaderName| {
            let name = name.as_str();
            if memchr::memchr(b'_', name.as_bytes()).is_none() {
                return false;
            }
            let dashed = name.replace('_', "-");
            ["x-forwarded-", "x-original-", "x-auth-request-", "x-real-ip", "x-request-id"]
                .iter()
                .any(|own| dashed.starts_with(own))
                || self.spec.response_headers.iter().any(|told| *told == *dashed)
        };
        let aliases: Vec<HeaderName> = headers.keys().filter(is_alias).cloned().collect();
        for name in &aliases {
            headers.remove(name);
        }
    }

    /// What the answer to a request like this is kept by; `None`: it is not kept.
    pub(crate) fn key(&self, asked: &Asked, answers: &AnswerCache) -> Option<AnswerKey> {
        let cache = self.spec.cache.as_ref()?;
        let mut hash = answers.hash(self.id);
        for part in &cache.key {
            match part {
                CacheKey::Header(name) => {
                    hash.add_all(asked.headers.get_all(name).iter().map(HeaderValue::as_bytes))?
                }
                CacheKey::Cookie(name) => hash.add_all(table::cookies(&asked.headers, name))?,
                CacheKey::Method => hash.add(asked.method.as_str().as_bytes()),
                CacheKey::Host => hash.add(url::authority(asked).as_bytes()),
                CacheKey::Path => hash.add(asked.path().as_bytes()),
                CacheKey::RequestUri => hash.add(url::request_uri(asked).as_bytes()),
                CacheKey::Client => hash.add(asked.client_for_rules()?.to_canonical().to_string().as_bytes()),
            }
        }
        Some(hash.finish())
    }

    /// What the upstream gets to know.
    pub(crate) fn pass(&self, answer: &HeaderMap) -> Pass {
        let named = self.spec.response_headers.iter();
        // Copies: a value of the answer would keep its whole head in memory.
        let copied = named.flat_map(|name| answer.get_all(name).iter().map(move |value| (name, value)));
        let copied = copied.filter_map(|(name, value)| {
            Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        Pass { headers: copied.collect() }
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("backend", &self.spec.backend).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

impl Pass {
    /// Roughly, with what keeps it.
    pub(super) fn bytes(&self) -> usize {
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        fields.sum::<usize>() + 128
    }
}

/// What an answer with this head means.
pub(crate) fn meaning(status: StatusCode, headers: &HeaderMap) -> Meaning {
    match status.as_u16() {
        200..=299 => Meaning::Passes,
        401 | 403 => Meaning::Refused,
        301..=303 | 307 | 308 if headers.contains_key(header::LOCATION) => Meaning::Refused,
        500..=599 => Meaning::Failed,
        _ => Meaning::Unclear,
    }
}

/// Whether a browser asks for a page to show, so that it can be sent elsewhere. Who does not say is taken by the method.
pub(crate) fn is_navigation(request: &AuthRequest<'_>) -> bool {
    let get = |name: &str| request.headers.get(name).map(HeaderValue::as_bytes);
    if get("x-requested-with").is_some_and(|by| by.eq_ignore_ascii_case(b"XMLHttpRequest"))
        || request.headers.contains_key(header::UPGRADE)
    {
        return false;
    }
    match get("sec-fetch-mode") {
        Some(mode) => mode.eq_ignore_ascii_case(b"navigate"),
        None => request.method.is_safe(),
    }
}
