//! How the halves are, each for the other: the control plane for metrics and probes, which the data plane shows and never
//! acts on; the key sets that the data plane fetches for the status of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::{KeysUri, Kind, ObjectRef};

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
    /// How often a watch has panicked and begun again.
    pub watch_restarts: u64,
}

/// How the key sets are that the data plane fetches, by the object that names them and the name of its provider. Only those
/// that a rule uses.
pub type KeySetStates = BTreeMap<ObjectRef, BTreeMap<Arc<str>, KeySetState>>;

/// How one key set is. Changes when something happens, not with time alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySetState {
    pub uri: KeysUri,
    pub phase: KeySetPhase,
    /// How many keys are in use.
    pub keys: usize,
    /// Why the last fetch brought nothing. Holds nothing secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
}

/// What tokens of its provider meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KeySetPhase {
    /// The first fetch is under way.
    Waiting,
    /// The newest keys.
    Ready,
    /// Keys that came before the provider began to fail.
    Failing,
    /// No keys: 503.
    Unavailable,
}
