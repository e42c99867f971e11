//! What people are told about their objects: one line per problem, with its place. Must not hold a secret's bytes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use translate::Severity;

/// One thing that is wrong, or worth knowing, and where it stands.
///
/// Written as `file:line: Kind/namespace/name: field: message; remedy`; what is empty is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// The file as it is reached from the folder that was named; empty where the object came from elsewhere.
    #[serde(serialize_with = "path")]
    pub file: Arc<Path>,
    /// From 1; 0: the file as a whole.
    pub line: u32,
    /// `Kind/namespace/name`; empty for a file as a whole.
    pub object: String,
    /// The way to the field, like `spec.rules[2].filters[0]`; empty for the object as a whole.
    pub field: String,
    pub severity: Severity,
    /// What is wrong and what follows from it.
    pub message: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// All problems of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// In the order of file, line and object.
    pub lines: Vec<Problem>,
    /// How many objects are refused as they stand now (the last good version of each stays), plus one for each file
    /// that cannot be read at all.
    pub rejected_objects: usize,
}

impl Problems {
    /// How many lines have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.lines.iter().filter(|line| line.severity == severity).count()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

fn path<S: Serializer>(value: &Path, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&value.display())
}
