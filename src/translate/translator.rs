//! The two ways from a snapshot: routes and endpoints. Keeps what it made per object and makes anew only what depends
//! on something that changed. Must never fail: what is wrong stands in the report.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{AuthPolicy, GatewayRoute, RateLimitPolicy};
use ir::{Config, EndpointMap, FailReason, Kind, ObjectRef, Route};
use k8s_openapi::api::networking::v1::Ingress;

use crate::attach::{Attached, Effect, PolicyIndex, Target, same_attached};
use crate::class::{ClassVerdict, Classes};
use crate::endpoint_map::Endpoints;
use crate::reader::{Dependency, ReadStamps, Reader};
use crate::report::{Field, Lines, Report, ReportLine};
use crate::snapshot::{ByName, Snapshot};
use crate::standing::Standing;
use crate::{Settings, auth, gateway_route, ingress, limit};

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
    ingresses: ByName<RouteMemo<Ingress>>,
    gateway_routes: ByName<RouteMemo<GatewayRoute>>,
    endpoints: Endpoints,
}

/// Translates with no memory.
pub fn translate(snapshot: &Snapshot, settings: &Settings) -> Translation {
    Translator::default().translate_routes(snapshot, settings)
}

/// What every route depends on; a change makes all of them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    settings: Settings,
    classes: Classes,
}

/// What one policy became.
#[derive(Debug)]
struct PolicyMemo<T> {
    object: Arc<T>,
    dependencies: Vec<Dependency>,
    id: ObjectRef,
    targets: Vec<Target>,
    effect: Effect,
    lines: Vec<ReportLine>,
}

/// What one Ingress or GatewayRoute became.
#[derive(Debug)]
struct RouteMemo<T> {
    object: Arc<T>,
    dependencies: Vec<Dependency>,
    attached: Vec<Attached>,
    routes: Vec<Arc<Route>>,
    lines: Vec<ReportLine>,
}

/// How a kind of policy is translated.
struct PolicyKind<T> {
    kind: Kind,
    targets: fn(&T) -> Vec<Target>,
    effect: fn(&T, &mut Reader<'_>, &mut Lines) -> Effect,
}

/// How a kind of routing object is translated.
struct RouteKind<T> {
    kind: Kind,
    class_of: fn(&T) -> Option<&str>,
    annotations: fn(&T) -> Option<&BTreeMap<String, String>>,
    routes: fn(&T, &[Attached], &mut Reader<'_>, &mut Lines) -> Vec<Route>,
}

/// What is the same for all objects of one call.
struct Pass<'a> {
    snapshot: &'a Snapshot,
    basis: &'a Basis,
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
        let pass = Pass { snapshot, basis: &basis, readable_unchanged };
        let mut lines = Vec::new();

        refresh_policies(
            &RATE_LIMIT_POLICY,
            &mut self.rate_limit_policies,
            &snapshot.rate_limit_policies,
            &pass,
        );
        refresh_policies(&AUTH_POLICY, &mut self.auth_policies, &snapshot.auth_policies, &pass);
        let refused = refused_policies(snapshot, &mut lines);
        let mut index = PolicyIndex::default();
        index_policies(&self.rate_limit_policies, snapshot, &mut index, &mut lines);
        index_policies(&self.auth_policies, snapshot, &mut index, &mut lines);
        for (id, targets, effect) in &refused {
            index.add(id, targets, effect);
        }

        let scope = Scope { pass: &pass, index: &index };
        refresh_routes(&INGRESS, &mut self.ingresses, &snapshot.ingresses, &scope, &mut lines);
        refresh_routes(
            &GATEWAY_ROUTE,
            &mut self.gateway_routes,
            &snapshot.gateway_routes,
            &scope,
            &mut lines,
        );

        let mut routes = Vec::new();
        collect(&self.ingresses, &mut routes, &mut lines);
        collect(&self.gateway_routes, &mut routes, &mut lines);
        let config = Config { generation: 0, routes: routes.into_iter().collect() };
        self.basis = Some(basis);
        self.stamps = Some(stamps);
        Translation { config, report: Report::from_lines(lines), standings: BTreeMap::new() }
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
}

const RATE_LIMIT_POLICY: PolicyKind<RateLimitPolicy> =
    PolicyKind { kind: Kind::RateLimitPolicy, targets: limit::targets, effect: limit::effect };

const AUTH_POLICY: PolicyKind<AuthPolicy> =
    PolicyKind { kind: Kind::AuthPolicy, targets: auth::targets, effect: auth::effect };

const INGRESS: RouteKind<Ingress> = RouteKind {
    kind: Kind::Ingress,
    class_of: ingress::class_of,
    annotations: |object| object.metadata.annotations.as_ref(),
    routes: ingress::ingress_routes,
};

const GATEWAY_ROUTE: RouteKind<GatewayRoute> = RouteKind {
    kind: Kind::GatewayRoute,
    class_of: gateway_route::class_of,
    annotations: |_| None,
    routes: gateway_route::gateway_routes,
};

/// A pass that knows its policies.
struct Scope<'a> {
    pass: &'a Pass<'a>,
    index: &'a PolicyIndex<'a>,
}

