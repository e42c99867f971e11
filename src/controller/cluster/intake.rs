//! Takes the objects of one stream: reads each, keeps the last good version of what cannot be read, finds out what a new
//! list lacks, and sends what belongs together as one batch. Asks the API server nothing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::{Kind, ObjectRef};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use translate::{Selection, Severity, named_objects, selected_secrets};

use super::keeper::KeeperHandle;
use super::resource::is_own;
use super::stream::Event;
use crate::document::{self, Finding, Outcome, api_version_of};
use crate::problem::Problem;
use crate::schema::Schemas;
use crate::source::{Batch, Change};

/// What kubectl leaves on each object: a second copy of it, a Secret's too.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The objects of one stream.
#[derive(Debug)]
pub(super) struct Intake {
    ledger: Ledger,
    batches: mpsc::Sender<Batch>,
    keeper: KeeperHandle,
}

/// What is known of the objects of one stream. Waits for nobody.
#[derive(Debug)]
pub(super) struct Ledger {
    kind: Kind,
    schemas: Arc<Schemas>,
    known: HashMap<ObjectRef, Known>,
    /// The list that is under way.
    listing: Listing,
    no_kind: bool,
}

/// What one event comes to.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) batch: Batch,
    /// Secrets and ConfigMaps that are named by one object more, to be there before the batch.
    pub(super) gained: Vec<ObjectRef>,
    /// Those that are named by one object less, to go after the batch.
    pub(super) lost: Vec<ObjectRef>,
    /// Secrets that one object more takes by their labels, to be there before the batch.
    pub(super) selected: Vec<Selection>,
    /// Those that one object less takes, to go after the batch.
    pub(super) deselected: Vec<Selection>,
}

/// One object as it is in use.
#[derive(Debug, Default)]
struct Known {
    /// The version that was read last, good or not.
    version: String,
    /// A good version is in use.
    good: bool,
    names: Vec<ObjectRef>,
    selections: Vec<Selection>,
    has_problems: bool,
}

#[derive(Debug, Default)]
struct Listing {
    seen: HashSet<ObjectRef>,
    step: Step,
}

impl Intake {
    pub(super) fn new(ledger: Ledger, batches: mpsc::Sender<Batch>, keeper: KeeperHandle) -> Self {
        Self { ledger, batches, keeper }
    }

    /// Whether objects of this stream are in use.
    pub(super) fn holds_objects(&self) -> bool {
        !self.ledger.known.is_empty()
    }

    /// False: nobody takes objects any more.
    pub(super) async fn take(&mut self, event: Event) -> bool {
        let Step { batch, gained, lost, selected, deselected } = self.ledger.take(event);
        // A route must not go live before the keys that it needs were looked for.
        self.keeper.take(gained, selected).await;
        if !batch.is_empty() && self.batches.send(batch).await.is_err() {
            return false;
        }
        self.keeper.release(lost, deselected).await;
        true
    }
}

impl Ledger {
    pub(super) fn new(kind: Kind, schemas: Arc<Schemas>) -> Self {
        Self { kind, schemas, known: HashMap::new(), listing: Listing::default(), no_kind: false }
    }

    /// Notes what happened and returns what is to be done about it. Nothing of a list is, before its end.
    pub(super) fn take(&mut self, event: Event) -> Step {
        match event {
            Event::ListBegins => {
                // What was taken from an unfinished list was noted as known, and is sent with the next one.
                self.listing.seen.clear();
                Step::default()
            }
            Event::Page(values) => {
                let mut step = std::mem::take(&mut self.listing.step);
                for value in values {
                    if let Some(object) = self.apply(value, &mut step) {
                        self.listing.seen.insert(object);
                    }
                }
                self.listing.step = step;
                Step::default()
            }
            Event::ListEnds => {
                let mut step = self.end_list();
                if std::mem::take(&mut self.no_kind) {
                    step.batch.push(problems(path_of_kind(self.kind), Vec::new(), 0));
                }
                step
            }
            Event::Applied(value) => {
                let mut step = Step::default();
                self.apply(value, &mut step);
                step
            }
            Event::Deleted(value) => {
                let mut step = Step::default();
                if let Some(object) = document::object_ref(self.kind, &value) {
                    self.delete(&object, &mut step);
                }
                step
            }
            Event::NoKind => {
                self.listing.seen.clear();
                let mut step = self.end_list();
                if is_own(self.kind) && !self.no_kind {
                    self.no_kind = true;
                    step.batch.push(self.kind_is_missing());
                }
                step
            }
        }
    }

    fn end_list(&mut self) -> Step {
        let mut step = std::mem::take(&mut self.listing.step);
        let seen = std::mem::take(&mut self.listing.seen);
        let mut gone: Vec<_> = self.known.keys().filter(|object| !seen.contains(*object)).cloned().collect();
        gone.sort_unstable();
        for object in gone {
            self.delete(&object, &mut step);
        }
        step
    }

