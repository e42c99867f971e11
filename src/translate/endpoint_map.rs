//! The endpoints of all backends that routes name, kept from one call to the next. Must not make a backend anew whose
//! Service and slices are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ir::{Action, BackendEndpoints, BackendId, BackendTarget, Config, EndpointMap, Route};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::endpoint::Found;
use crate::passthrough::PassedHosts;
use crate::reader::same;
use crate::report::{Report, ReportLine};
use crate::{Settings, Snapshot, endpoint};

/// The memory of the endpoints' half of translation.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// What all were made with.
    settings: Option<Settings>,
    /// The routes of the last config.
    routes: Vec<Arc<Route>>,
    passthrough: Arc<PassedHosts>,
    backends: BTreeMap<BackendId, EndpointMemo>,
}

/// What one backend's endpoints were made of.
#[derive(Debug, Default)]
struct EndpointMemo {
    sources: Option<Sources>,
    endpoints: Arc<BackendEndpoints>,
    lines: Vec<ReportLine>,
}

#[derive(Debug)]
struct Sources {
    service: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Endpoints {
    pub(crate) fn translate(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        config: &Config,
    ) -> EndpointMap {
        if self.settings.as_ref() != Some(settings) {
            *self = Self { settings: Some(settings.clone()), ..Self::default() };
        }
        self.take_backends(config);
        for (id, memo) in &mut self.backends {
            memo.refresh(id, snapshot, settings);
        }
        let backends = self.backends.iter().map(|(id, memo)| (id.clone(), Arc::clone(&memo.endpoints)));
        EndpointMap { backends: backends.collect() }
    }

    /// What was found about the slices of all backends.
    pub(crate) fn report(&self) -> Report {
        // Two ports of one Service find the same.
        Report::from_lines(self.backends.values().flat_map(|memo| &memo.lines).cloned().collect())
    }

    /// Forgets the backends that no route names any more and adds new ones.
    fn take_backends(&mut self, config: &Config) {
        let unchanged = Arc::ptr_eq(&self.passthrough, &config.passthrough)
            && self.routes.len() == config.routes.len()
            && self.routes.iter().zip(config.routes.values()).all(|(left, right)| Arc::ptr_eq(left, right));
        if unchanged {
            return;
        }
        self.routes = config.routes.values().map(Arc::clone).collect();
        self.passthrough = Arc::clone(&config.passthrough);
        let mut named: BTreeSet<&BackendId> =
            self.routes.iter().flat_map(|route| named_backends(route)).collect();
        let passed = self.passthrough.values().flat_map(|passthrough| &passthrough.backends);
        named.extend(passed.filter_map(|backend| found(&backend.target)));
        self.backends.retain(|id, _| named.contains(id));
        for id in named {
            if !self.backends.contains_key(id) {
                self.backends.insert(id.clone(), EndpointMemo::default());
            }
        }
    }
}

impl EndpointMemo {
    fn refresh(&mut self, id: &BackendId, snapshot: &Snapshot, settings: &Settings) {
        let (namespace, name, port) = match id {
            BackendId::Service { namespace, name, port } => (namespace, name, *port),
            BackendId::Address { .. } => {
                if self.endpoints.endpoints.is_empty() {
                    self.endpoints = Arc::new(endpoint::address_endpoints(id));
                }
                return;
            }
        };
        let service = snapshot.services.get(namespace, name);
        let unchanged = self.sources.as_ref().is_some_and(|sources| {
            same(sources.service.as_ref(), service)
                && sources
                    .slices
                    .iter()
                    .map(Arc::as_ptr)
                    .eq(snapshot.slices_of(namespace, name).map(Arc::as_ptr))
        });
        if unchanged {
            return;
        }
        let slices: Vec<_> = snapshot.slices_of(namespace, name).map(Arc::clone).collect();
        let found = match service {
            Some(service) => endpoint::service_endpoints(service, port, slices.iter(), settings),
            None => Found::default(),
        };
        if *self.endpoints != found.endpoints {
            self.endpoints = Arc::new(found.endpoints);
        }
        self.lines = found.lines;
        self.sources = Some(Sources { service: service.cloned(), slices });
    }
}

fn named_backends(route: &Route) -> impl Iterator<Item = &BackendId> {
    let backends = match &route.action {
        Action::Forward { backends, .. } => backends.as_slice(),
        Action::Redirect(_) | Action::Respond(_) | Action::Fail(_) => &[],
    };
    let beside = route.extras.iter().flat_map(|extras| extras.targets());
    let asked = route.auth.iter().filter_map(|auth| auth.external.as_ref());
    backends
        .iter()
        .map(|backend| &backend.target)
        .chain(beside)
        .filter_map(found)
        .chain(asked.map(|external| &external.backend))
}

fn found(target: &BackendTarget) -> Option<&BackendId> {
    match target {
        BackendTarget::Backend(id) => Some(id),
        BackendTarget::Missing(_) => None,
    }
}
