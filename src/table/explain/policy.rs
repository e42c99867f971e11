//! Lists what a route does, in the order of the pipeline and with the object that each part comes from. Must not
//! print keys, tokens, bodies or values of headers.

use std::fmt;
use std::time::Duration;

use ir::{Action, LimitPhase, ObjectRef, PathRewrite, RetryOn, Route};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::limit::limit_steps;
use super::{balance, extras, health};
use crate::head::RequestHead;
use crate::route::CompiledRoute;

/// One part of the pipeline. Serialises as one object: `kind`, `object` and the details by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub kind: &'static str,
    /// Where it is configured.
    pub object: ObjectRef,
    pub details: Vec<(&'static str, Detail)>,
}

/// One fact about a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

/// A backend and its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendShare {
    pub backend: String,
    pub weight: u32,
    /// There is no such backend: its share is answered 500.
    pub missing: bool,
    /// `None`: HTTP/1.1 without TLS.
    #[serde(flatten)]
    pub spoken: Option<Spoken>,
}

/// How a backend is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spoken {
    pub protocol: &'static str,
    #[serde(flatten)]
    pub tls: Option<SpokenTls>,
}

/// Whom the gateway takes for the backend, and what it shows for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpokenTls {
    pub server_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// `system`, `anyone` or the object that holds the authorities.
    pub trust: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ObjectRef>,
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.details.len()))?;
        map.serialize_entry("kind", self.kind)?;
        map.serialize_entry("object", &self.object)?;
        for (name, detail) in &self.details {
            map.serialize_entry(name, detail)?;
        }
        map.end()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.object)?;
        for (place, (name, detail)) in self.details.iter().enumerate() {
            write!(f, "{} {name} {detail}", if place == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::List(list) if list.is_empty() => f.write_str("none"),
            Self::List(list) => f.write_str(&list.join(" ")),
        }
    }
}

impl fmt::Display for BackendShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = if self.missing { ", missing: answered 500" } else { "" };
        write!(f, "{} weight {}{missing}", self.backend, self.weight)?;
        let Some(Spoken { protocol, tls }) = &self.spoken else { return Ok(()) };
        write!(f, ", {protocol}")?;
        let Some(tls) = tls else { return Ok(()) };
        write!(f, " as {}, trust {}", tls.server_name, tls.trust)?;
        if !tls.subject_alt_names.is_empty() {
            write!(f, ", a certificate for {}", tls.subject_alt_names.join(" or "))?;
        }
        match &tls.client_certificate {
            Some(secret) => write!(f, ", shows {secret}"),
            None => Ok(()),
        }
    }
}

impl Step {
    pub(super) fn new(kind: &'static str, object: &ObjectRef) -> Self {
        Self { kind, object: object.clone(), details: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, detail: Detail) -> Self {
        self.details.push((name, detail));
        self
    }

    /// Leaves an empty list out.
    pub(super) fn list<T: ToString>(self, name: &'static str, items: impl IntoIterator<Item = T>) -> Self {
        let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        if items.is_empty() { self } else { self.with(name, Detail::List(items)) }
    }

    pub(super) fn text(self, name: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with(name, Detail::Text(value)),
            None => self,
        }
    }

    pub(super) fn number(self, name: &'static str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.with(name, Detail::Number(value)),
            None => self,
        }
    }
}

/// What is done to the request and its answer: to `https`, redirect, CORS, direct response, request transform, balancing,
/// response transform.
pub(super) fn filters(compiled: &CompiledRoute) -> Vec<Step> {
    let route = &compiled.route;
    let object = &route.id.object;
    let mut steps = Vec::new();
    steps.extend(route.tls.as_ref().and_then(|tls| tls_step(tls, object)));
    if let Action::Redirect(redirect) = &route.action {
        steps.push(redirect_step(redirect, object));
    }
    steps.extend(route.cors.as_ref().map(|cors| cors_step(cors, object)));
    match &route.action {
        Action::Respond(response) => {
            let status = Detail::Number(response.status.into());
            steps.push(Step::new("DirectResponse", object).with("status", status));
        }
        Action::Fail(reason) => {
            let reason = Detail::Text(format!("{reason:?}"));
            let step = Step::new("Fail", object).with("status", Detail::Number(500));
            steps.push(step.with("reason", reason).text("problem", compiled.problem().map(str::to_owned)));
        }
        Action::Forward { .. } | Action::Redirect(_) => {}
    }
    steps.extend(edit_step("RequestHeaderModifier", &route.header_edits.request, object));
    steps.extend(extras::request_steps(route));
    forward_steps(route, &mut steps);
    steps.extend(extras::answer_steps(route));
    steps.extend(edit_step("ResponseHeaderModifier", &route.header_edits.response, object));
    steps
}

