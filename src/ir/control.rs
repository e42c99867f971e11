//! How the control plane is, for metrics and probes. The data plane shows it and never acts on it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Kind;

/// What the control plane says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlState {
    /// How many objects are refused now. Set before the config that lacks them is published.
    pub rejected_objects: u64,
    /// The generation that was published last; the data plane is behind while it serves an older one.
    pub published_generation: u64,
    /// Whether this replica writes status.
    pub is_leader: bool,
    /// Whether the objects served are those of the last good copy, because the API server was not reached yet.
    pub last_good_in_use: bool,
    /// By kind, whether its watch stands. Empty where there is no cluster.
    pub watches: BTreeMap<Kind, bool>,
}
