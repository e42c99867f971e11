//! What the process knows about each backend and its endpoints, over all workers and generations.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use ir::{
    Affinity, AffinityMode, BackendEndpoints, BackendId, BalancePolicy, CircuitBreaker, Endpoint,
    EndpointMap, LoadBalancing,
};
use tokio::sync::Notify;
use tracing::info;
use traffic::{
    Adaptive, Breaker, BreakerKind, CheckState, EndpointState, Lineup, Outlier, RetryBudget, Ring, Trip,
    TripState, stable_hash,
};

use super::names::NameRule;
use crate::observe::{BackendMetrics, EndpointCondition, Metrics};
use crate::settings::BackendNames;

/// One backend. Routes hold it by `Arc`; it outlives generations as long as some route names it.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Tells backends apart in the workers' pools.
    pub(crate) key: u64,
    pub(crate) breaker: Arc<Breaker>,
    /// Where a rule asks for one.
    pub(crate) adaptive: Arc<Adaptive>,
    /// Opens on failures, where a rule wants that.
    pub(super) trip: Trip,
    /// Told when a connection comes free while requests wait for one.
    pub(crate) freed: Notify,
    pub(crate) budget: RetryBudget,
    pub(crate) outlier: Outlier,
    pub(crate) metrics: Arc<BackendMetrics>,
    /// `None`: the names of its endpoints may lead anywhere.
    names: Option<Arc<NameRule>>,
    endpoints: ArcSwap<Targets>,
    /// Some rule chooses by hash, so that each list needs its ring.
    hashes: AtomicBool,
    /// Counts up with each pick of an endpoint by turn.
    turn: AtomicU64,
}

/// The endpoints of a backend, with what is prepared of them when they change.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    list: Vec<Target>,
    pub(super) lineup: Lineup,
}

impl Targets {
    /// `local` and `near`: see [`BackendEndpoints`]; `number`: see [`Outlier::next_lineup`].
    fn new(list: Vec<Target>, hashes: bool, (local, near): (&[usize], &[usize]), number: u64) -> Self {
        let ring = hashes.then(|| Ring::new(list.iter().map(|target| &*target.label)));
        Self { lineup: Lineup::new(&list, ring, local).with_near(near).with_number(number), list }
    }
}

impl Deref for Targets {
    type Target = [Target];

    fn deref(&self) -> &[Target] {
        &self.list
    }
}

/// One of a backend's connections, open or being opened: counted until it is closed. Whoever waits for one is told.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<Backend>);

impl ConnectionPermit {
    /// `None`: the rule's bound is reached.
    pub(super) fn try_acquire(backend: &Arc<Backend>, limits: &CircuitBreaker) -> Option<Self> {
        backend.breaker.try_acquire(BreakerKind::Connections, limits).then(|| {
            backend.metrics.connection_opened();
            Self(Arc::clone(backend))
        })
    }

    pub(super) fn backend(&self) -> Arc<Backend> {
        Arc::clone(&self.0)
    }

    /// Whether requests wait for a connection of this backend, so that none should lie idle.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.breaker.in_use(BreakerKind::Pending) > 0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.breaker.release(BreakerKind::Connections);
        self.0.metrics.connection_closed();
        self.0.freed.notify_one();
    }
}

/// One endpoint of a backend.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Tells endpoints apart in the workers' pools; stays while the endpoint stays.
    pub(crate) key: u64,
    pub(crate) endpoint: Endpoint,
    /// `None`: a name that is resolved when connecting.
    pub(crate) address: Option<SocketAddr>,
    /// What such a name is held to; `None`: to nothing.
    pub(super) names: Option<Arc<NameRule>>,
    /// `address:port`, for the access log.
    pub(crate) label: Arc<str>,
    /// Stands for the endpoint in cookies: the same in every process.
    pub(crate) tag: u64,
    pub(crate) state: Arc<EndpointState>,
}