/// What may refuse the request: addresses, body size, limits before authentication, tokens, authorization, limits
/// after it.
pub(super) fn policies(route: &Route, head: &RequestHead<'_>) -> Vec<Step> {
    let object = &route.id.object;
    let mut steps = Vec::new();
    let ir::IpAccess { allow, deny } = &route.ip_access;
    if !allow.is_empty() || !deny.is_empty() {
        steps.push(Step::new("IPAccess", object).list("deny", deny).list("allow", allow));
    }
    if let Some(bytes) = route.request_body_bytes_max {
        steps.push(Step::new("MaxRequestBody", object).with("bytes", Detail::Number(bytes)));
    }
    if !route.identity_headers.is_empty() {
        steps.push(Step::new("IdentityHeaders", object).list("removed", &route.identity_headers));
    }
    limit_steps(route, LimitPhase::PreAuth, &mut steps);
    for auth in &route.auth {
        method_steps(auth, &mut steps);
    }
    for auth in &route.auth {
        let Some(authorization) = &auth.authorization else { continue };
        let rules = authorization.rules.iter().map(|rule| format!("{} {:?}", rule.name, rule.action));
        let step = Step::new("Authorization", &auth.source).list("rules", rules);
        steps.push(step.with("decides", Detail::Text(deciding(authorization, head))));
    }
    limit_steps(route, LimitPhase::PostAuth, &mut steps);
    steps
}

/// The rules one of which decides, as far as it can be told without tokens, keys and passwords.
fn deciding(authorization: &ir::Authorization, head: &RequestHead<'_>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for rule in &authorization.rules {
        let takes_method = rule.methods.is_empty() || rule.methods.contains(head.method);
        if !takes_method || !rule.takes_address(head.client.to_canonical()) {
            continue;
        }
        names.push(&rule.name);
        if rule.claims.is_empty() && rule.clients.is_empty() && rule.users.is_empty() {
            return names.join(" or ");
        }
    }
    names.push("none (403)");
    names.join(" or ")
}

/// The methods of one object. Where one of them is enough, each says so.
fn method_steps(auth: &ir::Auth, steps: &mut Vec<Step>) {
    let mode = || (!auth.mode.is_all()).then(|| "Any".to_owned());
    if let Some(jwt) = &auth.jwt {
        let step = Step::new("JWT", &auth.source);
        let step = step.list("providers", jwt.providers.iter().map(|provider| &provider.name));
        let fetched = jwt.providers.iter().filter_map(|provider| match &provider.keys {
            ir::KeySource::Given(_) => None,
            ir::KeySource::Remote(keys) => Some(format!("{} from {}", provider.name, keys.uri)),
        });
        let step = step.list("fetchedKeys", fetched);
        steps.push(step.with("optional", Detail::Flag(jwt.optional)).text("mode", mode()));
    }
    if let Some(keys) = &auth.api_key {
        let clients = u64::try_from(keys.keys.len()).unwrap_or(u64::MAX);
        let header = keys.client_id_header.as_ref().map(|name| name.as_str().to_owned());
        let step = Step::new("APIKey", &auth.source).list("secrets", &keys.selector);
        let step = step.with("keys", Detail::Number(clients)).text("clientIdHeader", header);
        steps.push(step.text("mode", mode()));
    }
    if let Some(basic) = &auth.basic {
        let step = Step::new("BasicAuth", &auth.source).with("users", Detail::Text(basic.source.to_string()));
        steps.push(step.with("realm", Detail::Text(basic.realm.clone())).text("mode", mode()));
    }
    if let Some(external) = &auth.external {
        steps.push(super::external::step(external, &auth.source).text("mode", mode()));
    }
}

