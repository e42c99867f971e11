//! Rate limits of a route: names the bucket of a request, asks its counters, and says in headers what is left.

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use http::{HeaderMap, HeaderName, HeaderValue};
use ir::{
    CounterScope, Limit, LimitKey, LimitMode, LimitPhase, LimitPolicy, ObjectRef, OnMissing, RateCounting,
    RouteId,
};
use table::When;
use traffic::{FingerprintSeed, Fingerprinter, LimitNow, LimitStore, ShadowWatch};

use super::auth::Identity;
use crate::observe::{LimitMetrics, Metrics};
use crate::request::Asked;

mod charge;
mod cost;
mod notes;
mod report;
mod turn;

use charge::Charged;
use cost::Owed;
use notes::Shown;
pub(crate) use notes::{LimitHeld, LimitNotes};
pub(crate) use report::LimitRow;
pub(crate) use turn::Turn;
use turn::{Places, Waiting};

/// Of an address that stands in for what a request lacks.
const STAND_IN_PREFIXES: (u8, u8) = (32, 64);

/// One limit of one policy, as a route asks it. The counters are shared as the policy says.
#[derive(Debug)]
pub(crate) struct RouteLimit {
    policy: Arc<LimitPolicy>,
    index: usize,
    /// Where it stands among the limits of the route, if one behind it may refuse what it has charged.
    position: Option<usize>,
    rule: Arc<str>,
    when: Arc<When>,
    counters: Counters,
    /// One of its rates counts by the calendar.
    by_calendar: bool,
    /// Only in Shadow mode.
    watch: Option<Arc<ShadowWatch>>,
    seed: FingerprintSeed,
    metrics: Arc<LimitMetrics>,
    /// `"name";q=…;w=…`, prepared: nothing of it changes with a request.
    quota: Vec<u8>,
}

/// The state of a limit.
#[derive(Clone, Debug)]
enum Counters {
    Rates(Arc<LimitStore>),
    Concurrency(Arc<Places>),
}

/// What limits look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitAsk<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) identity: &'a Identity,
    pub(crate) now_ns: u64,
}

/// Limits of a route in the order in which they are asked.
#[derive(Debug, Default)]
pub(crate) struct RouteLimits {
    all: Vec<RouteLimit>,
    /// So many of them are asked before authentication.
    early: usize,
    /// By these answers say what they cost. No client sees them, whether or not a limit has charged its request.
    cost_headers: Vec<HeaderName>,
}

/// A limit refused; the notes say for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

impl RouteLimits {
    /// Whether none is asked in this phase.
    pub(crate) fn is_empty(&self, phase: LimitPhase) -> bool {
        self.of(phase).is_empty()
    }

    fn of(&self, phase: LimitPhase) -> Range<usize> {
        match phase {
            LimitPhase::PreAuth => 0..self.early,
            LimitPhase::PostAuth => self.early..self.all.len(),
        }
    }

    /// Asks the limits of a phase in order; the first that refuses ends it. Where one makes the request wait, the others are
    /// not asked yet.
    pub(crate) fn ask(
        &self,
        phase: LimitPhase,
        ask: LimitAsk<'_>,
        notes: &mut LimitNotes,
    ) -> Result<Option<Box<Turn>>, Exceeded> {
        self.ask_from(self.of(phase), ask, notes).map(|turn| turn.map(Box::new))
    }

    fn ask_from(
        &self,
        positions: Range<usize>,
        ask: LimitAsk<'_>,
        notes: &mut LimitNotes,
    ) -> Result<Option<Turn>, Exceeded> {
        for (position, limit) in self.all.iter().enumerate().take(positions.end).skip(positions.start) {
            match limit.ask(ask, notes) {
                Ok(None) => {}
                Ok(Some(waiting)) => {
                    return Ok(Some(Turn { position, behind: position + 1..positions.end, waiting }));
                }
                Err(Exceeded) => {
                    self.give_back(ask.now_ns, notes);
                    return Err(Exceeded);
                }
            }
        }
        Ok(None)
    }

    /// Takes back what limits charged for a request that another one then refused: a refused request costs nothing, so that
    /// nobody can use up a limit that is shared by being refused by one of his own.
    fn give_back(&self, now_ns: u64, notes: &mut LimitNotes) {
        notes.charges.take(|Charged { position, fingerprint, charge }| {
            if let Some(RouteLimit { counters: Counters::Rates(store), .. }) = self.all.get(position) {
                store.refund(now_ns, fingerprint, charge);
            }
        });
    }

