//! What translation has to say about the objects: one line per finding. Must not hold a secret's bytes.

use std::fmt;

use api::ConditionReason;
use ir::ObjectRef;
use serde::Serialize;

/// All findings of one translation, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub lines: Vec<ReportLine>,
}

impl Report {
    /// How many lines have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.lines.iter().filter(|line| line.severity == severity).count()
    }

    pub(crate) fn from_lines(mut lines: Vec<ReportLine>) -> Self {
        lines.sort_unstable();
        lines.dedup();
        Self { lines }
    }
}

/// One finding. Files and line numbers are added by the source that read the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReportLine {
    pub object: ObjectRef,
    /// The way to the field, like `spec.rules[2].filters[0].urlRewrite.path.regex`.
    pub field: String,
    pub severity: Severity,
    /// What is wrong and what follows from it.
    pub message: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
    /// Which condition of the object does not hold, or not whole, because of this. `None`: all hold.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

/// What a finding takes from the conditions of its object. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `Accepted`: a part is refused and answers 500.
    Invalid,
    /// `Accepted`: a policy names a rule that its target has not, which is served without the policy.
    RuleNotFound,
    /// `Accepted`: a policy names an object that is not there.
    TargetNotFound,
    /// `ResolvedRefs`: no ReferenceGrant permits the reference.
    RefNotPermitted,
    /// `ResolvedRefs`: the install does not let objects lead there.
    AddressNotPermitted,
    /// `ResolvedRefs`: a Secret, ConfigMap, policy or entry that is named is not there.
    InvalidReference,
    /// `ResolvedRefs`: a Service or its port is not there.
    BackendNotFound,
    /// `ResolvedRefs`: the Secret of a certificate, or what holds authorities, is not there. Whoever issues certificates may
    /// be about to make it.
    CertificateNotFound,
    /// `ResolvedRefs`: the OCSP response beside a certificate cannot be stapled. The certificate is served without it.
    OcspResponseUnusable,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Something that was written is not served as written.
    Error,
    /// Served as written, but most likely not what was meant, or missing something that may still come.
    Warning,
    /// Worth knowing.
    Info,
}

impl Fault {
    /// The reason of the condition that does not hold.
    pub const fn reason(self) -> ConditionReason {
        match self {
            Self::Invalid => ConditionReason::Invalid,
            Self::RuleNotFound | Self::TargetNotFound => ConditionReason::TargetNotFound,
            Self::RefNotPermitted => ConditionReason::RefNotPermitted,
            Self::AddressNotPermitted => ConditionReason::AddressNotPermitted,
            Self::InvalidReference | Self::CertificateNotFound | Self::OcspResponseUnusable => {
                ConditionReason::InvalidReference
            }
            Self::BackendNotFound => ConditionReason::BackendNotFound,
        }
    }

    /// Whether it is the condition `ResolvedRefs`, not `Accepted`, that does not hold.
    pub const fn is_of_references(self) -> bool {
        match self {
            Self::Invalid | Self::RuleNotFound | Self::TargetNotFound => false,
            Self::RefNotPermitted
            | Self::AddressNotPermitted
            | Self::InvalidReference
            | Self::BackendNotFound
            | Self::CertificateNotFound
            | Self::OcspResponseUnusable => true,
        }
    }

    /// What is not there may still come.
    const fn severity(self) -> Severity {
        match self {
            Self::Invalid
            | Self::RuleNotFound
            | Self::RefNotPermitted
            | Self::AddressNotPermitted
            | Self::InvalidReference => Severity::Error,
            Self::TargetNotFound
            | Self::BackendNotFound
            | Self::CertificateNotFound
            | Self::OcspResponseUnusable => Severity::Warning,
        }
    }
}

/// Collects the findings about one object.
#[derive(Debug)]
pub(crate) struct Lines {
    object: ObjectRef,
    lines: Vec<ReportLine>,
}

/// The part could not be built and a line says why. Carries nothing, because the line has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl Lines {
    pub(crate) fn new(object: ObjectRef) -> Self {
        Self { object, lines: Vec::new() }
    }

    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Writes what is refused for its own sake, and gives what the caller returns for it.
    pub(crate) fn error(&mut self, field: Field<'_>, message: impl Into<String>, remedy: &str) -> Refused {
        self.fault(Fault::Invalid, field, message, remedy)
    }

    /// Writes what takes something from a condition, and gives what the caller returns for the part.
    pub(crate) fn fault(
        &mut self,
        fault: Fault,
        field: Field<'_>,
        message: impl Into<String>,
        remedy: &str,
    ) -> Refused {
        self.push((fault.severity(), Some(fault)), field, message.into(), remedy);
        Refused
    }

    /// Writes what leaves every condition as it is.
    pub(crate) fn warning(&mut self, field: Field<'_>, message: impl Into<String>, remedy: &str) {
        self.push((Severity::Warning, None), field, message.into(), remedy);
    }

    /// Writes what leaves every condition as it is.
    pub(crate) fn info(&mut self, field: Field<'_>, message: impl Into<String>) {
        self.push((Severity::Info, None), field, message.into(), "");
    }

    /// Takes over what was found elsewhere about the same object.
    pub(crate) fn append(&mut self, found: impl Iterator<Item = ReportLine>) {
        self.lines.extend(found);
    }

    pub(crate) fn into_vec(self) -> Vec<ReportLine> {
        self.lines
    }

    fn push(
        &mut self,
        (severity, fault): (Severity, Option<Fault>),
        field: Field<'_>,
        message: String,
        remedy: &str,
    ) {
        self.lines.push(ReportLine {
            object: self.object.clone(),
            field: field.to_string(),
            severity,
            message,
            remedy: remedy.to_owned(),
            fault,
        });
    }
}

/// The way to a field, kept as links on the stack so that good objects cost no formatting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
    /// A key with characters of its own, like an annotation's name.
    Quoted(&'a str),
    /// Steps that are written already.
    Way(&'a str),
}

impl<'a> Field<'a> {
    pub(crate) const fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Key(name) }
    }

    pub(crate) const fn key(&'a self, name: &'a str) -> Self {
        Field { parent: Some(self), step: Step::Key(name) }
    }

    pub(crate) const fn index(&'a self, index: usize) -> Self {
        Field { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) const fn quoted(&'a self, name: &'a str) -> Self {
        Field { parent: Some(self), step: Step::Quoted(name) }
    }

    /// Steps as another reader wrote them, like `on[0]` or `[0].cors`; empty: none.
    pub(crate) const fn way(&'a self, way: &'a str) -> Self {
        Field { parent: Some(self), step: Step::Way(way) }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(name) if self.parent.is_none() => f.write_str(name),
            Step::Key(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Quoted(name) => write!(f, "['{name}']"),
            Step::Way(way) if way.is_empty() || way.starts_with('[') => f.write_str(way),
            Step::Way(way) => write!(f, ".{way}"),
        }
    }
}