impl AsRef<EndpointState> for Target {
    fn as_ref(&self) -> &EndpointState {
        &self.state
    }
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

pub(super) fn next_key() -> u64 {
    NEXT_KEY.fetch_add(1, Ordering::Relaxed)
}

impl Backend {
    fn new(id: &BackendId, names: &BackendNames, metrics: &Metrics) -> Self {
        let label = id.to_string();
        Self {
            key: next_key(),
            breaker: Arc::default(),
            adaptive: Arc::default(),
            trip: Trip::default(),
            freed: Notify::new(),
            budget: RetryBudget::default(),
            outlier: Outlier::default(),
            metrics: metrics.backend(&label),
            names: NameRule::new(names, &label),
            endpoints: ArcSwap::default(),
            hashes: AtomicBool::new(false),
            turn: AtomicU64::new(0),
        }
    }

    /// The endpoints that may be asked now.
    pub(crate) fn targets(&self) -> Arc<Targets> {
        self.endpoints.load_full()
    }

    /// How each of its endpoints is now.
    pub(crate) fn conditions(&self, now_ns: u64) -> Vec<(Arc<str>, EndpointCondition)> {
        self.targets().iter().map(|target| (Arc::clone(&target.label), target.condition(now_ns))).collect()
    }

    /// One of them was taken out for a time.
    #[cold]
    pub(super) fn ejected(&self, targets: &[Target], index: usize) {
        self.metrics.ejected();
        let Some(target) = targets.get(index) else { return };
        let ejected_for = target.state.health().ejected_for();
        info!(backend = self.metrics.label(), endpoint = %target.label, ?ejected_for, "endpoint ejected");
    }

    /// The next turn of the round robin.
    pub(super) fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on the endpoints can be chosen by hash. Called by the control thread alone, as all that changes them.
    pub(crate) fn prepare_hashing(&self) {
        if !self.hashes.swap(true, Ordering::Relaxed) {
            let old = self.endpoints.load();
            let (near_by, number) = ((old.lineup.local(), old.lineup.near()), old.lineup.number());
            self.endpoints.store(Arc::new(Targets::new(old.list.clone(), true, near_by, number)));
        }
    }

    /// Takes a new list; endpoints that stay keep their state and their pooled connections. Of the first list none counts
    /// as new: they may have been there long before.
    fn set_endpoints(&self, new: &BackendEndpoints, now_ns: u64) {
        let BackendEndpoints { endpoints: new, local, near } = new;
        let old = self.endpoints.load();
        let unchanged = old.lineup.local() == local
            && old.lineup.near() == near
            && old.len() == new.len()
            && old.iter().zip(new).all(|(target, endpoint)| target.endpoint == *endpoint);
        if unchanged {
            return;
        }
        let known: BTreeMap<&Endpoint, &Target> =
            old.iter().map(|target| (&target.endpoint, target)).collect();
        let since_ns = if old.is_empty() { 0 } else { now_ns.max(1) };
        let targets = new.iter().map(|endpoint| {
            let make = || Target::new(endpoint, self.names.clone(), since_ns);
            known.get(endpoint).map_or_else(make, |&target| target.clone())
        });
        let hashes = self.hashes.load(Ordering::Relaxed);
        let number = self.outlier.next_lineup();
        self.endpoints.store(Arc::new(Targets::new(targets.collect(), hashes, (local, near), number)));
    }
}

impl Target {
    /// The same under another port, if one is given.
    pub(super) fn with_port(&self, port: Option<u16>) -> Self {
        let Some(port) = port else { return self.clone() };
        let endpoint = Endpoint { host: Arc::clone(&self.endpoint.host), port };
        let address = self.address.map(|address| SocketAddr::new(address.ip(), port));
        Self { label: endpoint.to_string().into(), endpoint, address, ..self.clone() }
    }

    /// How it is now, for people and metrics.
    fn condition(&self, now_ns: u64) -> EndpointCondition {
        let health = self.state.health();
        match health.check() {
            CheckState::Fails { .. } => EndpointCondition::Failing,
            CheckState::Unknown | CheckState::Passes if health.is_ejected(now_ns) => {
                EndpointCondition::Ejected
            }
            CheckState::Unknown | CheckState::Passes if !health.is_trusted() => EndpointCondition::OnTrial,
            CheckState::Unknown | CheckState::Passes => EndpointCondition::Healthy,
        }
    }

