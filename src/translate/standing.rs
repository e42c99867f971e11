//! What an object of ours is told about itself, as far as translation knows. Whether it is live is for those who know
//! the replicas.

use std::sync::{Arc, LazyLock};

use api::ConditionReason;

use crate::report::{ReportLine, Severity};

/// How one Ingress, GatewayRoute or policy of ours stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Condition `Accepted`.
    pub accepted: Judgement,
    /// Condition `ResolvedRefs`.
    pub resolved_refs: Judgement,
}

/// One condition without the parts that time adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the condition's status is `True`.
    pub holds: bool,
    pub reason: ConditionReason,
    /// Names the field and the remedy where something is wrong. At most [`MESSAGE_BYTES_MAX`] bytes; never a secret's.
    pub message: String,
}

/// The longest message of a condition: far below the API's 32 KiB, for it is read in a terminal.
pub const MESSAGE_BYTES_MAX: usize = 1000;

/// What is left of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// At least a part is served, or nothing was asked for.
    Served,
    /// All of it is refused for its own sake.
    Refused,
    /// It is a policy, and nothing that it targets is there.
    NoTarget,
}

const ACCEPTED: &str = "no part of the object is refused";
const REFUSED: &str = "every part of the object is refused";
const RESOLVED: &str = "every reference that was followed leads to something that is there";
/// Between the findings of one message.
const SEPARATOR: &str = " | ";
/// Where a message was cut.
const CUT: &str = "…";

/// Most objects stand well, so they share one.
static GOOD: LazyLock<Arc<Standing>> = LazyLock::new(|| Arc::new(judge(&[], Extent::Served)));

/// How an object stands after these findings; the old one, where it is equal.
pub(crate) fn standing(
    lines: &[&[ReportLine]],
    extent: Extent,
    old: Option<&Arc<Standing>>,
) -> Arc<Standing> {
    let faults: Vec<&ReportLine> =
        lines.iter().copied().flatten().filter(|line| line.fault.is_some()).collect();
    if faults.is_empty() && extent == Extent::Served {
        return Arc::clone(&GOOD);
    }
    let standing = judge(&faults, extent);
    match old {
        Some(old) if **old == standing => Arc::clone(old),
        Some(_) | None => Arc::new(standing),
    }
}

/// How an object stands from which an older one takes what `line` says, or all of it (`whole`).
pub(crate) fn lessened(standing: &Standing, line: &ReportLine, whole: bool) -> Standing {
    let before = &standing.accepted;
    let accepted = if before.reason == ConditionReason::Accepted || (before.holds && whole) {
        let reason = if whole { ConditionReason::Invalid } else { ConditionReason::PartiallyInvalid };
        Judgement { holds: !whole, reason, message: cut(&text(line), MESSAGE_BYTES_MAX) }
    } else {
        before.clone()
    };
    Standing { accepted, resolved_refs: standing.resolved_refs.clone() }
}

fn judge(faults: &[&ReportLine], extent: Extent) -> Standing {
    let (mut references, mut parts): (Vec<&ReportLine>, Vec<&ReportLine>) =
        faults.iter().partition(|line| line.fault.is_some_and(|fault| fault.is_of_references()));
    // Stable: findings of one sort stay in the order of the object's fields.
    references.sort_by_key(|line| line.fault);
    parts.sort_by_key(|line| line.fault);
    Standing { accepted: accepted(&parts, extent), resolved_refs: resolved_refs(&references) }
}

fn accepted(parts: &[&ReportLine], extent: Extent) -> Judgement {
    let (holds, reason) = match extent {
        Extent::Refused => (false, ConditionReason::Invalid),
        Extent::NoTarget => (false, ConditionReason::TargetNotFound),
        Extent::Served if parts.iter().any(|line| line.severity == Severity::Error) => {
            (true, ConditionReason::PartiallyInvalid)
        }
        Extent::Served => (true, ConditionReason::Accepted),
    };
    let message = match (parts, extent) {
        ([], Extent::Served) => ACCEPTED.to_owned(),
        ([], Extent::Refused | Extent::NoTarget) => REFUSED.to_owned(),
        ([only], _) => cut(&text(only), MESSAGE_BYTES_MAX),
        ([first, more @ ..], _) => {
            let suffix = format!(" (and {} more)", more.len());
            cut(&text(first), MESSAGE_BYTES_MAX - suffix.len()) + &suffix
        }
    };
    Judgement { holds, reason, message }
}

fn resolved_refs(references: &[&ReportLine]) -> Judgement {
    let reason = references.first().and_then(|line| line.fault).map(|fault| fault.reason());
    let mut message = String::new();
    for line in references {
        if message.len() > MESSAGE_BYTES_MAX {
            break;
        }
        if !message.is_empty() {
            message.push_str(SEPARATOR);
        }
        message.push_str(&text(line));
    }
    match reason {
        Some(reason) => Judgement { holds: false, reason, message: cut(&message, MESSAGE_BYTES_MAX) },
        None => {
            Judgement { holds: true, reason: ConditionReason::ResolvedRefs, message: RESOLVED.to_owned() }
        }
    }
}

/// `field: message; remedy`.
fn text(line: &ReportLine) -> String {
    let ReportLine { field, message, remedy, .. } = line;
    let mut text = if field.is_empty() { message.clone() } else { format!("{field}: {message}") };
    if !remedy.is_empty() {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}

/// At most so many bytes, ending at a whole character.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - CUT.len());
    text.get(..end).unwrap_or_default().to_owned() + CUT
}

#[cfg(test)]
mod tests;