    /// Charges what the upstream's answer says, and takes that out of it.
    pub(crate) fn settle(
        &self,
        notes: &mut LimitNotes,
        headers: &mut HeaderMap,
        now_ns: impl FnOnce() -> u64,
    ) {
        notes.settle(headers, now_ns);
        for name in &self.cost_headers {
            headers.remove(name);
        }
    }
}

impl RouteLimit {
    fn limit(&self) -> Option<&Limit> {
        self.policy.limits.get(self.index)
    }

    /// The bucket that the request counts in.
    fn bucket(&self, limit: &Limit, asked: &Asked, identity: &Identity) -> Bucket {
        if !self.when.is_always() && !self.when.holds(&asked.head()) {
            return Bucket::NotCounted;
        }
        if limit.when.as_ref().is_some_and(|when| !when.claims.iter().all(|claim| identity.fulfils(claim))) {
            return Bucket::NotCounted;
        }
        let mut key = self.seed.start();
        for part in &limit.keys {
            let found = match part {
                LimitKey::ClientIp { ipv4_prefix, ipv6_prefix } => {
                    key.address(asked.client, *ipv4_prefix, *ipv6_prefix);
                    Ok(())
                }
                LimitKey::Header { name, on_missing } => {
                    text(&mut key, asked.headers.get(name).map(HeaderValue::as_bytes), *on_missing)
                }
                LimitKey::Cookie { name, on_missing } => {
                    text(&mut key, table::cookie(&asked.headers, name), *on_missing)
                }
                LimitKey::QueryParam { name, on_missing } => {
                    text(&mut key, table::query(asked.query(), name).as_deref(), *on_missing)
                }
                LimitKey::JwtClaim { provider, claim, on_missing } => {
                    let value = identity.claim(provider.as_deref(), claim);
                    text(&mut key, value.as_deref().map(str::as_bytes), *on_missing)
                }
                LimitKey::ApiKeyClient { on_missing } => {
                    text(&mut key, identity.api_key_client().map(HeaderValue::as_bytes), *on_missing)
                }
                LimitKey::Path => text(&mut key, Some(asked.path().as_bytes()), OnMissing::Shared),
                LimitKey::Host => text(&mut key, Some(asked.host().as_bytes()), OnMissing::Shared),
                LimitKey::Method => text(&mut key, Some(asked.method.as_str().as_bytes()), OnMissing::Shared),
                LimitKey::RouteRule => text(&mut key, Some(self.rule.as_bytes()), OnMissing::Shared),
            };
            match found {
                Ok(()) => {}
                Err(OnMissing::Skip) => return Bucket::NotCounted,
                Err(OnMissing::Reject) => return Bucket::Rejected,
                Err(OnMissing::Shared) => key.absent(),
                Err(OnMissing::UseClientIp) => {
                    let (ipv4, ipv6) = STAND_IN_PREFIXES;
                    key.address(asked.client, ipv4, ipv6);
                }
            }
        }
        Bucket::Named(key.finish())
    }

    /// Charges the request and notes what is left, or takes a place for it. A shadow limit counts, never refuses and is
    /// not noted.
    fn ask(&self, ask: LimitAsk<'_>, notes: &mut LimitNotes) -> Result<Option<Waiting>, Exceeded> {
        let Some(limit) = self.limit() else { return Ok(None) };
        let fingerprint = match self.bucket(limit, ask.asked, ask.identity) {
            Bucket::Named(fingerprint) => fingerprint,
            Bucket::NotCounted => return Ok(None),
            Bucket::Rejected => return self.refuse(limit, notes).map(|()| None),
        };
        let store = match &self.counters {
            Counters::Rates(store) => store,
            Counters::Concurrency(places) => return self.take_place((limit, places), fingerprint, notes),
        };
        let (now, cost) = (self.now(ask.now_ns), limit.cost.request);
        let verdict = match self.position {
            Some(position) => {
                let (verdict, charge) = store.check_revocably(now, fingerprint, cost);
                if let Some(charge) = charge {
                    notes.charges.add(Charged { position, fingerprint, charge });
                }
                verdict
            }
            None => store.check(now, fingerprint, cost),
        };
        if verdict.evicted {
            self.metrics.evicted.inc();
        }
        match limit.mode {
            LimitMode::Enforce => {
                let headers = self.policy.headers;
                notes.note(Shown { headers, limit, quota: &self.quota }, verdict);
            }
            LimitMode::Shadow => self.learn(ask.now_ns, fingerprint, verdict.allowed),
        }
        if !verdict.allowed {
            self.refuse(limit, notes)?;
        }
        if let Some(header) = &limit.cost.response_header {
            notes.owe(Owed {
                store: verdict.allowed.then(|| Arc::clone(store)),
                watch: self.watch.clone(),
                fingerprint,
                header: header.clone(),
                paid: cost,
                by_calendar: self.by_calendar,
            });
        }
        Ok(None)
    }

