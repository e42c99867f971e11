//! The two ways from a snapshot: routes and endpoints. Keeps what it made per object and makes anew only what depends
//! on something that changed. Must never fail: what is wrong stands in the report.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{AuthPolicy, GatewayRoute, RateLimitPolicy};
use ir::{Certificate, Config, EndpointMap, ObjectRef, Tls};
use k8s_openapi::api::networking::v1::Ingress;

use crate::Settings;
use crate::attach::PolicyIndex;
use crate::certificate::Certificates;
use crate::class::Classes;
use crate::endpoint_map::Endpoints;
use crate::passthrough::{self, Lost, PassedHosts, PassthroughClaim};
use crate::policy_memo::{
    AUTH_POLICY, PolicyMemo, RATE_LIMIT_POLICY, RefusedMemo, collect_policies, collect_refused,
    index_policies, index_refused, refresh_policies, refused_policies,
};
use crate::reader::{Dependency, ReadStamps, Reader};
use crate::report::{Report, ReportLine};
use crate::route_memo::{
    Collected, GATEWAY_ROUTE, INGRESS, RouteMemo, Scope, collect_routes, refresh_routes,
};
use crate::snapshot::{ByName, Snapshot};
use crate::standing::{Standing, lessened};
use crate::tls::{self, TlsClaim};

/// What the routes' half of translation gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Its generation is 0: the caller counts.
    pub config: Config,
    pub report: Report,
    /// How each Ingress, GatewayRoute and policy of ours stands. One that did not change keeps its `Arc`. A policy is
    /// ours unless all that it targets is another's.
    pub standings: BTreeMap<ObjectRef, Arc<Standing>>,
}

/// Translation with a memory. The result never depends on the memory: only the time and the identity of the `Arc`s
/// in it do.
#[derive(Debug, Default)]
pub struct Translator {
    basis: Option<Basis>,
    stamps: Option<ReadStamps>,
    rate_limit_policies: ByName<PolicyMemo<RateLimitPolicy>>,
    auth_policies: ByName<PolicyMemo<AuthPolicy>>,
    refused: Vec<RefusedMemo>,
    ingresses: ByName<RouteMemo<Ingress>>,
    gateway_routes: ByName<RouteMemo<GatewayRoute>>,
    certificates: Certificates,
    tls: MergedTls,
    endpoints: Endpoints,
}

/// What was made of all claims last.
#[derive(Debug, Default)]
struct MergedTls {
    claims: Vec<Arc<TlsClaim>>,
    passthrough_claims: Vec<Arc<PassthroughClaim>>,
    default: Option<Arc<Certificate>>,
    tls: Arc<Tls>,
    passthrough: Arc<PassedHosts>,
    findings: Vec<ReportLine>,
    lost: Vec<Lost>,
    /// Standings of which something was lost: as they were, and as they are.
    lessened: BTreeMap<ObjectRef, (Arc<Standing>, Arc<Standing>)>,
}

/// Translates with no memory.
pub fn translate(snapshot: &Snapshot, settings: &Settings) -> Translation {
    Translator::default().translate_routes(snapshot, settings)
}

/// What every route depends on; a change makes all of them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    pub(crate) settings: Settings,
    pub(crate) classes: Classes,
}

/// What is the same for all objects of one call.
pub(crate) struct Pass<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) basis: &'a Basis,
    certificates: &'a Certificates,
    /// Nothing that a [`Reader`] can see has changed since the last call.
    readable_unchanged: bool,
}

impl Translator {
    /// Routes and findings of everything in the snapshot that is ours. Routes that did not change keep their `Arc`.
    pub fn translate_routes(&mut self, snapshot: &Snapshot, settings: &Settings) -> Translation {
        let basis = Basis { settings: settings.clone(), classes: Classes::read(snapshot, settings) };
        let stamps = ReadStamps::of(snapshot);
        if self.basis.as_ref() != Some(&basis) {
            self.rate_limit_policies = ByName::default();
            self.auth_policies = ByName::default();
            self.ingresses = ByName::default();
            self.gateway_routes = ByName::default();
        }
        let readable_unchanged = self.stamps.as_ref().is_some_and(|last| last.same_as(&stamps));
        let mut certificates = std::mem::take(&mut self.certificates);
        certificates.refresh(snapshot);
        let pass = Pass { snapshot, basis: &basis, certificates: &certificates, readable_unchanged };
        self.refresh(&pass);
        let translation = self.collect(settings, &certificates);
        self.certificates = certificates;
        self.basis = Some(basis);
        self.stamps = Some(stamps);
        translation
    }

    /// The endpoints of every backend that the config names. Backends whose endpoints did not change keep their `Arc`.
    pub fn translate_endpoints(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        config: &Config,
    ) -> EndpointMap {
        self.endpoints.translate(snapshot, settings, config)
    }

    /// What the last [`Self::translate_endpoints`] found about EndpointSlices. It is no part of a [`Translation`],
    /// because a pod that comes or goes makes no route anew.
    pub fn endpoint_report(&self) -> Report {
        self.endpoints.report()
    }

