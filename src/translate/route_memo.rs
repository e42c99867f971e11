//! Ingresses and GatewayRoutes as translation remembers them: the routes that each became, and how it stands. Must not
//! build one anew of which nothing changed that it depends on.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::GatewayRoute;
use ir::{Action, Kind, ObjectRef, Route, RouteId};
use k8s_openapi::api::networking::v1::Ingress;

use crate::attach::{Attached, PolicyIndex, same_attached};
use crate::class::ClassVerdict;
use crate::passthrough::PassthroughClaim;
use crate::reader::{Dependency, Reader};
use crate::report::{Field, Lines, ReportLine};
use crate::route::Built;
use crate::snapshot::ByName;
use crate::standing::{Standing, standing};
use crate::tls::TlsClaim;
use crate::translator::{Pass, forget_deleted};
use crate::{gateway_route, ingress};

/// What one Ingress or GatewayRoute became.
#[derive(Debug)]
pub(crate) struct RouteMemo<T> {
    object: Arc<T>,
    dependencies: Vec<Dependency>,
    attached: Vec<Attached>,
    routes: Vec<Arc<Route>>,
    tls: Vec<Arc<TlsClaim>>,
    passthrough: Option<Arc<PassthroughClaim>>,
    /// Findings about the policies that annotations name.
    annotated: Vec<ReportLine>,
    lines: Vec<ReportLine>,
    /// `None`: not ours.
    standing: Option<Arc<Standing>>,
}

/// How a kind of routing object is translated.
pub(crate) struct RouteKind<T> {
    kind: Kind,
    /// Whether two versions mean the same.
    same: fn(&T, &T) -> bool,
    class_of: fn(&T) -> Option<&str>,
    annotations: fn(&T) -> Option<&BTreeMap<String, String>>,
    routes: fn(&T, &[Attached], &mut Reader<'_>, &mut Lines) -> Built,
}

/// A pass that knows its policies.
pub(crate) struct Scope<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) index: &'a PolicyIndex<'a>,
}

/// One object and the policies at it.
struct Protected {
    id: ObjectRef,
    attached: Vec<Attached>,
    /// What was found about the policies that annotations name.
    annotated: Vec<ReportLine>,
}

pub(crate) const INGRESS: RouteKind<Ingress> = RouteKind {
    kind: Kind::Ingress,
    same: |old, new| {
        let (was, is) = (&old.metadata, &new.metadata);
        old.spec == new.spec
            && was.annotations == is.annotations
            && was.creation_timestamp == is.creation_timestamp
    },
    class_of: ingress::class_of,
    annotations: |object| object.metadata.annotations.as_ref(),
    routes: ingress::ingress_routes,
};

pub(crate) const GATEWAY_ROUTE: RouteKind<GatewayRoute> = RouteKind {
    kind: Kind::GatewayRoute,
    same: |old, new| {
        old.spec == new.spec && old.metadata.creation_timestamp == new.metadata.creation_timestamp
    },
    class_of: gateway_route::class_of,
    annotations: |_| None,
    routes: gateway_route::gateway_routes,
};

/// Brings the memory of all objects of a kind up to date.
pub(crate) fn refresh_routes<T>(
    kind: &RouteKind<T>,
    memos: &mut ByName<RouteMemo<T>>,
    objects: &ByName<Arc<T>>,
    scope: &Scope<'_>,
) {
    let mut made = Vec::new();
    let mut renewed = Vec::new();
    for (namespace, name, object, old) in objects.iter_with(memos) {
        let id = ObjectRef::new(kind.kind, Arc::clone(namespace), Arc::clone(name));
        let protected = scope.protect(kind, object, id);
        let kept = old.filter(|memo| {
            let same = Arc::ptr_eq(&memo.object, object) || (kind.same)(&memo.object, object);
            same && same_attached(&memo.attached, &protected.attached)
                && memo.annotated == protected.annotated
                && scope.pass.holds(&memo.dependencies)
        });
        match kept {
            Some(memo) if Arc::ptr_eq(&memo.object, object) => {}
            Some(_) => renewed.push((protected.id, Arc::clone(object))),
            None => made.push((protected.id.clone(), scope.make(kind, object, protected, old))),
        }
    }
    for (id, object) in renewed {
        if let Some(memo) = memos.get_mut(&id) {
            memo.object = object;
        }
    }
    for (id, memo) in made {
        memos.insert(&id, memo);
    }
    forget_deleted(memos, objects);
}

/// What the objects of all kinds became, and what is said of them.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) routes: Vec<(RouteId, Arc<Route>)>,
    pub(crate) tls: Vec<Arc<TlsClaim>>,
    pub(crate) passthrough: Vec<Arc<PassthroughClaim>>,
    pub(crate) lines: Vec<ReportLine>,
    pub(crate) standings: Vec<(ObjectRef, Arc<Standing>)>,
}

