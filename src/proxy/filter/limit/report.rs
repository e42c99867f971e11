//! What the admin interface tells of limits: what they did, and what those in Shadow mode have learned. Names no key, only its
//! fingerprint, which means nothing outside of this process.

use std::sync::Arc;

use ir::{Limit, LimitMode};
use serde::Serialize;
use traffic::{RateReport, ShadowReport};

use super::{Counters, RouteLimit, RouteLimits};

/// More routes than this are not named.
const ROUTES_MAX: usize = 16;

/// One limit of a policy with the routes that share its counters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitRow {
    policy: String,
    limit: Arc<str>,
    mode: LimitMode,
    /// At most [`ROUTES_MAX`].
    routes: Vec<Arc<str>>,
    /// These three are of all counters of the limit together, as in the metrics.
    rejected: u64,
    shadowed: u64,
    evicted_keys: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowRow>,
    #[serde(skip)]
    counters: Counters,
}

/// What a limit in Shadow mode has seen since it is in this mode.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShadowRow {
    passed: u64,
    blocked: u64,
    top_keys: Vec<KeyRow>,
    rates: Vec<RateRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyRow {
    key: String,
    blocked: u64,
    blocked_at_least: u64,
}

/// What keys ask for in one span of a rate, and the rate that would suit them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RateRow {
    requests: u32,
    per_seconds: u64,
    windows: u64,
    keys: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
    proposed_requests: u64,
}

impl RouteLimits {
    /// Adds the limits of one route, each to the row with its counters.
    pub(crate) fn add_rows(&self, route: &Arc<str>, rows: &mut Vec<LimitRow>) {
        for route_limit in &self.all {
            let known = rows.iter_mut().find(|row| row.counters.are(&route_limit.counters));
            match (known, route_limit.limit()) {
                (Some(row), _) if row.routes.len() < ROUTES_MAX => row.routes.push(Arc::clone(route)),
                (Some(_), _) | (None, None) => {}
                (None, Some(limit)) => rows.push(row(route_limit, limit, route)),
            }
        }
    }
}

fn row(route_limit: &RouteLimit, limit: &Limit, route: &Arc<str>) -> LimitRow {
    let (source, metrics) = (&route_limit.policy.source, &route_limit.metrics);
    let (keys, places) = match &route_limit.counters {
        Counters::Rates(store) => (Some(store.keys()), None),
        Counters::Concurrency(_) => (None, Some((metrics.in_flight.get(), metrics.queued.get()))),
    };
    LimitRow {
        policy: format!("{}/{}", source.namespace, source.name),
        limit: Arc::clone(&limit.name),
        mode: limit.mode,
        routes: vec![Arc::clone(route)],
        rejected: metrics.rejected.get(),
        shadowed: metrics.shadowed.get(),
        evicted_keys: metrics.evicted.get(),
        keys,
        in_flight: places.map(|(in_flight, _)| in_flight),
        queued: places.map(|(_, queued)| queued),
        shadow: route_limit.watch.as_ref().map(|watch| shadow(limit, watch.report())),
        counters: route_limit.counters.clone(),
    }
}

fn shadow(limit: &Limit, report: ShadowReport) -> ShadowRow {
    let rate = |(rate, seen): (&ir::Rate, RateReport)| RateRow {
        requests: rate.requests,
        per_seconds: seen.per.as_secs(),
        windows: seen.windows,
        keys: seen.keys,
        p50: seen.p50,
        p90: seen.p90,
        p99: seen.p99,
        max: seen.max,
        proposed_requests: seen.proposed,
    };
    let top_keys = report.top.iter().map(|top| KeyRow {
        key: format!("{:016x}", top.fingerprint),
        blocked: top.blocked,
        blocked_at_least: top.blocked_min,
    });
    ShadowRow {
        passed: report.passed,
        blocked: report.blocked,
        top_keys: top_keys.collect(),
        rates: limit.rates.iter().zip(report.rates).map(rate).collect(),
    }
}