    /// Policies first: they are part of the routes.
    fn refresh(&mut self, pass: &Pass<'_>) {
        let snapshot = pass.snapshot;
        let limits = &mut self.rate_limit_policies;
        refresh_policies(&RATE_LIMIT_POLICY, limits, &snapshot.rate_limit_policies, pass);
        refresh_policies(&AUTH_POLICY, &mut self.auth_policies, &snapshot.auth_policies, pass);
        self.refused = refused_policies(pass, &self.refused);
        let mut index = PolicyIndex::default();
        index_policies(&self.rate_limit_policies, &mut index);
        index_policies(&self.auth_policies, &mut index);
        index_refused(&self.refused, &mut index);
        let scope = Scope { pass, index: &index };
        refresh_routes(&INGRESS, &mut self.ingresses, &snapshot.ingresses, &scope);
        refresh_routes(&GATEWAY_ROUTE, &mut self.gateway_routes, &snapshot.gateway_routes, &scope);
    }

    fn collect(&mut self, settings: &Settings, certificates: &Certificates) -> Translation {
        let mut all = Collected::default();
        collect_routes(&INGRESS, &self.ingresses, &mut all);
        collect_routes(&GATEWAY_ROUTE, &self.gateway_routes, &mut all);
        let Collected { routes, tls, passthrough, mut lines, mut standings } = all;
        self.tls.merge((tls, passthrough), settings, certificates);
        lines.extend_from_slice(&self.tls.findings);
        self.tls.lessen(&mut standings);
        collect_policies(&self.rate_limit_policies, &mut lines, &mut standings);
        collect_policies(&self.auth_policies, &mut lines, &mut standings);
        collect_refused(&self.refused, &mut lines, &mut standings);
        Translation {
            config: Config {
                generation: 0,
                routes: routes.into_iter().collect(),
                tls: Arc::clone(&self.tls.tls),
                passthrough: Arc::clone(&self.tls.passthrough),
            },
            report: Report::from_lines(lines),
            standings: standings.into_iter().collect(),
        }
    }
}

impl MergedTls {
    /// Does nothing where all claims are those of the last time.
    fn merge(
        &mut self,
        (claims, passthrough_claims): (Vec<Arc<TlsClaim>>, Vec<Arc<PassthroughClaim>>),
        settings: &Settings,
        certificates: &Certificates,
    ) {
        let secret = settings.default_tls_secret();
        let named = secret.as_ref();
        let default = named.and_then(|secret| certificates.get(&secret.namespace, &secret.name)).cloned();
        let same = default == self.default
            && same_claims(&claims, &self.claims)
            && same_claims(&passthrough_claims, &self.passthrough_claims);
        if same && (secret.is_none() || default.is_some()) {
            return;
        }
        let (mut tls, mut findings) = tls::merge(&claims, default.clone());
        let (passthrough, lost) = passthrough::merge(&passthrough_claims, &claims, &mut tls);
        findings.extend(lost.iter().map(|lost| lost.line.clone()));
        if let (Some(secret), None) = (&secret, &default) {
            findings.extend(tls::missing_default(secret));
        }
        if *self.tls != tls {
            self.tls = Arc::new(tls);
        }
        if *self.passthrough != passthrough {
            self.passthrough = Arc::new(passthrough);
        }
        (self.claims, self.passthrough_claims) = (claims, passthrough_claims);
        (self.default, self.findings, self.lost) = (default, findings, lost);
        self.lessened.clear();
    }
}

impl MergedTls {
    /// Takes from the objects' standings what they lost to older ones. Those that did so before keep their `Arc`.
    fn lessen(&mut self, standings: &mut [(ObjectRef, Arc<Standing>)]) {
        if self.lost.is_empty() {
            return;
        }
        for (id, standing) in standings {
            let mut lost = self.lost.iter().filter(|lost| lost.line.object == *id).peekable();
            if lost.peek().is_none() {
                continue;
            }
            let known = self.lessened.get(id).filter(|(before, _)| before == standing);
            let after = match known {
                Some((_, after)) => Arc::clone(after),
                None => Arc::new(lost.fold(Standing::clone(standing), |standing, lost| {
                    lessened(&standing, &lost.line, lost.whole)
                })),
            };
            self.lessened.insert(id.clone(), (Arc::clone(standing), Arc::clone(&after)));
            *standing = after;
        }
    }
}

impl Pass<'_> {
    pub(crate) fn holds(&self, dependencies: &[Dependency]) -> bool {
        self.readable_unchanged || dependencies.iter().all(|dependency| dependency.holds(self.snapshot))
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(self.snapshot, &self.basis.settings, self.certificates)
    }
}

fn same_claims<T>(now: &[Arc<T>], last: &[Arc<T>]) -> bool {
    now.len() == last.len() && now.iter().zip(last).all(|(now, last)| Arc::ptr_eq(now, last))
}

/// Every object has a memo now, so where there are more memos some are of objects that are gone.
pub(crate) fn forget_deleted<T, M>(memos: &mut ByName<M>, objects: &ByName<Arc<T>>) {
    if memos.len() > objects.len() {
        memos.retain(|namespace, name, _| objects.get(namespace, name).is_some());
    }
}