pub(super) fn backends(route: &Route) -> Vec<BackendShare> {
    let Action::Forward { backends, .. } = &route.action else { return Vec::new() };
    let shares = backends.iter().map(|backend| {
        let (id, missing) = match &backend.target {
            ir::BackendTarget::Backend(id) => (id, false),
            ir::BackendTarget::Missing(id) => (id, true),
        };
        let spoken = spoken(&backend.protocol);
        BackendShare { backend: id.to_string(), weight: backend.weight, missing, spoken }
    });
    shares.collect()
}

fn spoken(protocol: &ir::UpstreamProtocol) -> Option<Spoken> {
    let tls = protocol.tls.as_ref().map(|tls| SpokenTls {
        server_name: tls.server_name.to_string(),
        subject_alt_names: tls.subject_alt_names.iter().map(ToString::to_string).collect(),
        trust: match &tls.trust {
            ir::Trust::System => "system".to_owned(),
            ir::Trust::Authorities { source, pem: _ } => source.to_string(),
            ir::Trust::Anyone => "anyone".to_owned(),
        },
        client_certificate: tls.client_certificate.as_ref().map(|certificate| certificate.source.clone()),
    });
    Some(Spoken { protocol: protocol_text(protocol)?, tls })
}

/// `None`: HTTP/1.1 without TLS.
pub(crate) fn protocol_text(protocol: &ir::UpstreamProtocol) -> Option<&'static str> {
    match (protocol.version, &protocol.tls) {
        (ir::UpstreamVersion::Http1, None) => None,
        (ir::UpstreamVersion::Http1, Some(_)) => Some("HTTP/1.1 over TLS"),
        (ir::UpstreamVersion::Http2, None) => Some("HTTP/2"),
        (ir::UpstreamVersion::Http2, Some(_)) => Some("HTTP/2 over TLS"),
    }
}

fn cors_step(cors: &ir::Cors, object: &ObjectRef) -> Step {
    let origins = cors.allow_origins.iter().map(|origin| match origin {
        ir::CorsOrigin::Any => "*".to_owned(),
        ir::CorsOrigin::Exact(origin) => origin.clone(),
        ir::CorsOrigin::Subdomains { scheme, suffix, port: None } => format!("{scheme}://*.{suffix}"),
        ir::CorsOrigin::Subdomains { scheme, suffix, port: Some(port) } => {
            format!("{scheme}://*.{suffix}:{port}")
        }
    });
    Step::new("CORS", object)
        .list("allowOrigins", origins)
        .list("allowMethods", &cors.allow_methods)
        .list("allowHeaders", &cors.allow_headers)
        .list("exposeHeaders", &cors.expose_headers)
        .with("allowCredentials", Detail::Flag(cors.allow_credentials))
        .text("maxAge", cors.max_age.map(duration))
}

/// `None`: the route has a certificate and no more.
fn tls_step(tls: &ir::RouteTls, object: &ObjectRef) -> Option<Step> {
    let ir::RouteTls { redirect_status, hsts, client } = tls;
    if redirect_status.is_none() && hsts.is_none() && client.is_none() {
        return None;
    }
    let hsts = hsts.as_ref().and_then(|hsts| hsts.to_str().ok()).map(str::to_owned);
    let step =
        Step::new("TLS", object).number("redirectHTTP", redirect_status.map(u64::from)).text("hsts", hsts);
    let Some(ir::RouteClient { auth, forward }) = client else { return Some(step) };
    let parts =
        [("Subject", forward.subject), ("Verify", forward.verify), ("Certificate", forward.certificate)];
    let step = step.with("clientAuth", Detail::Text(format!("{:?}", auth.mode)));
    let step = step.with("clientAuthorities", Detail::Text(auth.source.to_string()));
    let step = match auth.crl_pem.as_slice() {
        [] => step,
        [..] => step.with("clientRevocation", Detail::Text("by the authorities' lists".to_owned())),
    };
    Some(step.list("forward", parts.iter().filter(|(_, told)| *told).map(|(name, _)| name)))
}

fn redirect_step(redirect: &ir::Redirect, object: &ObjectRef) -> Step {
    Step::new("RequestRedirect", object)
        .with("status", Detail::Number(redirect.status.into()))
        .text("scheme", redirect.scheme.map(|scheme| scheme.as_str().to_owned()))
        .text("hostname", redirect.hostname.as_ref().map(ToString::to_string))
        .number("port", redirect.port.map(u64::from))
        .text("path", redirect.path.as_ref().map(rewrite_text))
}