    fn learn(&self, now_ns: u64, fingerprint: u64, passes: bool) {
        if let Some((watch, limit)) = self.watch.as_ref().zip(self.limit()) {
            watch.on_request(now_ns, fingerprint, limit.cost.request, passes);
        }
    }

    fn now(&self, monotonic_ns: u64) -> LimitNow {
        limit_now(monotonic_ns, self.by_calendar)
    }

    fn refuse(&self, limit: &Limit, notes: &mut LimitNotes) -> Result<(), Exceeded> {
        match limit.mode {
            LimitMode::Shadow => {
                self.metrics.shadowed.inc();
                Ok(())
            }
            LimitMode::Enforce => {
                self.metrics.rejected.inc();
                notes.refuse(self.policy.answer.as_ref());
                Err(Exceeded)
            }
        }
    }
}

/// Where a request counts.
enum Bucket {
    Named(u64),
    /// The limit has nothing to say to it.
    NotCounted,
    /// It lacks what it must have.
    Rejected,
}

/// Adds a value, or says what becomes of a request without it.
fn text(key: &mut Fingerprinter, value: Option<&[u8]>, on_missing: OnMissing) -> Result<(), OnMissing> {
    key.text(value.ok_or(on_missing)?);
    Ok(())
}

/// The wall clock is read only for who looks at it.
fn limit_now(monotonic_ns: u64, by_calendar: bool) -> LimitNow {
    LimitNow { monotonic_ns, unix_ns: if by_calendar { unix_ns() } else { 0 } }
}

fn unix_ns() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `"name";q=…;w=…` of each rate; the second and later ones are named `name.2` and so on. A part of a second counts as one:
/// the client must not think that it may come sooner.
fn quota(limit: &Limit) -> Vec<u8> {
    let items = limit.rates.iter().enumerate().map(|(index, rate)| {
        let suffix = if index == 0 { String::new() } else { format!(".{}", index + 1) };
        let seconds = rate.per.as_nanos().div_ceil(1_000_000_000).max(1);
        format!("\"{}{suffix}\";q={};w={seconds}", limit.name, rate.requests)
    });
    items.collect::<Vec<_>>().join(", ").into_bytes()
}

/// The counters of all policies. Belongs to the control thread.
#[derive(Debug)]
pub(crate) struct LimitStores {
    seed: FingerprintSeed,
    stores: HashMap<CounterKey, Known>,
}

/// Whose counters they are: those of a limit of a policy, for what they are shared by.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CounterKey {
    policy: ObjectRef,
    limit: Arc<str>,
    shared_by: SharedBy,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum SharedBy {
    All,
    Target(ObjectRef),
    Rule(RouteId),
}

#[derive(Debug)]
struct Known {
    limit: Limit,
    when: Arc<When>,
    counters: Counters,
    watch: Option<Arc<ShadowWatch>>,
}

impl Counters {
    /// Whether they are the same, and not only alike.
    fn are(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rates(left), Self::Rates(right)) => Arc::ptr_eq(left, right),
            (Self::Concurrency(left), Self::Concurrency(right)) => Arc::ptr_eq(left, right),
            (Self::Rates(_) | Self::Concurrency(_), _) => false,
        }
    }

    fn new(limit: &Limit) -> Self {
        match &limit.concurrency {
            Some(concurrency) => Self::Concurrency(Arc::new(Places::new(concurrency))),
            None => Self::Rates(Arc::new(LimitStore::new(limit))),
        }
    }

    fn is_used(&self) -> bool {
        match self {
            Self::Rates(store) => Arc::strong_count(store) > 1,
            Self::Concurrency(places) => Arc::strong_count(places) > 1,
        }
    }
}

