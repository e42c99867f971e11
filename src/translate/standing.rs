//! What an object of ours is told about itself, as far as translation knows. Whether it is live is for those who know
//! the replicas.

use api::ConditionReason;

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