impl Pass<'_> {
    fn holds(&self, dependencies: &[Dependency]) -> bool {
        self.readable_unchanged || dependencies.iter().all(|dependency| dependency.holds(self.snapshot))
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.snapshot, &self.basis.settings)
    }
}

fn refresh_policies<T>(
    kind: &PolicyKind<T>,
    memos: &mut ByName<PolicyMemo<T>>,
    objects: &ByName<Arc<T>>,
    pass: &Pass<'_>,
) {
    let mut made = Vec::new();
    for (namespace, name, object, old) in objects.iter_with(memos) {
        if old.is_some_and(|memo| Arc::ptr_eq(&memo.object, object) && pass.holds(&memo.dependencies)) {
            continue;
        }
        let id = ObjectRef::new(kind.kind, Arc::clone(namespace), Arc::clone(name));
        let mut reader = pass.reader();
        let mut lines = Lines::new(id.clone());
        let mut effect = (kind.effect)(object, &mut reader, &mut lines);
        if let Some(old) = old {
            effect = effect.or_equal(&old.effect);
        }
        let memo = PolicyMemo {
            object: Arc::clone(object),
            dependencies: reader.into_dependencies(),
            id: id.clone(),
            targets: (kind.targets)(object),
            effect,
            lines: lines.into_vec(),
        };
        made.push((id, memo));
    }
    for (id, memo) in made {
        memos.insert(&id, memo);
    }
    forget_deleted(memos, objects);
}

fn refused_policies(
    snapshot: &Snapshot,
    lines: &mut Vec<ReportLine>,
) -> Vec<(ObjectRef, Vec<Target>, Effect)> {
    let mut refused = Vec::new();
    for (id, policy) in &snapshot.refused {
        let reason = match id.kind {
            Kind::RateLimitPolicy => FailReason::InvalidLimit,
            Kind::AuthPolicy => FailReason::InvalidAuth,
            Kind::Ingress
            | Kind::IngressClass
            | Kind::GatewayRoute
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::ReferenceGrant => continue,
        };
        let targets: Vec<Target> = policy
            .targets
            .iter()
            .map(|target| Target {
                kind: Some(target.kind),
                name: target.name.clone(),
                section: target.section.as_deref().map(Arc::from),
            })
            .collect();
        let mut found = Lines::new(id.clone());
        let message = "the policy was refused and has no earlier good version: what it targets answers 500";
        found.error(Field::root("spec"), message, "correct the policy");
        lines.append(&mut found.into_vec());
        refused.push((id.clone(), targets, Effect::Fail(reason)));
    }
    refused
}

fn index_policies<'a, T>(
    memos: &'a ByName<PolicyMemo<T>>,
    snapshot: &Snapshot,
    index: &mut PolicyIndex<'a>,
    lines: &mut Vec<ReportLine>,
) {
    for (_, _, memo) in memos.iter() {
        index.add(&memo.id, &memo.targets, &memo.effect);
        lines.extend_from_slice(&memo.lines);
        check_targets(&memo.id, &memo.targets, snapshot, lines);
    }
}

/// Targets that are not there are no error: they may come later. A rule that an object has not is one, for the rule that
/// was meant is served without the policy.
fn check_targets(id: &ObjectRef, targets: &[Target], snapshot: &Snapshot, lines: &mut Vec<ReportLine>) {
    let mut found = Lines::new(id.clone());
    let root = Field::root("spec");
    let root = root.key("targetRefs");
    for (index, target) in targets.iter().enumerate() {
        let field = root.index(index);
        let (kind, has_section) = match target.kind {
            Some(Kind::Ingress) => {
                let object = snapshot.ingresses.get(&id.namespace, &target.name);
                (
                    "Ingress",
                    object.map(|object| has_section(target, |section| ingress::has_rule(object, section))),
                )
            }
            Some(Kind::GatewayRoute) => {
                let object = snapshot.gateway_routes.get(&id.namespace, &target.name);
                let has = |object: &Arc<GatewayRoute>| {
                    has_section(target, |section| gateway_route::has_rule(object, section))
                };
                ("GatewayRoute", object.map(has))
            }
            Some(
                Kind::IngressClass
                | Kind::RateLimitPolicy
                | Kind::AuthPolicy
                | Kind::Service
                | Kind::EndpointSlice
                | Kind::Secret
                | Kind::ConfigMap
                | Kind::ReferenceGrant,
            )
            | None => {
                let message = "a policy cannot be attached to this kind";
                found.error(field.key("kind"), message, "target an Ingress or a GatewayRoute");
                continue;
            }
        };
        match has_section {
            Some(true) => {}
            Some(false) => {
                let section = target.section.as_deref().unwrap_or_default();
                let message = format!(
                    "the {kind} '{}' has no rule '{section}': the policy protects nothing there",
                    target.name
                );
                found.error(
                    field.key("sectionName"),
                    message,
                    "correct the name, or leave it out for all rules",
                );
            }
            None => {
                let message = format!("there is no {kind} '{}' in this namespace", target.name);
                found.warning(field.key("name"), message, "create it or correct the name");
            }
        }
    }
    lines.append(&mut found.into_vec());
}

