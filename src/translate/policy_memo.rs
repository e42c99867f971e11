//! Policies as translation remembers them: what each became, whether what it targets is there, and how it stands. Must
//! not build one anew that did not change.

use std::sync::Arc;

use api::{AuthPolicy, RateLimitPolicy};
use ir::{FailReason, Kind, ObjectRef};

use crate::attach::{Effect, PolicyIndex, Target};
use crate::class::ClassVerdict;
use crate::reader::{Dependency, Reader};
use crate::report::{Fault, Field, Lines, ReportLine};
use crate::snapshot::{ByName, Snapshot};
use crate::standing::{Extent, Standing, standing};
use crate::translator::{Pass, forget_deleted};
use crate::{auth, gateway_route, ingress, limit};

/// What one policy became.
#[derive(Debug)]
pub(crate) struct PolicyMemo<T> {
    object: Arc<T>,
    dependencies: Vec<Dependency>,
    id: ObjectRef,
    targets: Vec<Target>,
    effect: Effect,
    /// Findings about the policy itself.
    lines: Vec<ReportLine>,
    /// `None`: made anew, and the targets were not looked at since.
    judged: Option<TargetCheck>,
    /// `None`: not ours.
    standing: Option<Arc<Standing>>,
}

/// How a kind of policy is translated.
pub(crate) struct PolicyKind<T> {
    kind: Kind,
    /// Whether two versions mean the same.
    same: fn(&T, &T) -> bool,
    targets: fn(&T) -> Vec<Target>,
    effect: fn(&T, &mut Reader<'_>, &mut Lines) -> Effect,
}

/// A policy that was refused before translation and has no earlier good version.
#[derive(Debug)]
pub(crate) struct RefusedMemo {
    id: ObjectRef,
    targets: Vec<Target>,
    effect: Effect,
    lines: Vec<ReportLine>,
    standing: Option<Arc<Standing>>,
}

/// What was found at a policy's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TargetCheck {
    lines: Vec<ReportLine>,
    /// Something is targeted, and nothing of it is there.
    nothing_there: bool,
    /// Something that is targeted is there, and all that is there is another's.
    foreign: bool,
}

/// What a target is to a policy.
enum Aim {
    NoSuchObject,
    NoSuchRule,
    Hit { ours: bool },
}

pub(crate) const RATE_LIMIT_POLICY: PolicyKind<RateLimitPolicy> = PolicyKind {
    kind: Kind::RateLimitPolicy,
    same: |old, new| old.spec == new.spec,
    targets: limit::targets,
    effect: limit::effect,
};

pub(crate) const AUTH_POLICY: PolicyKind<AuthPolicy> = PolicyKind {
    kind: Kind::AuthPolicy,
    same: |old, new| old.spec == new.spec,
    targets: auth::targets,
    effect: auth::effect,
};

/// Brings the memory of all policies of a kind up to date.
pub(crate) fn refresh_policies<T>(
    kind: &PolicyKind<T>,
    memos: &mut ByName<PolicyMemo<T>>,
    objects: &ByName<Arc<T>>,
    pass: &Pass<'_>,
) {
    let mut made = Vec::new();
    let mut renewed = Vec::new();
    for (namespace, name, object, old) in objects.iter_with(memos) {
        let id = || ObjectRef::new(kind.kind, Arc::clone(namespace), Arc::clone(name));
        let kept = old.filter(|memo| {
            let same = Arc::ptr_eq(&memo.object, object) || (kind.same)(&memo.object, object);
            same && pass.holds(&memo.dependencies)
        });
        match kept {
            Some(memo) if Arc::ptr_eq(&memo.object, object) => {}
            Some(_) => renewed.push((id(), Arc::clone(object))),
            None => made.push((id(), make(kind, id(), object, old, pass))),
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
    for (_, _, memo) in memos.iter_mut() {
        memo.judge(pass);
    }
}

fn make<T>(
    kind: &PolicyKind<T>,
    id: ObjectRef,
    object: &Arc<T>,
    old: Option<&PolicyMemo<T>>,
    pass: &Pass<'_>,
) -> PolicyMemo<T> {
    let mut reader = pass.reader();
    let mut lines = Lines::new(id.clone());
    let mut effect = (kind.effect)(object, &mut reader, &mut lines);
    if let Some(old) = old {
        effect = effect.or_equal(&old.effect);
    }
    PolicyMemo {
        object: Arc::clone(object),
        dependencies: reader.into_dependencies(),
        id,
        targets: (kind.targets)(object),
        effect,
        lines: lines.into_vec(),
        judged: None,
        standing: old.and_then(|old| old.standing.clone()),
    }
}

impl<T> PolicyMemo<T> {
    /// The targets may have come or gone, so they are looked at each time.
    fn judge(&mut self, pass: &Pass<'_>) {
        let check = check_targets(&self.id, &self.targets, pass);
        if self.judged.as_ref() == Some(&check) {
            return;
        }
        let extent = match &self.effect {
            Effect::Fail(_) => Extent::Refused,
            Effect::Limit(_) | Effect::Auth(_) if check.nothing_there => Extent::NoTarget,
            Effect::Limit(_) | Effect::Auth(_) => Extent::Served,
        };
        let old = self.standing.take();
        if !check.foreign {
            self.standing = Some(standing(&[&self.lines, &check.lines], extent, old.as_ref()));
        }
        self.judged = Some(check);
    }
}

/// The policies that have no good version.
pub(crate) fn refused_policies(pass: &Pass<'_>, last: &[RefusedMemo]) -> Vec<RefusedMemo> {
    let mut refused = Vec::new();
    for (id, policy) in &pass.snapshot.refused {
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
        let target = |target: &crate::RefusedTarget| Target {
            kind: Some(target.kind),
            name: target.name.clone(),
            section: target.section.as_deref().map(Arc::from),
        };
        let targets: Vec<Target> = policy.targets.iter().map(target).collect();
        let mut lines = Lines::new(id.clone());
        let message = "the policy was refused and has no earlier good version: what it targets answers 500";
        lines.error(Field::root("spec"), message, "correct the policy");
        let lines = lines.into_vec();
        let foreign = check_targets(id, &targets, pass).foreign;
        let old = last.iter().find(|memo| memo.id == *id).and_then(|memo| memo.standing.as_ref());
        let standing = (!foreign).then(|| standing(&[&lines], Extent::Refused, old));
        refused.push(RefusedMemo { id: id.clone(), targets, effect: Effect::Fail(reason), lines, standing });
    }
    refused
}

/// Makes the policies known to those that they target, in the order in which they apply.
pub(crate) fn index_policies<'a, T>(memos: &'a ByName<PolicyMemo<T>>, index: &mut PolicyIndex<'a>) {
    for (_, _, memo) in memos.iter() {
        index.add(&memo.id, &memo.targets, &memo.effect);
    }
}

/// As [`index_policies`]; these come last.
pub(crate) fn index_refused<'a>(memos: &'a [RefusedMemo], index: &mut PolicyIndex<'a>) {
    for memo in memos {
        index.add(&memo.id, &memo.targets, &memo.effect);
    }
}

