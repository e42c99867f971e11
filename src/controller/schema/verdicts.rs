//! Remembers which values keep all rules of a node, for nodes whose rules look only at which fields are there
//! and at choices among a few texts. Most nodes are so, and evaluating an expression costs a hundred times a
//! look-up.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// The most combinations that are remembered for one node.
const COMBINATIONS_MAX: usize = 4096;

/// One bit for each combination that the rules can tell apart.
pub(super) struct Verdicts {
    dials: Vec<Dial>,
    /// Set once the combination was seen to keep all rules. Relaxed: a bit that is seen late costs one
    /// evaluation.
    holds: Vec<AtomicBool>,
}

/// What the rules can see of one field.
pub(super) struct Dial {
    pub(super) name: String,
    pub(super) sight: Sight,
}

/// How much of a field the rules see.
pub(super) enum Sight {
    Presence,
    Boolean,
    /// Which of these texts it is.
    Choice(Vec<String>),
}

impl Verdicts {
    /// `None`: too many combinations.
    pub(super) fn new(dials: Vec<Dial>) -> Option<Self> {
        let mut combinations: usize = 1;
        for dial in &dials {
            combinations = combinations.checked_mul(dial.positions())?;
            if combinations > COMBINATIONS_MAX {
                return None;
            }
        }
        Some(Self { dials, holds: (0..combinations).map(|_| AtomicBool::new(false)).collect() })
    }

    /// The bit of this value; `None`: it has none.
    pub(super) fn of(&self, value: &Value) -> Option<&AtomicBool> {
        let fields = value.as_object()?;
        let mut index = 0;
        for dial in &self.dials {
            index = index * dial.positions() + dial.position(fields.get(&dial.name))?;
        }
        self.holds.get(index)
    }
}

impl Dial {
    fn positions(&self) -> usize {
        match &self.sight {
            Sight::Presence => 2,
            Sight::Boolean => 3,
            Sight::Choice(choices) => choices.len() + 1,
        }
    }

    fn position(&self, field: Option<&Value>) -> Option<usize> {
        match (&self.sight, field) {
            (_, None) => Some(0),
            (Sight::Presence, Some(_)) => Some(1),
            (Sight::Boolean, Some(value)) => value.as_bool().map(|value| 1 + usize::from(value)),
            (Sight::Choice(choices), Some(value)) => {
                let text = value.as_str()?;
                choices.iter().position(|choice| choice == text).map(|position| 1 + position)
            }
        }
    }
}

/// Whether the rules are known to hold.
pub(super) fn known(bit: Option<&AtomicBool>) -> bool {
    bit.is_some_and(|bit| bit.load(Ordering::Relaxed))
}

/// Remembers that the rules hold.
pub(super) fn remember(bit: Option<&AtomicBool>) {
    if let Some(bit) = bit {
        bit.store(true, Ordering::Relaxed);
    }
}
