//! Which object's status is to be written, and when: what differs from what stands there, the oldest difference first,
//! at a bounded pace. Has no clock and talks to nobody.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use api::{ConditionReason, ConditionType, Status};
use ir::{KeySetStates, Kind, ObjectRef};
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use translate::{Object, Standing};

use super::addresses::Publication;
use super::desired::{Reach, keys_ready, verdicts};
use super::target::{Said, Target, Verdict, condition, has_ours, says_of_keys};
use crate::outlook::{MarkScope, Marks, Outlook, is_marked, version};

#[cfg(test)]
mod tests;

/// 3,000 objects at the first start take a minute.
const WRITES_PER_SECOND: u32 = 50;
/// How many may be sent at one moment after a rest.
const BURST: u32 = 5;
const IN_FLIGHT_MAX: usize = 8;
/// Between two writes to one object.
const PACE: Duration = Duration::from_secs(1);
/// How long a kind whose status may not be written is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// After a failure: this much, doubled each time, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(32);
/// An object that will most likely be live on all replicas in a moment is not said to be pending before.
const PENDING_PATIENCE: Duration = Duration::from_secs(1);
/// For what tells nobody anything new about the object: a replica came or went, or one that was there for long has
/// not said yet that it saw the last change of some other object.
const COUNT_PATIENCE: Duration = Duration::from_secs(5);
/// No difference stands longer than that because it changes all the time.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) outlook: &'a Outlook,
    /// How far each ready replica is.
    pub(super) replicas: &'a [&'a Marks],
    pub(super) scope: MarkScope,
    pub(super) publication: &'a Publication,
    /// As this replica's data plane has them.
    pub(super) key_sets: &'a KeySetStates,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) id: ObjectRef,
    pub(super) uid: Option<String>,
    pub(super) target: Target,
    /// What stands there.
    pub(super) said: Said<'static>,
    /// Only if the object is still at this version.
    pub(super) only_at: Option<u64>,
}

/// What came of a write.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The object is at this version now and says this.
    Written { version: Option<u64>, said: Said<'static> },
    /// The object is gone or another.
    Outdated,
    /// Status of this kind may not be written, or not like this.
    Refused,
    /// No answer, or one that says nothing.
    Failed,
}

/// All objects of ours.
#[derive(Debug, Default)]
pub(super) struct Plan {
    entries: HashMap<ObjectRef, Entry>,
    in_flight: usize,
    paused: BTreeMap<Kind, Instant>,
    budget: Budget,
    is_outdated: bool,
    is_pending: bool,
}

/// One object.
#[derive(Debug)]
struct Entry {
    uid: Option<String>,
    generation: Option<i64>,
    /// The version at which this generation was seen first. Writing status makes later ones, which say nothing new.
    version: Option<u64>,
    /// What we wrote and the watch has not brought back yet.
    written: Option<(Option<u64>, Said<'static>)>,
    want: Option<Want>,
    is_flying: bool,
    not_before: Option<Instant>,
    failures: u32,
}

/// What is to be written.
#[derive(Debug)]
struct Want {
    target: Target,
    said: Said<'static>,
    /// Since when anything is to be written.
    since: Instant,
    /// Since when it is this.
    changed: Instant,
    patience: Duration,
    only_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Budget {
    /// Thousandths of a write.
    thousandths: u64,
    filled: Option<Instant>,
}

impl Plan {
    /// Compares all objects with what they are to say.
    pub(super) fn look(&mut self, now: Instant, view: &View<'_>) {
        self.is_outdated = false;
        self.is_pending = false;
        let addresses = view.publication.addresses(&view.outlook.snapshot);
        for (id, standing) in &*view.outlook.standings {
            // Of a refused one there may be nothing to write to.
            let Some(object) = view.outlook.snapshot.object(id) else {
                self.entries.remove(id);
                continue;
            };
            let entry = self.entries.entry(id.clone()).or_insert_with(|| Entry::of(&object));
            entry.meet(&object);
            let Some(target) = entry.target(id, view, standing, addresses.as_deref()) else {
                entry.want = None;
                continue;
            };
            self.is_pending |= target.is_pending();
            entry.compare(now, &object, target);
        }
        let addresses = addresses.unwrap_or_default();
        self.entries.retain(|id, entry| {
            view.outlook.standings.contains_key(id)
                || view
                    .outlook
                    .snapshot
                    .object(id)
                    .is_some_and(|object| entry.leave(now, &object, &addresses) || entry.is_flying)
        });
    }