/// What is said of the policies of one kind.
pub(crate) fn collect_policies<T>(
    memos: &ByName<PolicyMemo<T>>,
    lines: &mut Vec<ReportLine>,
    standings: &mut Vec<(ObjectRef, Arc<Standing>)>,
) {
    for (_, _, memo) in memos.iter() {
        lines.extend_from_slice(&memo.lines);
        lines.extend(memo.judged.iter().flat_map(|check| &check.lines).cloned());
        standings.extend(memo.standing.iter().map(|standing| (memo.id.clone(), Arc::clone(standing))));
    }
}

/// What is said of the policies that have no good version.
pub(crate) fn collect_refused(
    memos: &[RefusedMemo],
    lines: &mut Vec<ReportLine>,
    standings: &mut Vec<(ObjectRef, Arc<Standing>)>,
) {
    for memo in memos {
        lines.extend_from_slice(&memo.lines);
        standings.extend(memo.standing.iter().map(|standing| (memo.id.clone(), Arc::clone(standing))));
    }
}

/// Targets that are not there are no error: they may come later. A rule that an object has not is one, for the rule that
/// was meant is served without the policy.
fn check_targets(id: &ObjectRef, targets: &[Target], pass: &Pass<'_>) -> TargetCheck {
    let mut lines = Lines::new(id.clone());
    let (mut missing, mut ours, mut theirs) = (0, 0, 0);
    let root = Field::root("spec");
    let root = root.key("targetRefs");
    for (index, target) in targets.iter().enumerate() {
        let field = root.index(index);
        let Some((kind, aim)) = aim(&id.namespace, target, pass) else {
            missing += 1;
            let message = "a policy cannot be attached to this kind";
            lines.error(field.key("kind"), message, "target an Ingress or a GatewayRoute");
            continue;
        };
        match aim {
            Aim::Hit { ours: true } => ours += 1,
            Aim::Hit { ours: false } => theirs += 1,
            Aim::NoSuchRule => {
                missing += 1;
                let section = target.section.as_deref().unwrap_or_default();
                let message = format!(
                    "the {kind} '{}' has no rule '{section}': the policy protects nothing there",
                    target.name
                );
                let remedy = "correct the name, or leave it out for all rules";
                lines.fault(Fault::RuleNotFound, field.key("sectionName"), message, remedy);
            }
            Aim::NoSuchObject => {
                missing += 1;
                let message = format!("there is no {kind} '{}' in this namespace", target.name);
                let remedy = "create it or correct the name";
                lines.fault(Fault::TargetNotFound, field.key("name"), message, remedy);
            }
        }
    }
    let nothing_there = missing > 0 && missing == targets.len();
    TargetCheck { lines: lines.into_vec(), nothing_there, foreign: theirs > 0 && ours == 0 }
}

/// `None`: a kind that no policy can be attached to.
fn aim(namespace: &str, target: &Target, pass: &Pass<'_>) -> Option<(Kind, Aim)> {
    let Snapshot { ingresses, gateway_routes, .. } = pass.snapshot;
    let kind = target.kind?;
    let section = |has: &dyn Fn(&str) -> bool| target.section.as_deref().is_none_or(has);
    let found = match kind {
        Kind::Ingress => ingresses.get(namespace, &target.name).map(|object| {
            (ingress::class_of(object), section(&|section| ingress::has_rule(object, section)))
        }),
        Kind::GatewayRoute => gateway_routes.get(namespace, &target.name).map(|object| {
            (gateway_route::class_of(object), section(&|section| gateway_route::has_rule(object, section)))
        }),
        Kind::IngressClass
        | Kind::RateLimitPolicy
        | Kind::AuthPolicy
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::ReferenceGrant => return None,
    };
    let aim = match found {
        None => Aim::NoSuchObject,
        Some((_, false)) => Aim::NoSuchRule,
        Some((class, true)) => {
            let ours = pass.basis.classes.verdict(kind, class) == ClassVerdict::Ours;
            Aim::Hit { ours }
        }
    };
    Some((kind, aim))
}
