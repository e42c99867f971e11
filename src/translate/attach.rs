//! Which policies apply to which routes. Policies are additive: all that are attached apply, and one that cannot be
//! built makes its targets fail closed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::{HeaderName, header};
use ir::{Action, Auth, FailReason, Kind, LimitPolicy, ObjectRef, Route};

use crate::report::{Fault, Field, Lines, Refused};

/// What a policy does to a route it is attached to.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Limit(Arc<LimitPolicy>),
    Auth(Arc<Auth>),
    /// The policy could not be built.
    Fail(FailReason),
}

/// One object, or one rule of it, that a policy names. In the policy's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `None`: a kind that no policy can be attached to.
    pub(crate) kind: Option<Kind>,
    pub(crate) name: String,
    pub(crate) section: Option<Arc<str>>,
}

/// A policy at one object.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    source: ObjectRef,
    /// `None`: all rules.
    section: Option<Arc<str>>,
    effect: Effect,
}

/// All policies by their targets and by their names.
#[derive(Debug, Default)]
pub(crate) struct PolicyIndex<'a> {
    by_target: HashMap<(Kind, &'a str, &'a str), Vec<Attached>>,
    by_name: HashMap<(Kind, &'a str, &'a str), &'a Effect>,
}

impl Effect {
    /// The old effect, with its `Arc`, where this is equal to it.
    pub(crate) fn or_equal(self, old: &Self) -> Self {
        let equal = match (&self, old) {
            (Self::Limit(new), Self::Limit(old)) => new == old,
            (Self::Auth(new), Self::Auth(old)) => new == old,
            (Self::Limit(_) | Self::Auth(_) | Self::Fail(_), _) => false,
        };
        if equal { old.clone() } else { self }
    }

    /// Whether a route built with one is the same as a route built with the other.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Limit(left), Self::Limit(right)) => Arc::ptr_eq(left, right),
            (Self::Auth(left), Self::Auth(right)) => Arc::ptr_eq(left, right),
            (Self::Fail(left), Self::Fail(right)) => left == right,
            (Self::Limit(_) | Self::Auth(_) | Self::Fail(_), _) => false,
        }
    }
}

impl<'a> PolicyIndex<'a> {
    /// Policies must be added in the order in which they shall apply: by kind, namespace and name.
    pub(crate) fn add(&mut self, source: &'a ObjectRef, targets: &'a [Target], effect: &'a Effect) {
        self.by_name.insert((source.kind, &source.namespace, &source.name), effect);
        for target in targets {
            let Some(kind) = target.kind else { continue };
            let attached =
                Attached { source: source.clone(), section: target.section.clone(), effect: effect.clone() };
            self.by_target.entry((kind, &source.namespace, &target.name)).or_default().push(attached);
        }
    }

    /// The policies that target an object.
    pub(crate) fn targeting(&self, object: &ObjectRef) -> Vec<Attached> {
        if self.by_target.is_empty() {
            return Vec::new();
        }
        self.by_target.get(&(object.kind, &*object.namespace, &*object.name)).cloned().unwrap_or_default()
    }

    /// Adds the policies that an Ingress names by annotation. A name without a policy fails closed, and so does an annotation
    /// without a name: the author asked for protection that is not there.
    pub(crate) fn add_annotated(
        &self,
        annotations: Option<&BTreeMap<String, String>>,
        attached: &mut Vec<Attached>,
        lines: &mut Lines,
    ) {
        let Some(annotations) = annotations else { return };
        let kinds = [
            (api::RATE_LIMIT_POLICY_ANNOTATION, Kind::RateLimitPolicy, FailReason::InvalidLimit),
            (api::AUTH_POLICY_ANNOTATION, Kind::AuthPolicy, FailReason::InvalidAuth),
        ];
        let before = attached.len();
        let namespace = Arc::clone(&lines.object().namespace);
        let root = Field::root("metadata");
        let field = root.key("annotations");
        for (annotation, kind, reason) in kinds {
            let Some(names) = annotations.get(annotation) else { continue };
            let mut add = |name: &str, effect| {
                let source = ObjectRef::new(kind, Arc::clone(&namespace), name);
                attached.push(Attached { source, section: None, effect });
            };
            let mut fail = |message, remedy: &str| {
                lines.fault(Fault::InvalidReference, field.quoted(annotation), message, remedy);
                Effect::Fail(reason)
            };
            let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).peekable();
            if names.peek().is_none() {
                let message = format!("it names no {kind}; the Ingress answers 500 until it does");
                add("", fail(message, "name a policy or remove the annotation"));
            }
            for name in names {
                let effect = match self.by_name.get(&(kind, &*namespace, name)) {
                    Some(effect) => (*effect).clone(),
                    None => {
                        let message =
                            format!("there is no {kind} '{name}'; the Ingress answers 500 until there is");
                        fail(message, "create the policy or correct the name")
                    }
                };
                add(name, effect);
            }
        }
        if attached.len() > before {
            attached.sort_by(|left, right| left.source.cmp(&right.source));
        }
    }
}

/// Whether the same policies with the same effects are attached.
pub(crate) fn same_attached(left: &[Attached], right: &[Attached]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            left.source == right.source && left.section == right.section && left.effect.same_as(&right.effect)
        })
}

/// Puts on a route what its own object says of authentication, before the policies: it is the first to be asked.
pub(crate) fn own(route: &mut Route, auth: &Result<Option<Auth>, Refused>) {
    match auth {
        Ok(auth) => route.auth.splice(0..0, auth.clone()).for_each(drop),
        Err(Refused) if matches!(route.action, Action::Fail(_)) => {}
        Err(Refused) => route.action = Action::Fail(FailReason::InvalidAuth),
    }
}

/// Has each rule of an object take off what another one tells its backend of the client: they often have the same backend.
/// Fields that clients send for themselves stay.
pub(crate) fn share_identity_headers(routes: &mut [Route]) {
    let mut all: Vec<HeaderName> = Vec::new();
    for name in routes.iter().flat_map(|route| &route.auth).flat_map(Auth::identity_headers) {
        if !matches!(*name, header::AUTHORIZATION | header::COOKIE) && !all.contains(name) {
            all.push(name.clone());
        }
    }
    if all.is_empty() {
        return;
    }
    for route in routes {
        let is_own =
            |name: &&HeaderName| route.auth.iter().flat_map(Auth::identity_headers).any(|own| own == *name);
        route.identity_headers = all.iter().filter(|name| !is_own(name)).cloned().collect();
    }
}

/// Puts the policies on a route. A policy that reaches it by two ways applies once.
pub(crate) fn attach(route: &mut Route, attached: &[Attached]) {
    let mut last: Option<&ObjectRef> = None;
    for policy in attached {
        let applies = policy.section.as_ref().is_none_or(|section| *section == route.id.rule);
        if !applies || last == Some(&policy.source) {
            continue;
        }
        last = Some(&policy.source);
        match &policy.effect {
            Effect::Limit(limit) => route.limits.push(Arc::clone(limit)),
            Effect::Auth(auth) => route.auth.push(auth.as_ref().clone()),
            Effect::Fail(reason) => {
                if !matches!(route.action, Action::Fail(_)) {
                    route.action = Action::Fail(*reason);
                }
            }
        }
    }
}
