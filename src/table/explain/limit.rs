//! Tells of a route's limits: what they count, by what, and whether they count this request.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use ir::{LimitKey, LimitMode, LimitPhase, ObjectRef, OnMissing, Route};
use serde::Serialize;

use super::policy::{Detail, Step, duration};
use super::text;
use crate::head::RequestHead;
use crate::values;
use crate::when::When;

/// What names the bucket of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitKeys {
    pub object: ObjectRef,
    pub limit: String,
    /// Empty: one bucket for all.
    pub keys: Vec<String>,
    /// False: the limit does not count this request.
    #[serde(skip_serializing_if = "is_true")]
    pub counts: bool,
    /// It counts only requests whose tokens fulfil these, which cannot be told of a request that is made up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
}

impl fmt::Display for LimitKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = if self.keys.is_empty() { "one bucket for all".to_owned() } else { self.keys.join(", ") };
        let not = if self.counts { "" } else { " (does not count this request)" };
        write!(f, "{} {}: {keys}{not}", self.object, self.limit)?;
        match self.claims.as_slice() {
            [] => Ok(()),
            [..] => write!(f, " (only if the token has {})", self.claims.join(" and ")),
        }
    }
}

/// What names the buckets, in the order of the limits. Addresses, path, host, method and rule are shown with their value
/// in this request; headers, cookies, parameters and claims only by name.
pub(super) fn limit_keys(route: &Route, head: &RequestHead<'_>) -> Vec<LimitKeys> {
    let mut all = Vec::new();
    for phase in [LimitPhase::PreAuth, LimitPhase::PostAuth] {
        for policy in &route.limits {
            for limit in policy.limits.iter().filter(|limit| limit.phase == phase) {
                all.push(LimitKeys {
                    object: policy.source.clone(),
                    limit: limit.name.to_string(),
                    keys: limit.keys.iter().map(|key| key_text(key, route, head)).collect(),
                    counts: counts(limit, head),
                    claims: claims(limit).collect(),
                });
            }
        }
    }
    all
}

/// The limits of one phase.
pub(super) fn limit_steps(route: &Route, phase: LimitPhase, steps: &mut Vec<Step>) {
    for policy in &route.limits {
        for limit in policy.limits.iter().filter(|limit| limit.phase == phase) {
            let mode = match limit.mode {
                LimitMode::Enforce => "Enforce",
                LimitMode::Shadow => "Shadow",
            };
            let rates = limit.rates.iter().map(rate_text);
            let step = Step::new("RateLimitPolicy", &policy.source);
            let step = step.with("limit", Detail::Text(limit.name.to_string()));
            let step = step.with("mode", Detail::Text(mode.to_owned())).list("rates", rates);
            let step = step.text("concurrency", limit.concurrency.as_ref().map(concurrency_text));
            let step = step.text("cost", (!limit.cost.is_one()).then(|| cost_text(&limit.cost)));
            let step = step.text("answer", policy.answer.as_ref().map(|answer| answer.status.to_string()));
            let when = limit.when.as_ref();
            let step =
                step.list("when", when.into_iter().flat_map(|when| &when.matches).map(text::match_text));
            let step = step.list("except", when.into_iter().flat_map(|when| &when.except));
            let phase = match limit.phase {
                LimitPhase::PreAuth => "PreAuth",
                LimitPhase::PostAuth => "PostAuth",
            };
            steps.push(step.list("claims", claims(limit)).with("phase", Detail::Text(phase.to_owned())));
        }
    }
}

fn concurrency_text(concurrency: &ir::Concurrency) -> String {
    let ir::Concurrency { max, queue, queue_timeout } = concurrency;
    match queue {
        0 => format!("{max} at once"),
        _ => format!("{max} at once, {queue} wait up to {}", duration(*queue_timeout)),
    }
}

fn cost_text(cost: &ir::LimitCost) -> String {
    match &cost.response_header {
        Some(name) => format!("{}, or what {name} of the answer says", cost.request),
        None => cost.request.to_string(),
    }
}

fn rate_text(rate: &ir::Rate) -> String {
    let (requests, per) = (rate.requests, duration(rate.per));
    match rate.counting {
        ir::RateCounting::Gcra => format!("{requests} per {per} (burst {})", rate.burst),
        ir::RateCounting::SlidingWindow => format!("{requests} in any {per}"),
        ir::RateCounting::Calendar => format!("{requests} per {per} of the calendar"),
    }
}

/// What tokens must say so that the limit counts a request.
fn claims(limit: &ir::Limit) -> impl Iterator<Item = String> {
    limit.when.iter().flat_map(|when| &when.claims).map(|condition| {
        let ir::ClaimCondition { provider, path, operator, values } = condition;
        let values: String = match values.as_slice() {
            [] => String::new(),
            [..] => format!(" [{}]", values.join(", ")),
        };
        let of = provider.as_ref().map(|provider| format!(" of {provider}")).unwrap_or_default();
        format!("{}{of} {operator:?}{values}", path.join("."))
    })
}

/// Whether the limit counts this request, as far as its head tells: a claim is not looked at.
fn counts(limit: &ir::Limit, head: &RequestHead<'_>) -> bool {
    let skips = |key: &LimitKey| match key {
        LimitKey::Header { name, on_missing: OnMissing::Skip } => !head.headers.contains_key(name),
        LimitKey::Cookie { name, on_missing: OnMissing::Skip } => {
            values::cookie(head.headers, name).is_none()
        }
        LimitKey::QueryParam { name, on_missing: OnMissing::Skip } => {
            values::query(head.query, name).is_none()
        }
        LimitKey::Header { .. }
        | LimitKey::Cookie { .. }
        | LimitKey::QueryParam { .. }
        | LimitKey::ClientIp { .. }
        | LimitKey::Path
        | LimitKey::Host
        | LimitKey::Method
        | LimitKey::RouteRule
        | LimitKey::JwtClaim { .. }
        | LimitKey::ApiKeyClient { .. } => false,
    };
    When::new(limit.when.as_ref()).holds(head) && !limit.keys.iter().any(skips)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks it so")]
fn is_true(flag: &bool) -> bool {
    *flag
}

fn key_text(key: &LimitKey, route: &Route, head: &RequestHead<'_>) -> String {
    match key {
        LimitKey::ClientIp { ipv4_prefix, ipv6_prefix } => {
            let prefix = match head.client {
                IpAddr::V4(_) => *ipv4_prefix,
                IpAddr::V6(_) => *ipv6_prefix,
            };
            match IpNet::new(head.client, prefix) {
                Ok(net) => format!("ClientIP {}", net.trunc()),
                Err(_) => format!("ClientIP {}", head.client),
            }
        }
        LimitKey::Header { name, .. } => format!("Header {name}"),
        LimitKey::Cookie { name, .. } => format!("Cookie {name}"),
        LimitKey::QueryParam { name, .. } => format!("QueryParam {name}"),
        LimitKey::RouteRule => format!("RouteRule {}", route.id),
        LimitKey::Path => format!("Path {}", head.path),
        LimitKey::Host => format!("Host {}", head.host),
        LimitKey::Method => format!("Method {}", head.method),
        LimitKey::JwtClaim { provider: None, claim, .. } => format!("JWTClaim {claim}"),
        LimitKey::JwtClaim { provider: Some(provider), claim, .. } => {
            format!("JWTClaim {claim} of {provider}")
        }
        LimitKey::ApiKeyClient { .. } => "APIKeyClient".to_owned(),
    }
}