fn rewrite_text(path: &PathRewrite) -> String {
    match path {
        PathRewrite::ReplacePrefixMatch(value) => format!("prefix -> {value}"),
        PathRewrite::ReplaceFullPath(value) => format!("-> {value}"),
        PathRewrite::ReplaceRegex { regex, substitution } => format!("{regex} -> {substitution}"),
    }
}

/// Only names: a value that is set may be a credential.
fn edit_step(kind: &'static str, edit: &ir::HeaderEdit, object: &ObjectRef) -> Option<Step> {
    let names = |pairs: &[(http::HeaderName, http::HeaderValue)]| -> Vec<String> {
        pairs.iter().map(|(name, _)| name.to_string()).collect()
    };
    let step = || {
        Step::new(kind, object)
            .list("remove", &edit.remove)
            .list("set", names(&edit.set))
            .list("add", names(&edit.add))
    };
    (!edit.is_empty()).then(step)
}

/// The parts of forwarding, each where it is not the default.
fn forward_steps(route: &Route, steps: &mut Vec<Step>) {
    let object = &route.id.object;
    let Action::Forward {
        backends: _,
        rewrite,
        retry,
        circuit_breaker,
        load_balancing,
        passive_health,
        active_health,
        upgrades,
        grpc_web,
    } = &route.action
    else {
        return;
    };
    if let Some(rewrite) = rewrite {
        let step = Step::new("URLRewrite", object);
        let step = step.text("hostname", rewrite.hostname.as_ref().map(ToString::to_string));
        steps.push(step.text("path", rewrite.path.as_ref().map(rewrite_text)));
    }
    steps.extend(balance::steps(load_balancing, object));
    if *circuit_breaker != ir::CircuitBreaker::default() {
        let step = Step::new("CircuitBreaker", object)
            .number("maxConnections", circuit_breaker.max_connections.map(u64::from))
            .number("maxPendingRequests", circuit_breaker.max_pending_requests.map(u64::from))
            .number("maxRequests", circuit_breaker.max_requests.map(u64::from));
        let step = step.number("maxRetries", circuit_breaker.max_retries.map(u64::from));
        let adaptive = circuit_breaker.adaptive.map(|limit| format!("{} to {}", limit.min, limit.max));
        let failures = circuit_breaker.failures.as_ref().map(health::failures_text);
        steps.push(step.text("failures", failures).text("adaptive", adaptive));
    }
    if let Some(health) = passive_health.filter(|health| *health != ir::PassiveHealth::default()) {
        steps.push(health::passive_step(&health, object));
    }
    steps.extend(active_health.as_ref().map(|health| health::active_step(health, object)));
    if *upgrades != ir::Upgrades::default() {
        steps.push(Step::new("Upgrades", object).with("protocols", Detail::List(upgrades.names().to_vec())));
    }
    if *grpc_web {
        steps.push(Step::new("GRPCWeb", object));
    }
    if *retry != ir::Retry::default() {
        steps.push(retry_step(retry, object));
    }
    if route.timeouts != ir::Timeouts::default() {
        let ir::Timeouts { connect, request, per_try, idle, stream_idle } = route.timeouts;
        let step = Step::new("Timeouts", object).text("connect", Some(duration(connect)));
        let step = step.text("request", request.map(duration)).text("perTry", per_try.map(duration));
        // Its default is long enough to be of no interest, and no bound is.
        let stream_idle = (stream_idle != ir::Timeouts::default().stream_idle)
            .then(|| stream_idle.map_or_else(|| "none".to_owned(), duration));
        steps.push(step.text("idle", idle.map(duration)).text("streamIdle", stream_idle));
    }
}

fn retry_step(retry: &ir::Retry, object: &ObjectRef) -> Step {
    let on = retry.on.iter().map(|on| match on {
        RetryOn::ConnectFailure => "ConnectFailure".to_owned(),
        RetryOn::Reset => "Reset".to_owned(),
        RetryOn::Status { first, last } if first == last => first.to_string(),
        RetryOn::Status { first, last } => format!("{first}-{last}"),
    });
    Step::new("Retry", object)
        .with("attempts", Detail::Number(retry.attempts.into()))
        .list("on", on)
        .list("methods", &retry.methods)
}

/// As users write it (GEP-2257): `1m30s`, `500ms`.
pub(super) fn duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    text
}
