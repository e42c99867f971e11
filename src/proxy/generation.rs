//! One generation: everything that requests see, immutable, behind one pointer. Built beside the path of requests from
//! the one before it, so that what did not change is shared.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use ir::{Action, BackendTarget, Config, EndpointMap, JwtProvider, RouteId};
use table::{CompiledRoute, RouteSlot, Table};
use traffic::FingerprintSeed;

use crate::filter::affinity::AffinityStage;
use crate::filter::auth::{AuthStage, External, RemoteKeySet, Verifiers};
use crate::filter::extras::ExtrasStage;
use crate::filter::limit::{LimitRow, LimitStores, RouteLimits};
use crate::observe::{EndpointCondition, Metrics, RouteMetrics};
use crate::passthrough::Passthroughs;
use crate::random;
use crate::settings::BackendNames;
use crate::tls::{TlsBuilder, TlsRuntime};
use crate::upstream::{Backend, Backends, Check, Protocol, Protocols};

/// What requests see.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) config: Arc<Config>,
    pub(crate) table: Table,
    pub(crate) tls: Arc<TlsRuntime>,
    pub(crate) passthroughs: Arc<Passthroughs>,
    /// By slot.
    runtimes: Vec<Option<Arc<RouteRuntime>>>,
}

/// A worker's own handle of the generation: requests clone an `Rc` around it, which no other thread counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerGeneration(Arc<Generation>);

impl WorkerGeneration {
    pub(crate) fn new(generation: Arc<Generation>) -> Self {
        Self(generation)
    }
}

impl Deref for WorkerGeneration {
    type Target = Generation;

    fn deref(&self) -> &Generation {
        &self.0
    }
}

/// A route with all that is shared between its requests.
#[derive(Debug)]
pub(crate) struct RouteRuntime {
    pub(crate) compiled: Arc<CompiledRoute>,
    pub(crate) label: Arc<str>,
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) auth: AuthStage,
    pub(crate) limits: RouteLimits,
    /// `None`: the route has no sessions.
    pub(crate) affinity: Option<AffinityStage>,
    /// Those that `auth` asks, each with the place of its demand.
    auth_services: Box<[(usize, RouteBackend)]>,
    /// Only where the route forwards and has some.
    pub(crate) extras: Option<Box<ExtrasStage>>,
    /// In the order of the rule's backends; `None`: its share is answered 500.
    pub(crate) backends: Vec<Option<RouteBackend>>,
}

/// A backend and how the route speaks to it.
#[derive(Debug)]
pub(crate) struct RouteBackend {
    pub(crate) backend: Arc<Backend>,
    pub(crate) protocol: Arc<Protocol>,
}

impl RouteRuntime {
    /// Whether some of its answers may be replaced by a page.
    pub(crate) fn has_pages(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| !extras.pages.is_empty())
    }

    /// The service that this demand asks.
    pub(crate) fn auth_service(&self, demand: usize) -> Option<&RouteBackend> {
        self.auth_services.iter().find(|(of, _)| *of == demand).map(|(_, service)| service)
    }
}

impl Generation {
    /// How the endpoints of each backend are to be checked. Where rules want it differently, the first by namespace, name
    /// and rule has the word, whatever its kind.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let asking =
            self.runtimes.iter().flatten().filter_map(|runtime| match &runtime.compiled.route.action {
                Action::Forward { active_health, .. } => Some((runtime, active_health.as_ref()?)),
                Action::Redirect(_) | Action::Respond(_) | Action::Fail(_) => None,
            });
        let mut asking: Vec<_> = asking.collect();
        asking.sort_by_cached_key(|(runtime, _)| {
            let RouteId { object, rule } = runtime.compiled.route.id.clone();
            (object.namespace, object.name, rule, object.kind)
        });
        let mut by_backend: BTreeMap<u64, Check> = BTreeMap::new();
        for (runtime, config) in asking {
            for RouteBackend { backend, protocol } in runtime.backends.iter().flatten() {
                let known = by_backend.entry(backend.key).or_insert_with(|| Check {
                    backend: Arc::downgrade(backend),
                    protocol: Arc::clone(protocol),
                    config: Arc::clone(config),
                });
                if known.config != *config || !Arc::ptr_eq(&known.protocol, protocol) {
                    let (route, backend) = (&runtime.label, backend.metrics.label());
                    tracing::warn!(%route, backend, "another rule checks the backend in another way, and has the word");
                }
            }
        }
        by_backend.into_values().collect()
    }

    /// How endpoints are that are not simply healthy, by backend.
    pub(crate) fn endpoint_health(&self, now_ns: u64) -> BTreeMap<String, BTreeMap<Arc<str>, &'static str>> {
        let mut unwell = BTreeMap::new();
        for RouteBackend { backend, .. } in
            self.runtimes.iter().flatten().flat_map(|route| route.backends.iter().flatten())
        {
            let conditions = backend.conditions(now_ns).into_iter();
            let others = conditions.filter(|(_, condition)| *condition != EndpointCondition::Healthy);
            let others: BTreeMap<_, _> =
                others.map(|(endpoint, condition)| (endpoint, condition.as_str())).collect();
            if !others.is_empty() {
                unwell.insert(backend.metrics.label().to_owned(), others);
            }
        }
        unwell
    }

    /// The route of a slot that this generation's table gave.
    pub(crate) fn runtime(&self, slot: RouteSlot) -> Option<&Arc<RouteRuntime>> {
        self.runtimes.get(slot.index())?.as_ref()
    }

    /// What the limits of all routes did.
    pub(crate) fn limit_rows(&self) -> Vec<LimitRow> {
        let mut rows = Vec::new();
        for runtime in self.runtimes.iter().flatten() {
            runtime.limits.add_rows(&runtime.label, &mut rows);
        }
        rows
    }
}

