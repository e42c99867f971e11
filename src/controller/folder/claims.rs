//! Which file's version of an object is in effect: the first file by path that claims it, and the last good version
//! where that one is refused. Knows no text and no clock.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use ir::ObjectRef;
use translate::{Object, RefusedPolicy};

use crate::document::Outcome;
use crate::source::{Change, Origin, Place};

/// An object as it stands in a file.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) file: Arc<Path>,
    pub(super) line: u32,
    pub(super) place: Place,
    pub(super) good: bool,
}

/// What was just read, by file and place.
pub(super) type Fresh = HashMap<(Arc<Path>, Place), Outcome>;

/// All claims and what was sent of each object.
#[derive(Debug, Default)]
pub(super) struct Claims {
    standings: HashMap<ObjectRef, Standing>,
    /// Objects that more than one place claims.
    contested: HashSet<ObjectRef>,
    /// Files that are missing but may be on their way back; their claims come last.
    gone: HashSet<Arc<Path>>,
}

#[derive(Debug, Default)]
struct Standing {
    /// By file and line.
    claims: Vec<Claim>,
    sent: Option<Sent>,
}

/// What the owner of the snapshot has.
#[derive(Debug)]
struct Sent {
    origin: Origin,
    good: bool,
}

/// What became of settling an object.
#[derive(Debug)]
pub(super) enum Settled {
    Unchanged,
    Changed(Change),
    /// The version that counts now is not at hand; its file must be read again.
    Refetch(Claim),
}

impl Claims {
    pub(super) fn add(&mut self, object: &ObjectRef, claim: Claim) {
        let standing = self.standings.entry(object.clone()).or_default();
        let at =
            standing.claims.partition_point(|other| (&other.file, other.line) <= (&claim.file, claim.line));
        standing.claims.insert(at, claim);
        if standing.claims.len() > 1 {
            self.contested.insert(object.clone());
        }
    }

    pub(super) fn remove(&mut self, object: &ObjectRef, file: &Arc<Path>, line: u32) {
        let Some(standing) = self.standings.get_mut(object) else { return };
        if let Some(at) = standing.claims.iter().position(|claim| claim.file == *file && claim.line == line) {
            standing.claims.remove(at);
        }
        if standing.claims.len() < 2 {
            self.contested.remove(object);
        }
    }

    pub(super) fn mark_gone(&mut self, file: &Arc<Path>, gone: bool) {
        if gone {
            self.gone.insert(Arc::clone(file));
        } else {
            self.gone.remove(file);
        }
    }

    /// All files that claim the object.
    pub(super) fn files_of(&self, object: &ObjectRef) -> impl Iterator<Item = &Arc<Path>> {
        self.standings.get(object).into_iter().flat_map(|standing| &standing.claims).map(|claim| &claim.file)
    }

    pub(super) fn is_contested(&self, object: &ObjectRef) -> bool {
        self.contested.contains(object)
    }

    /// The place that holds the object instead of the one at this line, if there is one.
    pub(super) fn rival(&self, object: &ObjectRef, file: &Arc<Path>, line: u32) -> Option<&Claim> {
        if !self.contested.contains(object) || self.gone.contains(file) {
            return None;
        }
        let winner = self.winner(self.standings.get(object)?)?;
        ((&winner.file, winner.line) != (file, line)).then_some(winner)
    }

    /// Brings what was sent of an object in line with the claims on it.
    pub(super) fn settle(&mut self, object: &ObjectRef, fresh: &Fresh) -> Settled {
        let Some(standing) = self.standings.get(object) else { return Settled::Unchanged };
        let Some(winner) = self.winner(standing).cloned() else {
            let was_sent = standing.sent.is_some();
            self.standings.remove(object);
            return if was_sent {
                Settled::Changed(Change::Delete(object.clone()))
            } else {
                Settled::Unchanged
            };
        };
        let origin = Origin { file: Arc::clone(&winner.file), line: winner.line, place: winner.place };
        let sent = standing.sent.as_ref();
        if let Some(sent) = sent
            && sent.good == winner.good
            && sent.origin.file == origin.file
            && sent.origin.place == origin.place
        {
            if sent.origin.line == origin.line {
                return Settled::Unchanged;
            }
            let change = Change::Move { object: object.clone(), origin: origin.clone() };
            return self.send(object, change, origin, winner.good);
        }
        if !winner.good && (sent.is_some_and(|sent| sent.good) || !object.kind.is_policy()) {
            return Settled::Unchanged;
        }
        match (fresh.get(&(Arc::clone(&winner.file), winner.place)), winner.good) {
            (Some(Outcome::Good(value)), true) => {
                let value = Object::clone(value);
                self.send(object, Change::Apply { object: value, origin: Some(origin.clone()) }, origin, true)
            }
            (Some(Outcome::Refused(policy)), false) => {
                let policy = RefusedPolicy::clone(policy);
                let change = Change::Refuse { object: object.clone(), policy, origin: Some(origin.clone()) };
                self.send(object, change, origin, false)
            }
            (Some(Outcome::Good(_)), false) | (Some(Outcome::Refused(_)), true) | (None, _) => {
                Settled::Refetch(winner)
            }
        }
    }

    fn send(&mut self, object: &ObjectRef, change: Change, origin: Origin, good: bool) -> Settled {
        if let Some(standing) = self.standings.get_mut(object) {
            standing.sent = Some(Sent { origin, good });
        }
        Settled::Changed(change)
    }

    fn winner<'s>(&self, standing: &'s Standing) -> Option<&'s Claim> {
        match standing.claims.as_slice() {
            [] => None,
            [only] => Some(only),
            [first, ..] => {
                let here = standing.claims.iter().find(|claim| !self.gone.contains(&claim.file));
                Some(here.unwrap_or(first))
            }
        }
    }
}