    /// Returns which object it is.
    fn apply(&mut self, value: Value, step: &mut Step) -> Option<ObjectRef> {
        let object = document::object_ref(self.kind, &value)?;
        let version = value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        let known = self.known.entry(object.clone()).or_default();
        if !version.is_empty() && known.version == version {
            return Some(object);
        }
        version.clone_into(&mut known.version);
        let Read { outcome, findings, .. } = read(self.kind, value, &self.schemas);
        let refused = match outcome {
            Some(Outcome::Good(good)) => {
                let names = named_objects(&good);
                step.gained.extend(names.iter().filter(|name| !known.names.contains(name)).cloned());
                step.lost.extend(known.names.iter().filter(|name| !names.contains(name)).cloned());
                known.names = names;
                let selections = selected_secrets(&good);
                step.selected
                    .extend(selections.iter().filter(|one| !known.selections.contains(one)).cloned());
                step.deselected
                    .extend(known.selections.iter().filter(|one| !selections.contains(one)).cloned());
                known.selections = selections;
                known.good = true;
                step.batch.push(Change::Apply { object: good, origin: None });
                false
            }
            Some(Outcome::Refused(policy)) => {
                if !known.good && self.kind.is_policy() {
                    step.batch.push(Change::Refuse { object: object.clone(), policy, origin: None });
                }
                true
            }
            None => true,
        };
        if known.has_problems || !findings.is_empty() {
            known.has_problems = !findings.is_empty();
            let lines = findings.into_iter().map(problem).collect();
            step.batch.push(problems(path_of(&object), lines, usize::from(refused)));
        }
        Some(object)
    }

    fn delete(&mut self, object: &ObjectRef, step: &mut Step) {
        let Some(known) = self.known.remove(object) else { return };
        step.batch.push(Change::Delete(object.clone()));
        step.lost.extend(known.names);
        step.deselected.extend(known.selections);
        if known.has_problems {
            step.batch.push(problems(path_of(object), Vec::new(), 0));
        }
    }

    fn kind_is_missing(&self) -> Change {
        let line = Problem {
            file: Path::new("").into(),
            line: 0,
            object: self.kind.as_str().to_owned(),
            field: String::new(),
            severity: Severity::Warning,
            message: format!(
                "the cluster has no {} of {}, so there are no objects of this kind",
                self.kind,
                api_version_of(self.kind)
            ),
            remedy: "install the definitions: `baribhara crds | kubectl apply -f -`".to_owned(),
        };
        problems(path_of_kind(self.kind), vec![line], 0)
    }
}

/// What reading an object came to.
#[derive(Debug)]
struct Read {
    /// `None`: it cannot be told which object it is.
    outcome: Option<Outcome>,
    findings: Vec<Finding>,
    /// Why the OCSP response of a Secret is not stapled.
    unstapled: Option<String>,
}

/// Reads an object as the API server sent it: without `kind` and `apiVersion` where it stood in a list.
fn read(kind: Kind, mut value: Value, schemas: &Schemas) -> Read {
    strip(&mut value);
    let status = is_own(kind).then(|| value.get_mut("status").map(Value::take)).flatten();
    if let Value::Object(entries) = &mut value {
        // Where the API server offers two versions of the same shape, it is read as the better one.
        entries.insert("apiVersion".to_owned(), Value::String(api_version_of(kind).to_owned()));
        entries.insert("kind".to_owned(), Value::String(kind.as_str().to_owned()));
    }
    let reading = document::read(value, schemas, false);
    let mut outcome = reading.object.map(|object| object.outcome);
    if let (Some(Outcome::Good(object)), Some(status)) = (&mut outcome, status) {
        // One that cannot be read says nothing of ours, and is written anew.
        object.set_status(serde_json::from_value(status).unwrap_or_default());
    }
    Read { outcome, findings: reading.findings, unstapled: reading.unstapled }
}

/// What a Secret or ConfigMap that was fetched comes to. One that cannot be read leaves the last good version in use.
pub(super) fn fetched(object: &ObjectRef, value: Value, schemas: &Schemas) -> Batch {
    let Read { outcome, findings, unstapled } = read(object.kind, value, schemas);
    let mut batch = Batch::new();
    let refused = match outcome {
        Some(Outcome::Good(good)) => {
            batch.push(Change::Apply { object: good, origin: None });
            let unstapled = unstapled.map(|reason| Change::LeaveUnstapled { object: object.clone(), reason });
            batch.extend(unstapled);
            false
        }
        Some(Outcome::Refused(_)) | None => {
            if object.kind == Kind::Secret {
                let reason = findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
                batch.push(Change::RefuseSecret { object: object.clone(), reason });
            }
            true
        }
    };
    batch.push(say(object, findings, refused));
    batch
}

/// Takes out what nobody reads and what would double the memory that objects need.
fn strip(value: &mut Value) {
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.shift_remove("managedFields");
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
    if annotations.is_some_and(|annotations: &mut Map<String, Value>| {
        annotations.shift_remove(LAST_APPLIED);
        annotations.is_empty()
    }) {
        metadata.shift_remove("annotations");
    }
}

/// Everything that is wrong with one object, in the place of what was said before.
pub(super) fn say(object: &ObjectRef, findings: Vec<Finding>, refused: bool) -> Change {
    problems(path_of(object), findings.into_iter().map(problem).collect(), usize::from(refused))
}

fn problems(file: Arc<Path>, problems: Vec<Problem>, rejected_objects: usize) -> Change {
    Change::Problems { file, problems, rejected_objects }
}

fn problem(finding: Finding) -> Problem {
    let Finding { severity, object, field, message, remedy } = finding;
    Problem { file: Path::new("").into(), line: 0, object, field, severity, message, remedy }
}

/// Under which name problems of an object are kept. Never shown.
fn path_of(object: &ObjectRef) -> Arc<Path> {
    let mut path = PathBuf::from("cluster");
    path.extend([object.kind.as_str(), &object.namespace, &object.name]);
    path.into()
}

fn path_of_kind(kind: Kind) -> Arc<Path> {
    let mut path = PathBuf::from("cluster");
    path.push(kind.as_str());
    path.into()
}