/// Builds generations. Belongs to the control thread.
#[derive(Debug)]
pub(crate) struct Builder {
    metrics: Arc<Metrics>,
    backends: Backends,
    protocols: Protocols,
    verifiers: Verifiers,
    limits: LimitStores,
    tls: TlsBuilder,
    last: Option<Arc<Generation>>,
}

impl Builder {
    /// `epoch` is the zero of the workers' clock.
    pub(crate) fn new(metrics: Arc<Metrics>, names: BackendNames, epoch: Instant) -> Self {
        let seed = FingerprintSeed::new([random::seed(), random::seed()]);
        Self {
            backends: Backends::new(names, epoch),
            protocols: Protocols::default(),
            verifiers: Verifiers::new(Arc::clone(&metrics.passwords)),
            metrics,
            limits: LimitStores::new(seed),
            tls: TlsBuilder::default(),
            last: None,
        }
    }

    /// Shows how endpoints are now.
    pub(crate) fn sample(&self) {
        self.backends.sample();
    }

    /// Live at once, for all generations: a pod change builds nothing.
    pub(crate) fn set_endpoints(&mut self, endpoints: Arc<EndpointMap>) {
        self.backends.set_endpoints(endpoints);
    }

    pub(crate) fn build(&mut self, config: Arc<Config>) -> Arc<Generation> {
        let last = self.last.take();
        let (table, problems) = Table::compile(last.as_ref().map(|last| &last.table), &config);
        for problem in problems {
            tracing::error!(route = %problem.route, message = problem.message, "route can't be compiled; it answers 500");
        }
        let mut runtimes = Vec::new();
        runtimes.resize_with(table.slots_end(), || None);
        for compiled in table.compiled_routes() {
            let known = last.as_ref().and_then(|last| last.runtime(compiled.slot()));
            let runtime = match known {
                Some(known) if Arc::ptr_eq(&known.compiled, compiled) => Arc::clone(known),
                Some(_) | None => Arc::new(self.runtime(compiled)),
            };
            if let Some(slot) = runtimes.get_mut(compiled.slot().index()) {
                *slot = Some(runtime);
            }
        }
        let tls = self.tls.build(&config.tls);
        let known = last.as_ref().map(|last| &last.passthroughs);
        let passthroughs = Passthroughs::build(&config, known, &mut self.backends, &self.metrics);
        let generation = Arc::new(Generation { config, table, tls, passthroughs, runtimes });
        self.last = Some(Arc::clone(&generation));
        generation
    }

    /// Called when the workers have let go of the generations before the last one.
    pub(crate) fn forget_unused(&mut self) {
        self.backends.forget_unused();
        self.protocols.forget_unused();
        self.limits.forget_unused();
        self.verifiers.retain_used();
    }

    /// The providers whose keys are fetched, of the last generation and of those before it that are still served.
    pub(crate) fn remote_keys(&self) -> impl Iterator<Item = (&Arc<JwtProvider>, &Arc<RemoteKeySet>)> {
        self.verifiers.remote()
    }

    fn runtime(&mut self, compiled: &Arc<CompiledRoute>) -> RouteRuntime {
        let route = &compiled.route;
        let backends = match &route.action {
            Action::Forward { backends, load_balancing, .. } => backends
                .iter()
                .map(|backend| match &backend.target {
                    BackendTarget::Backend(id) => Some(RouteBackend {
                        backend: self.backends.get_for(id, load_balancing, &self.metrics),
                        protocol: self.protocols.get(id, &backend.protocol),
                    }),
                    BackendTarget::Missing(_) => None,
                })
                .collect(),
            Action::Redirect(_) | Action::Respond(_) | Action::Fail(_) => Vec::new(),
        };
        let affinity = match &route.action {
            Action::Forward { backends, load_balancing, .. } => {
                let affinity = load_balancing.affinity.as_deref();
                affinity.and_then(|affinity| AffinityStage::new(affinity, backends))
            }
            Action::Redirect(_) | Action::Respond(_) | Action::Fail(_) => None,
        };
        let extras = match (&route.action, &route.extras) {
            (Action::Forward { .. }, Some(extras)) => Some(self.extras(extras, compiled.label())),
            _ => None,
        };
        let auth = AuthStage::new(&route.auth, &mut self.verifiers).hiding(&route.identity_headers);
        let services = auth.services().map(|(demand, External { spec, .. })| {
            let backend = self.backends.get(&spec.backend, &self.metrics);
            (demand, RouteBackend { backend, protocol: self.protocols.get(&spec.backend, &spec.protocol) })
        });
        let auth_services = services.collect();
        RouteRuntime {
            affinity,
            auth_services,
            extras,
            compiled: Arc::clone(compiled),
            label: Arc::clone(compiled.label()),
            metrics: self.metrics.route(compiled.label()),
            auth,
            limits: self.limits.route_limits(route, &self.metrics),
            backends,
        }
    }

    fn extras(&mut self, extras: &ir::RouteExtras, label: &str) -> Box<ExtrasStage> {
        let metrics = self.metrics.extras(label);
        Box::new(ExtrasStage::new(extras, metrics, |id, side| RouteBackend {
            backend: self.backends.get(id, &self.metrics),
            protocol: self.protocols.get(id, &side.protocol),
        }))
    }
}
