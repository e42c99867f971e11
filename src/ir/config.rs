//! The whole of what the proxy serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::{HostPattern, Passthrough, Route, RouteId, Tls};

/// Every route, by id. Unchanged routes keep their `Arc` from one config to the next, so that comparing two
/// configs and compiling the next table cost only what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Counts up with each published config; 0 is the empty one before the first.
    pub generation: u64,
    pub routes: BTreeMap<RouteId, Arc<Route>>,
    /// Keeps its `Arc` where nothing of it changed.
    #[serde(skip_serializing_if = "is_without_tls")]
    pub tls: Arc<Tls>,
    /// Hosts whose connections are passed through as they are; none of them is among those of `tls`. Keeps its `Arc`
    /// where nothing of it changed.
    #[serde(skip_serializing_if = "passes_nothing_through")]
    pub passthrough: Arc<BTreeMap<HostPattern, Arc<Passthrough>>>,
}

fn is_without_tls(tls: &Arc<Tls>) -> bool {
    tls.is_empty()
}

fn passes_nothing_through(passthrough: &Arc<BTreeMap<HostPattern, Arc<Passthrough>>>) -> bool {
    passthrough.is_empty()
}

/// What the proxy reports back once every worker serves a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub generation: u64,
}