    /// What is to be sent now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Write> {
        self.paused.retain(|_, until| *until > now);
        let room = IN_FLIGHT_MAX.saturating_sub(self.in_flight).min(self.budget.fill(now));
        let mut due: Vec<(Instant, &ObjectRef)> = self
            .entries
            .iter()
            .filter(|(id, entry)| !self.paused.contains_key(&id.kind) && entry.is_due(now))
            .filter_map(|(id, entry)| Some((entry.want.as_ref()?.since, id)))
            .collect();
        due.sort_unstable();
        due.truncate(room);
        let due: Vec<ObjectRef> = due.into_iter().map(|(_, id)| id.clone()).collect();
        self.budget.spend(due.len());
        self.in_flight += due.len();
        due.into_iter()
            .filter_map(|id| {
                let entry = self.entries.get_mut(&id)?;
                let want = entry.want.as_ref()?;
                entry.is_flying = true;
                entry.not_before = Some(now + PACE);
                let (target, said, only_at) = (want.target.clone(), want.said.clone(), want.only_at);
                Some(Write { id, uid: entry.uid.clone(), target, said, only_at })
            })
            .collect()
    }

    /// A write that was taken has ended.
    pub(super) fn done(&mut self, now: Instant, id: &ObjectRef, outcome: Outcome) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.is_outdated = true;
        if matches!(outcome, Outcome::Refused) {
            self.paused.insert(id.kind, now + REFUSED_PAUSE);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.is_flying = false;
        match outcome {
            Outcome::Written { version, said } => {
                entry.want = None;
                entry.written = Some((version, said));
            }
            // The next look tells what the object is now; its watch may be behind.
            Outcome::Outdated | Outcome::Refused | Outcome::Failed => entry.back_off(now),
        }
    }

    /// Whether anything is to be written or on its way.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_outdated || self.entries.values().any(|entry| entry.is_flying || entry.want.is_some())
    }

    /// Whether something came of a write that the last look did not know.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Whether some object is not live on all replicas.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }
}

impl Entry {
    fn of(object: &Object) -> Self {
        let metadata = object.metadata();
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            version: version(metadata),
            written: None,
            want: None,
            is_flying: false,
            not_before: None,
            failures: 0,
        }
    }

    /// The object as it is now.
    fn meet(&mut self, object: &Object) {
        let metadata = object.metadata();
        if self.uid != metadata.uid {
            let (is_flying, not_before) = (self.is_flying, self.not_before);
            *self = Self { is_flying, not_before, ..Self::of(object) };
        } else if self.generation != metadata.generation {
            self.generation = metadata.generation;
            self.version = version(metadata);
            self.failures = 0;
        }
    }

    fn target(
        &self,
        id: &ObjectRef,
        view: &View<'_>,
        standing: &Standing,
        addresses: Option<&[IngressLoadBalancerIngress]>,
    ) -> Option<Target> {
        if id.kind == Kind::Ingress {
            return addresses.map(|addresses| Target::Addresses(addresses.to_vec()));
        }
        if !is_marked(id.kind) {
            return None;
        }
        let has_it = |marks: &&&Marks| self.version.is_some_and(|at| marks.reach(view.scope, id, at));
        let reach = Reach { live: view.replicas.iter().filter(has_it).count(), ready: view.replicas.len() };
        let keys = view.key_sets.get(id).and_then(keys_ready);
        Some(Target::Conditions { generation: self.generation, verdicts: verdicts(standing, reach), keys })
    }

    /// Notes what is to be written so that the object says this.
    fn compare(&mut self, now: Instant, object: &Object, target: Target) {
        let Some(read) = Said::of(object) else { return };
        if !self.is_ahead_of(object)
            && let Some((_, wrote)) = self.written.take()
        {
            if wrote.is_kept_by(&read) {
                self.failures = 0;
            } else if self.want.is_none() {
                // Somebody undoes what we write, or the API server does not keep it. That is no race to win.
                self.back_off(now);
            }
        }
        let said = self.written.as_ref().map_or(read, |(_, wrote)| wrote.clone());
        self.want =
            if target.is(&said) { None } else { Some(Want::next(self.want.take(), now, target, said)) };
    }

    /// The object is ours no more. Whether there is anything left to do about it.
    fn leave(&mut self, now: Instant, object: &Object, addresses: &[IngressLoadBalancerIngress]) -> bool {
        let last = self.want.take();
        // Only what the watch has shown may be taken away.
        if self.is_ahead_of(object) {
            return true;
        }
        self.written = None;
        let metadata = object.metadata();
        let Some(said) = Said::of(object).filter(|_| self.uid == metadata.uid) else { return false };
        let target = match &said {
            Said::Conditions(status) if has_ours(status) => {
                // Another install, which it belongs to now, has spoken of the new version.
                if self.generation != metadata.generation && status.observed_generation == metadata.generation
                {
                    return false;
                }
                Target::NoConditions
            }
            Said::Addresses(said) if !said.is_empty() && **said == *addresses => Target::NoAddresses,
            Said::Conditions(_) | Said::Addresses(_) => return false,
        };
        // Since we came to take it away, somebody else wrote.
        if last.as_ref().is_some_and(|last| last.target == target && last.said != said) {
            return false;
        }
        let want = Want::next(last, now, target, said);
        self.want = Some(Want { only_at: version(metadata), ..want });
        true
    }

    /// Whether we wrote what this object does not show yet.
    fn is_ahead_of(&self, object: &Object) -> bool {
        let wrote = self.written.as_ref().and_then(|(at, _)| *at);
        wrote.is_some_and(|at| version(object.metadata()) < Some(at))
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.is_flying
            && self.not_before.is_none_or(|time| time <= now)
            && self.want.as_ref().is_some_and(|want| want.due() <= now)
    }

    fn back_off(&mut self, now: Instant) {
        let wait = BACKOFF.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = self.not_before.max(Some(now + wait));
    }
}

