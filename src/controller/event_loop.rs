//! The one owner of the snapshot: takes all changes that are there, translates once, publishes what is new. Reads no
//! object itself; where objects come from is the sources' business.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use ir::{Config, ControlState, EndpointMap, ObjectRef};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};
use translate::{ReportLine, Settings, Severity, Snapshot, Standing, Translator};

use crate::folder::Locator;
use crate::outlook::{MarkScope, Marks, Outlook};
use crate::problem::{Problem, Problems};
use crate::source::{Batch, Change, Origin};

#[cfg(test)]
mod tests;

/// How many lines of one report get the line of their field; the rest get that of their object.
const LOCATED_MAX: usize = 2_000;
/// How many problems are logged at once; then only how many more there are.
const LOGGED_MAX: usize = 100;

/// Where results are published. Whoever holds the other ends sees only the newest.
#[derive(Debug)]
pub(crate) struct Outlets {
    state: watch::Sender<ControlState>,
    config: watch::Sender<Arc<Config>>,
    endpoints: watch::Sender<Arc<EndpointMap>>,
    problems: watch::Sender<Arc<Problems>>,
    outlook: watch::Sender<Arc<Outlook>>,
}

/// The receiving ends.
#[derive(Debug)]
pub(crate) struct Inlets {
    pub(crate) state: watch::Receiver<ControlState>,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) endpoints: watch::Receiver<Arc<EndpointMap>>,
    pub(crate) problems: watch::Receiver<Arc<Problems>>,
    pub(crate) outlook: watch::Receiver<Arc<Outlook>>,
}

/// The snapshot, the translator's memory and what was published last.
#[derive(Debug)]
pub(crate) struct Control {
    settings: Settings,
    snapshot: Snapshot,
    translator: Translator,
    outlets: Outlets,
    synced: bool,
    /// Something came that is not just what a controller said of an object.
    is_new: bool,
    /// What is served comes from an old copy.
    copied: bool,
    origins: HashMap<ObjectRef, Origin>,
    files: BTreeMap<Arc<Path>, FileProblems>,
    /// The last report with the places of its lines.
    located: BTreeMap<ReportLine, Problem>,
    /// Objects whose place is not the one in `located`.
    moved: HashSet<ObjectRef>,
    logs: bool,
    marks: Marks,
    scope: MarkScope,
}

#[derive(Debug)]
struct FileProblems {
    problems: Vec<Problem>,
    rejected_objects: usize,
}

impl Outlets {
    pub(crate) fn new() -> (Self, Inlets) {
        let (state, state_inlet) = watch::channel(ControlState::default());
        let (config, config_inlet) = watch::channel(Arc::default());
        let (endpoints, endpoints_inlet) = watch::channel(Arc::default());
        let (problems, problems_inlet) = watch::channel(Arc::default());
        let (outlook, outlook_inlet) = watch::channel(Arc::default());
        let inlets = Inlets {
            state: state_inlet,
            config: config_inlet,
            endpoints: endpoints_inlet,
            problems: problems_inlet,
            outlook: outlook_inlet,
        };
        (Self { state, config, endpoints, problems, outlook }, inlets)
    }

    /// For those who know a part of the state that the owner of the snapshot does not.
    pub(crate) fn state(&self) -> watch::Sender<ControlState> {
        self.state.clone()
    }
}

impl Control {
    pub(crate) fn new(settings: Settings, outlets: Outlets) -> Self {
        Self {
            settings,
            snapshot: Snapshot::default(),
            translator: Translator::default(),
            outlets,
            synced: false,
            is_new: true,
            copied: false,
            origins: HashMap::new(),
            files: BTreeMap::new(),
            located: BTreeMap::new(),
            moved: HashSet::new(),
            logs: true,
            marks: Marks::default(),
            scope: MarkScope::default(),
        }
    }

    /// Where only some namespaces are watched.
    pub(crate) fn with_scope(self, scope: MarkScope) -> Self {
        Self { scope, ..self }
    }

    /// Problems are published and not logged.
    pub(crate) fn silent(self) -> Self {
        Self { logs: false, ..self }
    }

    /// Works until no source is left.
    pub(crate) fn run(mut self, mut inbox: mpsc::Receiver<Batch>) {
        while let Some(batch) = inbox.blocking_recv() {
            self.take_in(batch);
            // Whatever came meanwhile is translated together; there is no timer.
            while let Ok(batch) = inbox.try_recv() {
                self.take_in(batch);
            }
            self.publish();
        }
    }