impl LimitStores {
    pub(crate) fn new(seed: FingerprintSeed) -> Self {
        Self { seed, stores: HashMap::new() }
    }

    /// The limits of a route. A limit that means the same as before keeps its counters.
    pub(crate) fn route_limits(&mut self, route: &ir::Route, metrics: &Metrics) -> RouteLimits {
        let mut limits = RouteLimits::default();
        if route.limits.is_empty() {
            return limits;
        }
        let mut late = Vec::new();
        let rule: Arc<str> = route.id.to_string().into();
        for policy in &route.limits {
            for (index, limit) in policy.limits.iter().enumerate() {
                let (when, counters, watch) = self.counters(policy, limit, &route.id);
                let limit_metrics = metrics.limit(&policy.source, &limit.name);
                limit_metrics.places.set(limit.concurrency.map_or(0, |concurrency| concurrency.max.into()));
                let route_limit = RouteLimit {
                    policy: Arc::clone(policy),
                    index,
                    position: None,
                    rule: Arc::clone(&rule),
                    when,
                    counters,
                    watch,
                    by_calendar: limit.rates.iter().any(|rate| rate.counting == RateCounting::Calendar),
                    seed: self.seed.clone(),
                    metrics: limit_metrics,
                    quota: quota(limit),
                };
                if let Some(name) = &limit.cost.response_header
                    && !limits.cost_headers.contains(name)
                {
                    limits.cost_headers.push(name.clone());
                }
                match limit.phase {
                    LimitPhase::PreAuth => limits.all.push(route_limit),
                    LimitPhase::PostAuth => late.push(route_limit),
                }
            }
        }
        limits.early = limits.all.len();
        limits.all.append(&mut late);
        let refuses =
            |limit: &RouteLimit| limit.limit().is_some_and(|limit| limit.mode == LimitMode::Enforce);
        let last = limits.all.iter().rposition(refuses).unwrap_or(0);
        for (position, limit) in limits.all.iter_mut().enumerate().take(last) {
            limit.position = Some(position);
        }
        limits
    }

    fn counters(
        &mut self,
        policy: &LimitPolicy,
        limit: &Limit,
        id: &RouteId,
    ) -> (Arc<When>, Counters, Option<Arc<ShadowWatch>>) {
        let key = CounterKey {
            policy: policy.source.clone(),
            limit: Arc::clone(&limit.name),
            shared_by: match policy.counter_scope {
                CounterScope::Policy => SharedBy::All,
                CounterScope::Target => SharedBy::Target(id.object.clone()),
                CounterScope::Rule => SharedBy::Rule(id.clone()),
            },
        };
        let known = self.stores.get(&key);
        let alike = known.filter(|known| counts_alike(&known.limit, limit));
        let counters = alike.map(|known| known.counters.clone());
        let watch = (limit.mode == LimitMode::Shadow).then(|| {
            let watch = alike.and_then(|known| known.watch.clone());
            watch.unwrap_or_else(|| Arc::new(ShadowWatch::new(limit.rates.iter().map(|rate| rate.per))))
        });
        let when = known.filter(|known| known.limit.when == limit.when).map(|known| Arc::clone(&known.when));
        let known = Known {
            limit: limit.clone(),
            when: when.unwrap_or_else(|| Arc::new(When::new(limit.when.as_ref()))),
            counters: counters.unwrap_or_else(|| Counters::new(limit)),
            watch,
        };
        let shared = (Arc::clone(&known.when), known.counters.clone(), known.watch.clone());
        self.stores.insert(key, known);
        shared
    }

    /// Forgets counters that no route asks any more.
    pub(crate) fn forget_unused(&mut self) {
        self.stores.retain(|_, known| known.counters.is_used());
    }
}

/// Whether counters of one limit mean the same for the other. Mode and conditions do not count: a shadow limit that is
/// switched on keeps what it has seen, and so does one that counts fewer requests from now on.
fn counts_alike(left: &Limit, right: &Limit) -> bool {
    left.keys == right.keys
        && left.rates == right.rates
        && left.keys_max == right.keys_max
        && left.concurrency == right.concurrency
}

#[cfg(test)]
mod tests;