impl Want {
    fn next(last: Option<Self>, now: Instant, target: Target, said: Said<'_>) -> Self {
        let patience = target.patience(&said);
        let (since, changed) = match last {
            Some(last) if last.target == target => (last.since, last.changed),
            Some(last) => (last.since, now),
            None => (now, now),
        };
        Self { target, said: said.into_owned(), since, changed, patience, only_at: None }
    }

    fn due(&self) -> Instant {
        (self.changed + self.patience).min(self.since + PATIENCE_MAX)
    }
}

impl Target {
    fn is_pending(&self) -> bool {
        match self {
            Self::Conditions { verdicts: [_, _, programmed], .. } => {
                programmed.reason == ConditionReason::Pending
            }
            Self::NoConditions | Self::Addresses(_) | Self::NoAddresses => false,
        }
    }

    /// How long it has to stand before it takes the place of `said`.
    fn patience(&self, said: &Said<'_>) -> Duration {
        match (self, said) {
            (
                Self::Conditions { generation, verdicts: [accepted, refs, programmed], keys },
                Said::Conditions(status),
            ) => {
                let stands = |verdict: &Verdict| {
                    condition(status, verdict.about).is_some_and(|condition| verdict.is(condition))
                };
                let only_count = status.observed_generation == *generation
                    && stands(accepted)
                    && stands(refs)
                    && says_of_keys(status, keys.as_ref());
                let keys_may_come =
                    keys.as_ref().is_some_and(|keys| keys.reason == ConditionReason::JwksPending);
                let is_pending = programmed.reason == ConditionReason::Pending;
                if only_count && says_live(status) && (is_pending || programmed.holds) {
                    COUNT_PATIENCE
                } else if is_pending || keys_may_come {
                    PENDING_PATIENCE
                } else {
                    Duration::ZERO
                }
            }
            (Self::NoConditions | Self::NoAddresses, _) => PENDING_PATIENCE,
            (Self::Addresses(_), _) | (Self::Conditions { .. }, Said::Addresses(_)) => Duration::ZERO,
        }
    }
}

impl Budget {
    /// How many writes there may be now.
    fn fill(&mut self, now: Instant) -> usize {
        let full = u64::from(BURST) * 1000;
        let passed = self.filled.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        self.filled = Some(now);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(u64::from(WRITES_PER_SECOND));
        self.thousandths = self.thousandths.saturating_add(earned).min(full);
        usize::try_from(self.thousandths / 1000).unwrap_or_default()
    }

    fn spend(&mut self, writes: usize) {
        let writes = u64::try_from(writes).unwrap_or(u64::MAX);
        self.thousandths = self.thousandths.saturating_sub(writes.saturating_mul(1000));
    }
}

fn says_live(status: &Status) -> bool {
    condition(status, ConditionType::Programmed).is_some_and(|condition| condition.status == "True")
}