    /// Brings the snapshot up to date.
    pub(crate) fn take_in(&mut self, batch: Batch) {
        for change in batch {
            self.is_new |= !self.is_status_only(&change);
            match change {
                Change::Apply { object, origin } => {
                    let id = object.object_ref();
                    self.marks.take(self.scope, &id, object.metadata());
                    self.set_origin(id, origin);
                    self.snapshot.apply(object);
                }
                Change::Move { object, origin } => self.set_origin(object, Some(origin)),
                Change::Refuse { object, policy, origin } => {
                    self.snapshot.refused.insert(object.clone(), policy);
                    self.set_origin(object, origin);
                }
                Change::RefuseSecret { object, reason } => self.snapshot.refuse_secret(&object, reason),
                Change::LeaveUnstapled { object, reason } => self.snapshot.leave_unstapled(&object, reason),
                Change::Delete(object) => {
                    self.snapshot.delete(&object);
                    self.origins.remove(&object);
                }
                Change::Problems { file, problems, rejected_objects } if problems.is_empty() => {
                    debug_assert_eq!(rejected_objects, 0, "what is rejected is said");
                    self.files.remove(&file);
                }
                Change::Problems { file, problems, rejected_objects } => {
                    self.files.insert(file, FileProblems { problems, rejected_objects });
                }
                Change::Synced => {
                    self.synced = true;
                    self.copied = false;
                }
                Change::Copied => self.serve_copy(),
            }
        }
    }

    /// Of all that the replicas write, each of them hears, and there is nothing to translate anew.
    fn is_status_only(&self, change: &Change) -> bool {
        let Change::Apply { object, origin: None } = change else { return false };
        let id = object.object_ref();
        let last = self.snapshot.object(&id).filter(|_| !self.snapshot.refused.contains_key(&id));
        last.is_some_and(|last| object.differs_in_status_only(&last))
    }

    /// Translates and publishes what is other than before. Nothing before all objects were seen once.
    pub(crate) fn publish(&mut self) {
        if !self.synced {
            return;
        }
        let standings = if std::mem::take(&mut self.is_new) {
            Arc::new(self.publish_translation())
        } else {
            Arc::clone(&self.outlets.outlook.borrow().standings)
        };
        let generation = self.outlets.config.borrow().generation;
        // A folder has nobody who would look.
        if !self.outlets.outlook.is_closed() {
            let last = Arc::clone(&self.outlets.outlook.borrow());
            let outlook = last.next(generation, &self.marks, &self.snapshot, standings);
            self.outlets.outlook.send_replace(Arc::new(outlook));
        }
    }

    /// Returns how the objects stand.
    fn publish_translation(&mut self) -> BTreeMap<ObjectRef, Arc<Standing>> {
        let translation = self.translator.translate_routes(&self.snapshot, &self.settings);
        let mut config = translation.config;
        let endpoints = self.translator.translate_endpoints(&self.snapshot, &self.settings, &config);
        let (generation, changed) = {
            let last = self.outlets.config.borrow();
            let same = last.routes == config.routes
                && last.tls == config.tls
                && last.passthrough == config.passthrough;
            (last.generation, last.generation == 0 || !same)
        };
        // First, so that whoever takes the config knows whether it lacks something.
        self.publish_state(if changed { generation + 1 } else { generation });
        // Before the config that needs them; the data plane keeps those of the config before it by itself.
        send_if_new(&self.outlets.endpoints, endpoints);
        if changed {
            config.generation = generation + 1;
            self.outlets.config.send_replace(Arc::new(config));
        }
        // Lines are looked for after the config is out.
        let mut lines = translation.report.lines;
        lines.extend(self.translator.endpoint_report().lines);
        self.publish_problems(lines);
        translation.standings
    }

    /// Serves what is there and forgets it, so that the true objects start from nothing.
    fn serve_copy(&mut self) {
        self.copied = true;
        self.publish_translation();
        self.synced = false;
        self.snapshot = Snapshot::default();
        self.origins.clear();
        self.files.clear();
        self.marks = Marks::default();
    }