fn has_section(target: &Target, has: impl Fn(&str) -> bool) -> bool {
    target.section.as_deref().is_none_or(has)
}

fn refresh_routes<T>(
    kind: &RouteKind<T>,
    memos: &mut ByName<RouteMemo<T>>,
    objects: &ByName<Arc<T>>,
    scope: &Scope<'_>,
    report: &mut Vec<ReportLine>,
) {
    let pass = scope.pass;
    let mut made = Vec::new();
    for (namespace, name, object, old) in objects.iter_with(memos) {
        let id = ObjectRef::new(kind.kind, Arc::clone(namespace), Arc::clone(name));
        let verdict = pass.basis.classes.verdict(kind.kind, (kind.class_of)(object));
        let attached = match verdict {
            ClassVerdict::Ours => {
                let mut attached = scope.index.targeting(&id);
                let mut lines = Lines::new(id.clone());
                scope.index.add_annotated((kind.annotations)(object), &mut attached, &mut lines);
                report.append(&mut lines.into_vec());
                attached
            }
            ClassVerdict::Other(_) | ClassVerdict::Classless { .. } => Vec::new(),
        };
        let fresh = old.is_some_and(|memo| {
            Arc::ptr_eq(&memo.object, object)
                && same_attached(&memo.attached, &attached)
                && pass.holds(&memo.dependencies)
        });
        if fresh {
            continue;
        }
        let mut reader = pass.reader();
        let mut lines = Lines::new(id.clone());
        let routes = match verdict {
            ClassVerdict::Ours => (kind.routes)(object, &attached, &mut reader, &mut lines),
            ClassVerdict::Other(class) => {
                let message = format!("the class '{class}' is not served here");
                lines.info(Field::root("spec").key("ingressClassName"), message);
                Vec::new()
            }
            ClassVerdict::Classless { orphan } => {
                classless(orphan, &mut lines);
                Vec::new()
            }
        };
        let kept = old.map_or(&[][..], |memo| &memo.routes);
        let memo = RouteMemo {
            object: Arc::clone(object),
            dependencies: reader.into_dependencies(),
            attached,
            routes: routes.into_iter().map(|route| keep_equal(route, kept)).collect(),
            lines: lines.into_vec(),
        };
        made.push((id, memo));
    }
    for (id, memo) in made {
        memos.insert(&id, memo);
    }
    forget_deleted(memos, objects);
}

/// Every object has a memo now, so where there are more memos some are of objects that are gone.
fn forget_deleted<T, M>(memos: &mut ByName<M>, objects: &ByName<Arc<T>>) {
    if memos.len() > objects.len() {
        memos.retain(|namespace, name, _| objects.get(namespace, name).is_some());
    }
}

/// The old `Arc` where nothing about the route changed.
fn keep_equal(route: Route, old: &[Arc<Route>]) -> Arc<Route> {
    match old.iter().find(|old| old.id == route.id) {
        Some(old) if **old == route => Arc::clone(old),
        Some(_) | None => Arc::new(route),
    }
}

/// In a folder nobody else would serve it, so it is most likely a slip.
fn classless(orphan: bool, lines: &mut Lines) {
    let root = Field::root("spec");
    let field = root.key("ingressClassName");
    let message = "the object names no class, and ours is not the default one: it is not served here";
    if orphan {
        let remedy =
            "name the class, or add an IngressClass of this gateway that is annotated as the default one";
        lines.warning(field, message, remedy);
    } else {
        lines.info(field, message);
    }
}

fn collect<T>(
    memos: &ByName<RouteMemo<T>>,
    routes: &mut Vec<(ir::RouteId, Arc<Route>)>,
    lines: &mut Vec<ReportLine>,
) {
    for (_, _, memo) in memos.iter() {
        routes.extend(memo.routes.iter().map(|route| (route.id.clone(), Arc::clone(route))));
        lines.extend_from_slice(&memo.lines);
    }
}
