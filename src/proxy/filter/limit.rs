//! Rate limits of a route: names the bucket of a request, asks its counters, and says in headers what is left.

use std::sync::Arc;

use hashbrown::HashMap;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ir::{Limit, LimitKey, LimitMode, LimitPhase, LimitPolicy, ObjectRef};
use traffic::{FingerprintSeed, LimitStore, LimitVerdict};

use super::auth::Identity;
use crate::observe::{LimitMetrics, Metrics};
use crate::request::Asked;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// One limit of one policy, as a route asks it. The counters are shared by all routes of the policy.
#[derive(Debug)]
pub(crate) struct RouteLimit {
    policy: Arc<LimitPolicy>,
    index: usize,
    store: Arc<LimitStore>,
    seed: FingerprintSeed,
    metrics: Arc<LimitMetrics>,
    /// `"name";q=…;w=…`, prepared: nothing of it changes with a request.
    quota: Vec<u8>,
}

/// Limits of a route in the order in which they are asked.
#[derive(Debug, Default)]
pub(crate) struct RouteLimits {
    pub(crate) before_auth: Vec<RouteLimit>,
    pub(crate) after_auth: Vec<RouteLimit>,
}

/// What the limits that were asked said, for the answer's headers (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Default)]
pub(crate) struct LimitNotes {
    quotas: Vec<u8>,
    states: Vec<u8>,
    retry_after_s: Option<u64>,
}

/// A limit refused; the notes say for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

impl RouteLimit {
    fn limit(&self) -> Option<&Limit> {
        self.policy.limits.get(self.index)
    }

    fn fingerprint(&self, limit: &Limit, asked: &Asked, identity: &Identity) -> u64 {
        let mut key = self.seed.start();
        for part in &limit.keys {
            match part {
                LimitKey::ClientIp { ipv4_prefix, ipv6_prefix } => {
                    key.address(asked.client, *ipv4_prefix, *ipv6_prefix);
                }
                LimitKey::Header { name } => match asked.headers.get(name) {
                    Some(value) => key.text(value.as_bytes()),
                    None => key.absent(),
                },
                LimitKey::Path => key.text(asked.path().as_bytes()),
                LimitKey::Host => key.text(asked.host().as_bytes()),
                LimitKey::Method => key.text(asked.method.as_str().as_bytes()),
                LimitKey::JwtClaim { provider, claim } => match identity.claim(provider.as_deref(), claim) {
                    Some(value) => key.text(value.as_bytes()),
                    None => key.address(asked.client, 32, 64),
                },
            }
        }
        key.finish()
    }

    /// Charges the request and notes what is left. A shadow limit counts, never refuses and is not noted.
    fn ask(
        &self,
        asked: &Asked,
        identity: &Identity,
        now_ns: u64,
        notes: &mut LimitNotes,
    ) -> Result<(), Exceeded> {
        let Some(limit) = self.limit() else { return Ok(()) };
        let verdict = self.store.check(now_ns, self.fingerprint(limit, asked, identity));
        if verdict.evicted {
            self.metrics.evicted.inc();
        }
        match limit.mode {
            LimitMode::Shadow if verdict.allowed => Ok(()),
            LimitMode::Shadow => {
                self.metrics.shadowed.inc();
                Ok(())
            }
            LimitMode::Enforce => {
                notes.note(&self.quota, &limit.name, verdict);
                if verdict.allowed {
                    return Ok(());
                }
                self.metrics.rejected.inc();
                Err(Exceeded)
            }
        }
    }
}

/// Asks the limits in order; the first that refuses ends it.
pub(crate) fn ask_all(
    limits: &[RouteLimit],
    asked: &Asked,
    identity: &Identity,
    now_ns: u64,
    notes: &mut LimitNotes,
) -> Result<(), Exceeded> {
    for (index, limit) in limits.iter().enumerate() {
        if limit.ask(asked, identity, now_ns, notes).is_err() {
            give_back(limits.get(..index).unwrap_or_default(), asked, identity);
            return Err(Exceeded);
        }
    }
    Ok(())
}

/// Takes back what limits charged for a request that another one then refused: a refused request costs nothing, so that
/// nobody can use up a limit that is shared by being refused by one of his own.
pub(crate) fn give_back(limits: &[RouteLimit], asked: &Asked, identity: &Identity) {
    for route_limit in limits {
        if let Some(limit) = route_limit.limit().filter(|limit| limit.mode == LimitMode::Enforce) {
            route_limit.store.refund(route_limit.fingerprint(limit, asked, identity));
        }
    }
}