    fn publish_state(&self, published_generation: u64) {
        let rejected_objects = u64::try_from(self.rejected_objects()).unwrap_or(u64::MAX);
        self.outlets.state.send_if_modified(|state| {
            let new = state.rejected_objects != rejected_objects
                || state.published_generation != published_generation
                || state.last_good_in_use != self.copied;
            state.rejected_objects = rejected_objects;
            state.published_generation = published_generation;
            state.last_good_in_use = self.copied;
            new
        });
    }

    fn rejected_objects(&self) -> usize {
        self.files.values().map(|file| file.rejected_objects).sum()
    }

    fn publish_problems(&mut self, report: Vec<ReportLine>) {
        self.locate(report);
        let mut lines: Vec<Problem> = self.files.values().flat_map(|file| &file.problems).cloned().collect();
        lines.extend(self.located.values().cloned());
        lines.sort_unstable();
        let problems = Problems { lines, rejected_objects: self.rejected_objects() };
        if self.logs {
            log_difference(&self.outlets.problems.borrow().lines, &problems.lines);
        }
        send_if_new(&self.outlets.problems, problems);
    }

    /// Gives each line of the report its place; those that were there before keep theirs.
    fn locate(&mut self, report: Vec<ReportLine>) {
        let mut last = std::mem::take(&mut self.located);
        let mut fresh = Vec::new();
        for line in report {
            match last.remove(&line) {
                Some(problem) if !self.moved.contains(&line.object) => {
                    drop(self.located.insert(line, problem))
                }
                Some(_) | None => fresh.push(line),
            }
        }
        self.moved.clear();
        fresh.sort_by(|a, b| {
            let file = |line: &ReportLine| self.origins.get(&line.object).map(|origin| &origin.file);
            file(a).cmp(&file(b))
        });
        let mut locator = Locator::default();
        for (index, line) in fresh.into_iter().enumerate() {
            let (file, number) = match self.origins.get(&line.object) {
                Some(origin) if index < LOCATED_MAX => {
                    (Arc::clone(&origin.file), locator.line(origin, &line.field))
                }
                Some(origin) => (Arc::clone(&origin.file), origin.line),
                None => (Path::new("").into(), 0),
            };
            let problem = Problem {
                file,
                line: number,
                object: line.object.to_string(),
                field: line.field.clone(),
                severity: line.severity,
                message: line.message.clone(),
                remedy: line.remedy.clone(),
            };
            self.located.insert(line, problem);
        }
    }

    fn set_origin(&mut self, object: ObjectRef, origin: Option<Origin>) {
        if let Some(origin) = origin {
            self.moved.insert(object.clone());
            self.origins.insert(object, origin);
        }
    }
}

fn send_if_new<T: PartialEq>(sender: &watch::Sender<Arc<T>>, value: T) {
    sender.send_if_modified(|last| {
        let new = **last != value;
        if new {
            *last = Arc::new(value);
        }
        new
    });
}

/// Each problem is logged once when it comes and once when it goes; a line that only moved is neither.
fn log_difference(last: &[Problem], now: &[Problem]) {
    if last == now {
        return;
    }
    let key = |problem: &Problem| Problem { line: 0, ..problem.clone() };
    let before: HashSet<Problem> = last.iter().map(key).collect();
    let after: HashSet<Problem> = now.iter().map(key).collect();
    let came: Vec<&Problem> = now.iter().filter(|problem| !before.contains(&key(problem))).collect();
    let went: Vec<&Problem> = last.iter().filter(|problem| !after.contains(&key(problem))).collect();
    for problem in came.iter().take(LOGGED_MAX) {
        log_problem(problem);
    }
    for problem in went.iter().take(LOGGED_MAX) {
        let Problem { file, object, field, message, .. } = problem;
        info!(file = %file.display(), object, field, problem = message, "problem is gone");
    }
    for (list, what) in [(&came, "came"), (&went, "went")] {
        if list.len() > LOGGED_MAX {
            warn!(what, problems = list.len() - LOGGED_MAX, "more problems than are logged");
        }
    }
}

fn log_problem(problem: &Problem) {
    let Problem { file, line, object, field, severity, message, remedy } = problem;
    let file = file.display();
    match severity {
        Severity::Error => {
            error!(%file, line, object, field, problem = message, remedy, "object has a problem")
        }
        Severity::Warning => {
            warn!(%file, line, object, field, problem = message, remedy, "object has a problem")
        }
        Severity::Info => {
            info!(%file, line, object, field, problem = message, remedy, "object is worth a look")
        }
    }
}
