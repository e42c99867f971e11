//! What the conditions of an object of ours are to say, from how it stands and how far the replicas are. Talks to
//! nobody.

use api::{ConditionReason, ConditionType};
use translate::{Judgement, MESSAGE_BYTES_MAX, Standing};

use super::target::Verdict;

#[cfg(test)]
mod tests;

/// On how many of the ready replicas an object is live as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) live: usize,
    pub(super) ready: usize,
}

/// The three conditions.
pub(super) fn verdicts(standing: &Standing, reach: Reach) -> [Verdict; 3] {
    [
        verdict(ConditionType::Accepted, &standing.accepted),
        verdict(ConditionType::ResolvedRefs, &standing.resolved_refs),
        programmed(standing, reach),
    ]
}

fn verdict(about: ConditionType, judgement: &Judgement) -> Verdict {
    let Judgement { holds, reason, message } = judgement;
    Verdict { about, holds: *holds, reason: *reason, message: short(message) }
}

fn programmed(standing: &Standing, reach: Reach) -> Verdict {
    let Reach { live, ready } = reach;
    let (holds, reason, message) = if !standing.accepted.holds {
        let message = "not served as it is written: condition Accepted says why, and what to do";
        (false, ConditionReason::Invalid, message.to_owned())
    } else if ready == 0 {
        (false, ConditionReason::Pending, "no replica is ready".to_owned())
    } else if live < ready {
        (false, ConditionReason::Pending, format!("live on {live}/{ready} replicas"))
    } else {
        (true, ConditionReason::Programmed, format!("live on {live}/{ready} replicas{}", remark(standing)))
    };
    Verdict { about: ConditionType::Programmed, holds, reason, message }
}

/// What is not served although the object is live.
fn remark(standing: &Standing) -> &'static str {
    let is_partial = standing.accepted.reason == ConditionReason::PartiallyInvalid;
    match (is_partial, standing.resolved_refs.holds) {
        (false, true) => "",
        (true, true) => "; some of its rules are refused, see condition Accepted",
        (false, false) => "; some of what it names cannot be used, see condition ResolvedRefs",
        (true, false) => {
            "; some of its rules are refused and some of what it names cannot be used, see the other conditions"
        }
    }
}

/// At most as many bytes as a message may have.
fn short(message: &str) -> String {
    const CUT: &str = "…";
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_BYTES_MAX - CUT.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", message.get(..end).unwrap_or_default())
}
