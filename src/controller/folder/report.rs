//! What a folder has to say about its files, as lines for people, and how a field's line is found again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ir::ObjectRef;
use translate::Severity;

use super::claims::Claim;
use super::{Folder, absolute, read};
use crate::document::Finding;
use crate::problem::Problem;
use crate::source::{Batch, Change, Origin};
use crate::yaml::{self, Chunk};

/// How many lines are said about one file; then only how many more there are.
const PROBLEMS_PER_FILE_MAX: usize = 200;

impl Folder {
    /// Everything that is to be said about a file now.
    pub(super) fn problems_of(&self, file: &Arc<Path>) -> Change {
        let Some(entry) = self.files.get(file) else {
            return Change::Problems { file: Arc::clone(file), problems: Vec::new(), rejected_objects: 0 };
        };
        let mut problems: Vec<Problem> = Vec::new();
        let broken = entry.broken.iter().map(|(line, finding)| problem(file, *line, finding));
        problems.extend(broken);
        let mut rejected_objects = usize::from(!problems.is_empty());
        for chunk in &entry.chunks {
            let findings = chunk.body.findings.iter();
            problems
                .extend(findings.map(|(line, finding)| problem(file, absolute(chunk.line, *line), finding)));
            for placed in &chunk.body.objects {
                let line = absolute(chunk.line, placed.line);
                let rival = self.claims.rival(&placed.object, file, line);
                rejected_objects += usize::from(!placed.good || rival.is_some());
                problems.extend(rival.map(|winner| duplicate(file, line, &placed.object, winner)));
            }
        }
        problems.sort_unstable();
        if problems.len() > PROBLEMS_PER_FILE_MAX {
            problems.sort_by_key(|problem| problem.severity);
            let more = problems.split_off(PROBLEMS_PER_FILE_MAX);
            let worst = more.first().map_or(Severity::Info, |problem| problem.severity);
            let message = format!("{} more lines about this file are left out", more.len());
            problems.push(whole_file(file, worst, message, ""));
        }
        Change::Problems { file: Arc::clone(file), problems, rejected_objects }
    }

    /// Takes note of the directories that cannot be read and says what changed about them.
    pub(super) fn report_unreadable(&mut self, unreadable: BTreeMap<Arc<Path>, String>) -> Batch {
        let mut batch = Batch::new();
        for (path, error) in &unreadable {
            if self.unreadable.get(path) != Some(error) {
                let message = format!("the folder cannot be read: {error}; what was read of it before stays");
                let remedy = "make it readable for the gateway";
                let problems = vec![whole_file(path, Severity::Error, message, remedy)];
                batch.push(Change::Problems { file: Arc::clone(path), problems, rejected_objects: 1 });
            }
        }
        for path in self.unreadable.keys().filter(|path| !unreadable.contains_key(*path)) {
            batch.push(Change::Problems {
                file: Arc::clone(path),
                problems: Vec::new(),
                rejected_objects: 0,
            });
        }
        self.unreadable = unreadable;
        batch
    }
}

/// Finds the lines of fields by reading the files once more. Lives for one round of messages: it holds the text of
/// the file that was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Locator {
    file: Option<Arc<Path>>,
    text: String,
    /// Byte range and line of each chunk by fingerprint.
    chunks: HashMap<u64, (std::ops::Range<usize>, u32)>,
}

impl Locator {
    /// The line of a field of the object at this place; of the object where the field is not found or the file has
    /// changed since. Cheapest when asked file by file.
    pub(crate) fn line(&mut self, origin: &Origin, field: &str) -> u32 {
        self.open(&origin.file);
        let Some((range, line)) = self.chunks.get(&origin.place.chunk) else { return origin.line };
        let text = self.text.get(range.clone()).unwrap_or_default();
        let format = read::format_of(&origin.file);
        read::locate_field(&Chunk { text, line: *line, format }, origin.place, field).unwrap_or(origin.line)
    }

    fn open(&mut self, file: &Arc<Path>) {
        if self.file.as_ref() == Some(file) {
            return;
        }
        self.file = Some(Arc::clone(file));
        self.chunks.clear();
        self.text.clear();
        let too_large = fs::metadata(file).map_or(true, |metadata| metadata.len() > yaml::FILE_BYTES_MAX);
        let bytes = if too_large { Vec::new() } else { fs::read(file).unwrap_or_default() };
        let Ok(text) = yaml::decode(&bytes) else { return };
        self.text.push_str(text);
        let mut at = 0;
        for chunk in yaml::split(&self.text, read::format_of(file)) {
            // Chunks are pieces of the text, in order.
            let Some(start) = self.text.get(at..).and_then(|rest| rest.find(chunk.text)) else { continue };
            let range = at + start..at + start + chunk.text.len();
            at = range.end;
            self.chunks.insert(chunk.fingerprint(), (range, chunk.line));
        }
    }
}

fn problem(file: &Arc<Path>, line: u32, finding: &Finding) -> Problem {
    Problem {
        file: Arc::clone(file),
        line,
        object: finding.object.clone(),
        field: finding.field.clone(),
        severity: finding.severity,
        message: finding.message.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn duplicate(file: &Arc<Path>, line: u32, object: &ObjectRef, winner: &Claim) -> Problem {
    let place = format!("{}:{}", winner.file.display(), winner.line);
    Problem {
        file: Arc::clone(file),
        line,
        object: object.to_string(),
        field: String::new(),
        severity: Severity::Error,
        message: format!("the object stands in two places; the one in {place} is used, this one is not"),
        remedy: "remove or rename one of them".to_owned(),
    }
}

fn whole_file(file: &Arc<Path>, severity: Severity, message: String, remedy: &str) -> Problem {
    Problem {
        file: Arc::clone(file),
        line: 0,
        object: String::new(),
        field: String::new(),
        severity,
        message,
        remedy: remedy.to_owned(),
    }
}
