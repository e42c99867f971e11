//! Which Secrets are taken by their labels, and by how many objects each selection is asked for. Fetches nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::{Kind, ObjectRef};
use translate::Selection;

use super::resource::Target;

pub(super) type Labels = BTreeMap<String, String>;

/// The selections of all objects, and the labels of all Secrets that have any.
#[derive(Debug, Default)]
pub(super) struct Selections {
    /// How many objects ask for each.
    counts: BTreeMap<Selection, usize>,
    labels: HashMap<ObjectRef, Labels>,
    /// The Secrets that at least one selection takes.
    taken: BTreeSet<ObjectRef>,
}

/// What is taken newly, and what no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) gained: Vec<ObjectRef>,
    pub(super) lost: Vec<ObjectRef>,
}

impl Selections {
    /// Asks for these once more.
    pub(super) fn add(&mut self, selections: Vec<Selection>) -> Shift {
        for selection in selections {
            *self.counts.entry(selection).or_default() += 1;
        }
        self.judge(self.labels.keys().cloned().collect())
    }

    /// Asks for these once less.
    pub(super) fn remove(&mut self, selections: Vec<Selection>) -> Shift {
        for selection in selections {
            if let Some(count) = self.counts.get_mut(&selection) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.counts.remove(&selection);
                }
            }
        }
        self.judge(self.taken.iter().cloned().collect())
    }

    /// The labels of all Secrets that a stream tells of are these now.
    pub(super) fn listed(&mut self, target: &Target, labels: HashMap<ObjectRef, Labels>) -> Shift {
        if target.kind != Kind::Secret {
            return Shift::default();
        }
        let mut changed: BTreeSet<ObjectRef> =
            self.labels.keys().filter(|secret| target.covers(secret)).cloned().collect();
        self.labels.retain(|secret, _| !target.covers(secret));
        changed.extend(labels.keys().cloned());
        self.labels.extend(labels);
        self.judge(changed)
    }

    /// An object has these labels now; none, where it is gone.
    pub(super) fn changed(&mut self, object: &ObjectRef, labels: Labels) -> Shift {
        if object.kind != Kind::Secret {
            return Shift::default();
        }
        if labels.is_empty() {
            self.labels.remove(object);
        } else {
            self.labels.insert(object.clone(), labels);
        }
        self.judge([object.clone()].into())
    }

    /// The Secrets that one of these takes.
    pub(super) fn taken_by(&self, selections: &[Selection]) -> Vec<ObjectRef> {
        let takes = |secret: &&ObjectRef| {
            self.labels
                .get(*secret)
                .is_some_and(|labels| selections.iter().any(|one| one.takes(&secret.namespace, labels)))
        };
        self.taken.iter().filter(takes).cloned().collect()
    }

    /// Every Secret that is taken.
    pub(super) fn taken(&self) -> Vec<ObjectRef> {
        self.taken.iter().cloned().collect()
    }

    fn judge(&mut self, secrets: BTreeSet<ObjectRef>) -> Shift {
        let mut shift = Shift::default();
        for secret in secrets {
            let is_taken = self
                .labels
                .get(&secret)
                .is_some_and(|labels| self.counts.keys().any(|one| one.takes(&secret.namespace, labels)));
            if is_taken && self.taken.insert(secret.clone()) {
                shift.gained.push(secret);
            } else if !is_taken && self.taken.remove(&secret) {
                shift.lost.push(secret);
            }
        }
        shift
    }
}