impl LimitNotes {
    fn note(&mut self, quota: &[u8], name: &str, verdict: LimitVerdict) {
        if !self.quotas.is_empty() {
            self.quotas.extend_from_slice(b", ");
            self.states.extend_from_slice(b", ");
        }
        self.quotas.extend_from_slice(quota);
        self.states.push(b'"');
        self.states.extend_from_slice(name.as_bytes());
        self.states.extend_from_slice(b"\";r=");
        let mut digits = itoa::Buffer::new();
        self.states.extend_from_slice(digits.format(verdict.remaining).as_bytes());
        self.states.extend_from_slice(b";t=");
        self.states.extend_from_slice(digits.format(verdict.reset_ns.div_ceil(NANOS_PER_SECOND)).as_bytes());
        if !verdict.allowed {
            self.retry_after_s = Some(verdict.retry_after_ns.div_ceil(NANOS_PER_SECOND).max(1));
        }
    }

    /// Sets `RateLimit`, `RateLimit-Policy` and, after a refusal, `Retry-After`. What an upstream said of these is
    /// replaced only where a limit was asked.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        if self.quotas.is_empty() {
            return;
        }
        if let (Ok(quotas), Ok(states)) = (
            HeaderValue::from_maybe_shared(bytes::Bytes::from(self.quotas)),
            HeaderValue::from_maybe_shared(bytes::Bytes::from(self.states)),
        ) {
            headers.insert(RATE_LIMIT_POLICY, quotas);
            headers.insert(RATE_LIMIT, states);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

/// `"name";q=…;w=…` of each rate; the second and later ones are named `name.2` and so on.
fn quota(limit: &Limit) -> Vec<u8> {
    let items = limit.rates.iter().enumerate().map(|(index, rate)| {
        let suffix = if index == 0 { String::new() } else { format!(".{}", index + 1) };
        format!("\"{}{suffix}\";q={};w={}", limit.name, rate.requests, rate.per.as_secs().max(1))
    });
    items.collect::<Vec<_>>().join(", ").into_bytes()
}

/// The counters of all policies, by policy and limit. Belongs to the control thread.
#[derive(Debug)]
pub(crate) struct LimitStores {
    seed: FingerprintSeed,
    stores: HashMap<(ObjectRef, Arc<str>), (Limit, Arc<LimitStore>)>,
}

impl LimitStores {
    pub(crate) fn new(seed: FingerprintSeed) -> Self {
        Self { seed, stores: HashMap::new() }
    }

    /// The limits of a route. A limit that means the same as before keeps its counters.
    pub(crate) fn route_limits(&mut self, policies: &[Arc<LimitPolicy>], metrics: &Metrics) -> RouteLimits {
        let mut limits = RouteLimits::default();
        for policy in policies {
            for (index, limit) in policy.limits.iter().enumerate() {
                let route_limit = RouteLimit {
                    policy: Arc::clone(policy),
                    index,
                    store: self.store(&policy.source, limit),
                    seed: self.seed.clone(),
                    metrics: metrics.limit(&policy.source, &limit.name),
                    quota: quota(limit),
                };
                match limit.phase {
                    LimitPhase::PreAuth => limits.before_auth.push(route_limit),
                    LimitPhase::PostAuth => limits.after_auth.push(route_limit),
                }
            }
        }
        limits
    }

    fn store(&mut self, policy: &ObjectRef, limit: &Limit) -> Arc<LimitStore> {
        let key = (policy.clone(), Arc::clone(&limit.name));
        match self.stores.get(&key) {
            Some((known, store)) if counts_alike(known, limit) => Arc::clone(store),
            Some(_) | None => {
                let store = Arc::new(LimitStore::new(limit));
                self.stores.insert(key, (limit.clone(), Arc::clone(&store)));
                store
            }
        }
    }

    /// Forgets counters that no route asks any more.
    pub(crate) fn forget_unused(&mut self) {
        self.stores.retain(|_, (_, store)| Arc::strong_count(store) > 1);
    }
}

/// Whether counters of one limit mean the same for the other. The mode does not count: a shadow limit that is switched
/// on keeps what it has seen.
fn counts_alike(left: &Limit, right: &Limit) -> bool {
    left.keys == right.keys && left.rates == right.rates && left.keys_max == right.keys_max
}
