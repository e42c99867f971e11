//! Lists which service is asked about the requests of a route. Must not print headers' values.

use ir::{CacheKey, ExternalAuth, FailureMode, ObjectRef};

use super::policy::{Detail, Step, duration};

pub(super) fn step(external: &ExternalAuth, source: &ObjectRef) -> Step {
    let tls = super::protocol_text(&external.protocol).map(str::to_owned);
    let sent = external.request_headers.iter().flatten();
    let sign_in = external.sign_in.as_ref().map(|sign_in| sign_in.url.to_string());
    let cache = external.cache.as_ref();
    Step::new("ExternalAuth", source)
        .with("service", Detail::Text(external.backend.to_string()))
        .text("protocol", tls)
        .with("asks", Detail::Text(format!("{} {}", external.method, external.path)))
        .with("timeout", Detail::Text(duration(external.timeout)))
        .with("onFailure", Detail::Text(on_failure(external.failure_mode).to_owned()))
        .list("requestHeaders", sent)
        .text("requestRedirect", external.request_redirect.as_ref().map(ToString::to_string))
        .list("responseHeadersToUpstream", &external.response_headers)
        .text("signIn", sign_in)
        .list("cachedBy", cache.iter().flat_map(|cache| cache.key.iter().map(key_text)))
        .text("cachedFor", cache.map(|cache| duration(cache.ttl)))
}

const fn on_failure(mode: FailureMode) -> &'static str {
    match mode {
        FailureMode::Closed => "Closed",
        FailureMode::Open => "Open",
    }
}

fn key_text(key: &CacheKey) -> String {
    match key {
        CacheKey::Header(name) => name.to_string(),
        CacheKey::Cookie(name) => format!("cookie:{name}"),
        CacheKey::Method => ":method".to_owned(),
        CacheKey::Host => ":authority".to_owned(),
        CacheKey::Path => "path".to_owned(),
        CacheKey::RequestUri => ":path".to_owned(),
        CacheKey::Client => "client address".to_owned(),
    }
}