    fn new(endpoint: &Endpoint, names: Option<Arc<NameRule>>, since_ns: u64) -> Self {
        let label = endpoint.to_string();
        Self {
            key: next_key(),
            tag: stable_hash(&[label.as_bytes()]),
            endpoint: endpoint.clone(),
            address: endpoint.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, endpoint.port)),
            names,
            label: label.into(),
            state: Arc::new(EndpointState::added(since_ns)),
        }
    }
}

/// All backends, by id. Belongs to the control thread.
#[derive(Debug)]
pub(crate) struct Backends {
    by_id: BTreeMap<BackendId, Arc<Backend>>,
    endpoints: Arc<EndpointMap>,
    names: BackendNames,
    /// The zero of the workers' clock.
    epoch: Instant,
}

impl Backends {
    pub(crate) fn new(names: BackendNames, epoch: Instant) -> Self {
        Self { by_id: BTreeMap::new(), endpoints: Arc::default(), names, epoch }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The backend of this id, made on first use with the endpoints known for it.
    pub(crate) fn get(&mut self, id: &BackendId, metrics: &Metrics) -> Arc<Backend> {
        let known = self.by_id.get(id).map(Arc::clone);
        let backend = known.unwrap_or_else(|| {
            let backend = Arc::new(Backend::new(id, &self.names, metrics));
            self.by_id.insert(id.clone(), Arc::clone(&backend));
            backend
        });
        // A known one may have missed changes while no route named it.
        if let Some(endpoints) = self.endpoints.backends.get(id) {
            backend.set_endpoints(endpoints, self.now_ns());
        }
        backend
    }

    /// The same, ready for this choice between its endpoints.
    pub(crate) fn get_for(
        &mut self,
        id: &BackendId,
        load_balancing: &LoadBalancing,
        metrics: &Metrics,
    ) -> Arc<Backend> {
        let backend = self.get(id, metrics);
        let is_balanced = |affinity: &Affinity| affinity.mode == AffinityMode::Balanced;
        if matches!(load_balancing.policy, BalancePolicy::ConsistentHash(_))
            || load_balancing.affinity.as_deref().is_some_and(is_balanced)
        {
            backend.prepare_hashing();
        }
        backend
    }

    /// Takes the new endpoints of all backends. Every backend that the newest configuration names stands in the map; one
    /// that does not keeps its endpoints, for the generation that is served may still name it.
    pub(crate) fn set_endpoints(&mut self, endpoints: Arc<EndpointMap>) {
        let now_ns = self.now_ns();
        for (id, backend) in &self.by_id {
            let (old, new) = (self.endpoints.backends.get(id), endpoints.backends.get(id));
            let unchanged = matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
            if let Some(new) = new.filter(|_| !unchanged) {
                backend.set_endpoints(new, now_ns);
            }
        }
        self.endpoints = endpoints;
    }

    /// Shows how the endpoints are now.
    pub(crate) fn sample(&self) {
        let now_ns = self.now_ns();
        for backend in self.by_id.values() {
            let mut counts = [0u64; EndpointCondition::ALL.len()];
            for target in backend.targets().iter() {
                if let Some(count) = counts.get_mut(target.condition(now_ns) as usize) {
                    *count += 1;
                }
            }
            backend.metrics.set_endpoints(counts);
            backend.metrics.set_breaker(match backend.trip.state(now_ns) {
                TripState::Closed => 0,
                TripState::HalfOpen => 1,
                TripState::Open => 2,
            });
        }
    }

    /// Forgets backends that no route holds any more.
    pub(crate) fn forget_unused(&mut self) {
        self.by_id.retain(|_, backend| Arc::strong_count(backend) > 1);
    }
}

#[cfg(test)]
mod tests {
    use ir::PassiveHealth;
    use traffic::{Choice, Outcome, Pick, TriedSet};

    use super::*;

    fn map(named: &[(&BackendId, &[u16])]) -> Arc<EndpointMap> {
        let endpoints = |ports: &[u16]| {
            let endpoints = ports.iter().map(|&port| Endpoint { host: "192.0.2.1".into(), port }).collect();
            Arc::new(BackendEndpoints { endpoints, local: Vec::new(), near: Vec::new() })
        };
        let backends = named.iter().map(|(id, ports)| ((*id).clone(), endpoints(ports))).collect();
        Arc::new(EndpointMap { backends })
    }

