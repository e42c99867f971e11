//! What the conditions of an object of ours are to say, from how it stands and how far the replicas are. Talks to
//! nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ConditionReason, ConditionType};
use ir::{KeySetPhase, KeySetState};
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

/// The three conditions that every object has.
pub(super) fn verdicts(standing: &Standing, reach: Reach) -> [Verdict; 3] {
    [
        verdict(ConditionType::Accepted, &standing.accepted),
        verdict(ConditionType::ResolvedRefs, &standing.resolved_refs),
        programmed(standing, reach),
    ]
}

/// Whether the keys are there that the object's providers fetch, as the data plane of the replica that leads has them.
pub(super) fn keys_ready(providers: &BTreeMap<Arc<str>, KeySetState>) -> Option<Verdict> {
    // The worst speaks.
    let (name, state) = providers.iter().max_by_key(|(_, state)| severity(state.phase))?;
    let KeySetState { uri, phase, keys: _, error } = state;
    let why = error.as_deref().unwrap_or("they are too old");
    let (holds, reason, message) = match phase {
        KeySetPhase::Ready => (
            true,
            ConditionReason::JwksReady,
            "the keys of every provider that is used are fetched".to_owned(),
        ),
        KeySetPhase::Failing => {
            let message = format!(
                "provider '{name}': keys are not renewed from {uri}: {why}; the last good ones are used"
            );
            (true, ConditionReason::JwksStale, message)
        }
        KeySetPhase::Waiting => {
            let message = format!("provider '{name}': keys are being fetched from {uri}");
            (false, ConditionReason::JwksPending, message)
        }
        KeySetPhase::Unavailable => {
            let message =
                format!("provider '{name}': there are no keys from {uri}: {why}; its rules answer 503");
            (false, ConditionReason::JwksUnavailable, message)
        }
    };
    Some(Verdict { about: ConditionType::JwksReady, holds, reason, message: short(&message) })
}

const fn severity(phase: KeySetPhase) -> u8 {
    match phase {
        KeySetPhase::Ready => 0,
        KeySetPhase::Failing => 1,
        KeySetPhase::Waiting => 2,
        KeySetPhase::Unavailable => 3,
    }
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