/// Adds those of one kind.
pub(crate) fn collect_routes<T>(kind: &RouteKind<T>, memos: &ByName<RouteMemo<T>>, all: &mut Collected) {
    let Collected { routes, tls, passthrough, lines, standings } = all;
    for (namespace, name, memo) in memos.iter() {
        routes.extend(memo.routes.iter().map(|route| (route.id.clone(), Arc::clone(route))));
        tls.extend(memo.tls.iter().map(Arc::clone));
        passthrough.extend(memo.passthrough.as_ref().map(Arc::clone));
        lines.extend_from_slice(&memo.annotated);
        lines.extend_from_slice(&memo.lines);
        if let Some(standing) = &memo.standing {
            let id = ObjectRef::new(kind.kind, Arc::clone(namespace), Arc::clone(name));
            standings.push((id, Arc::clone(standing)));
        }
    }
}

impl Scope<'_> {
    fn verdict<'o, T>(&self, kind: &RouteKind<T>, object: &'o T) -> ClassVerdict<'o> {
        self.pass.basis.classes.verdict(kind.kind, (kind.class_of)(object))
    }

    fn protect<T>(&self, kind: &RouteKind<T>, object: &T, id: ObjectRef) -> Protected {
        match self.verdict(kind, object) {
            ClassVerdict::Ours => {
                let mut attached = self.index.targeting(&id);
                let mut lines = Lines::new(id.clone());
                self.index.add_annotated((kind.annotations)(object), &mut attached, &mut lines);
                Protected { id, attached, annotated: lines.into_vec() }
            }
            ClassVerdict::Other(_) | ClassVerdict::Classless { .. } => {
                Protected { id, attached: Vec::new(), annotated: Vec::new() }
            }
        }
    }

    fn make<T>(
        &self,
        kind: &RouteKind<T>,
        object: &Arc<T>,
        protected: Protected,
        old: Option<&RouteMemo<T>>,
    ) -> RouteMemo<T> {
        let Protected { id, attached, annotated } = protected;
        let mut reader = self.pass.reader();
        let mut lines = Lines::new(id);
        let built = match self.verdict(kind, object) {
            ClassVerdict::Ours => Some((kind.routes)(object, &attached, &mut reader, &mut lines)),
            ClassVerdict::Other(class) => {
                let message = format!("the class '{class}' is not served here");
                lines.info(Field::root("spec").key("ingressClassName"), message);
                None
            }
            ClassVerdict::Classless { orphan } => {
                classless(orphan, &mut lines);
                None
            }
        };
        let lines = lines.into_vec();
        let old_standing = old.and_then(|memo| memo.standing.as_ref());
        let standing =
            built.as_ref().map(|built| standing(&[&annotated, &lines], built.extent, old_standing));
        let (routes, tls, passthrough) =
            built.map_or_else(Default::default, |built| (built.routes, built.tls, built.passthrough));
        let kept = old.map_or(&[][..], |memo| &memo.routes);
        let kept_tls = old.map_or(&[][..], |memo| &memo.tls);
        RouteMemo {
            object: Arc::clone(object),
            dependencies: reader.into_dependencies(),
            attached,
            routes: routes.into_iter().map(|route| keep_equal(route, kept)).collect(),
            tls: tls.into_iter().map(|claim| keep_equal_claim(claim, kept_tls)).collect(),
            passthrough: passthrough.map(|claim| {
                let kept = old.and_then(|memo| memo.passthrough.as_ref());
                kept.filter(|kept| ***kept == claim).map_or_else(|| Arc::new(claim), Arc::clone)
            }),
            annotated,
            lines,
            standing,
        }
    }
}

/// The old `Arc` where nothing about the route changed; else at least those of its TLS towards backends.
fn keep_equal(mut route: Route, old: &[Arc<Route>]) -> Arc<Route> {
    match old.iter().find(|old| old.id == route.id) {
        Some(old) if **old == route => Arc::clone(old),
        Some(old) => {
            keep_equal_tls(&mut route.action, &old.action);
            Arc::new(route)
        }
        None => Arc::new(route),
    }
}

fn keep_equal_tls(action: &mut Action, old: &Action) {
    let (Action::Forward { backends, .. }, Action::Forward { backends: old, .. }) = (action, old) else {
        return;
    };
    for tls in backends.iter_mut().filter_map(|backend| backend.protocol.tls.as_mut()) {
        let kept = old.iter().filter_map(|backend| backend.protocol.tls.as_ref()).find(|old| *old == tls);
        if let Some(kept) = kept {
            *tls = Arc::clone(kept);
        }
    }
}

/// The same for what is said of TLS.
fn keep_equal_claim(claim: TlsClaim, old: &[Arc<TlsClaim>]) -> Arc<TlsClaim> {
    old.iter().find(|old| ***old == claim).map_or_else(|| Arc::new(claim), Arc::clone)
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