    #[test]
    fn a_backend_that_is_not_named_keeps_its_endpoints_until_it_is_named_again() {
        let (metrics, mut backends) = (Metrics::new(), Backends::new(BackendNames::Anywhere, Instant::now()));
        let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
        let ports = |backend: &Backend| -> Vec<u16> {
            backend.targets().iter().map(|target| target.endpoint.port).collect()
        };
        backends.set_endpoints(map(&[(&id, &[1, 2])]));
        let backend = backends.get(&id, &metrics);
        let kept = backend.targets().first().map(|target| target.key);
        backends.set_endpoints(map(&[]));
        assert_eq!(ports(&backend), [1, 2], "the served generation may still name it");
        backends.set_endpoints(map(&[(&id, &[1, 3])]));
        assert_eq!(ports(&backends.get(&id, &metrics)), [1, 3]);
        assert_eq!(backend.targets().first().map(|target| target.key), kept, "what stays keeps its pool");
        backends.set_endpoints(map(&[(&id, &[])]));
        assert!(ports(&backend).is_empty(), "named and without endpoints");
    }

    #[test]
    fn what_comes_to_a_list_is_new_and_a_first_list_is_not() {
        let (metrics, mut backends) = (Metrics::new(), Backends::new(BackendNames::Anywhere, Instant::now()));
        let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
        let new = |backend: &Backend| -> Vec<bool> {
            backend.targets().iter().map(|target| target.state.since_ns() > 0).collect()
        };
        backends.set_endpoints(map(&[(&id, &[1, 2])]));
        let backend = backends.get(&id, &metrics);
        assert_eq!(new(&backend), [false, false]);
        backends.set_endpoints(map(&[(&id, &[1, 2, 3])]));
        assert_eq!(new(&backend), [false, false, true]);
        backends.set_endpoints(map(&[(&id, &[])]));
        backends.set_endpoints(map(&[(&id, &[3])]));
        assert_eq!(new(&backend), [false], "there is nobody to spare it");
    }

    #[test]
    fn who_still_has_an_old_list_does_not_say_that_all_are_well() {
        let (metrics, mut backends) = (Metrics::new(), Backends::new(BackendNames::Anywhere, Instant::now()));
        let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
        backends.set_endpoints(map(&[(&id, &[1, 2])]));
        let backend = backends.get(&id, &metrics);
        let old = backend.targets();
        backends.set_endpoints(map(&[(&id, &[1, 2, 3])]));
        backend.prepare_hashing();
        let new = backend.targets();
        let once = PassiveHealth { consecutive_5xx: 1, ..PassiveHealth::default() };
        assert!(backend.outlier.on_result(&new, 2, (1, Outcome::ServerError), &once));
        let after = |targets: &Targets, now_ns| {
            let pick = Pick {
                choice: Choice::Random,
                random: 7,
                now_ns,
                tried: &TriedSet::default(),
                outlier: &backend.outlier,
                lineup: &targets.lineup,
                slow_start_ns: 0,
                prefers_local: false,
                panic_percent: 0,
            };
            traffic::pick(targets, &pick).unwrap();
            backend.outlier.is_calm()
        };
        assert!(!after(&old, 2) && !after(&new, 2), "one is out");
        let back = new[2].state.health().ejection_end_ns();
        assert!(!backend.outlier.on_result(&new, 2, (back, Outcome::Success), &once));
        assert!(!after(&old, back) && after(&new, back), "it is back");
    }

    #[test]
    fn a_ring_is_made_where_it_is_asked_for_and_again_with_each_list() {
        let (metrics, mut backends) = (Metrics::new(), Backends::new(BackendNames::Anywhere, Instant::now()));
        let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
        backends.set_endpoints(map(&[(&id, &[1, 2])]));
        let backend = backends.get(&id, &metrics);
        assert!(backend.targets().lineup.ring().is_none());
        backend.prepare_hashing();
        assert!(backend.targets().lineup.ring().is_some());
        backends.set_endpoints(map(&[(&id, &[1, 2, 3])]));
        assert!(backend.targets().lineup.ring().is_some());
    }
}
