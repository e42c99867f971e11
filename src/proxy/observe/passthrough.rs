//! What became of the connections that a route passes through.

use std::sync::Arc;

use super::value::Counter;

/// The metrics of one route of this kind.
#[derive(Debug)]
pub(crate) struct PassthroughMetrics {
    pub(super) label: Arc<str>,
    pub(super) results: [Counter; PASSTHROUGH_RESULTS.len()],
}

/// What became of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassthroughResult {
    /// An endpoint was reached.
    Ok,
    /// There is none, or the backend is missing.
    NoEndpoint,
    /// None of them could be reached.
    ConnectFailed,
    BreakerOpen,
}

impl PassthroughMetrics {
    pub(super) fn new(label: &Arc<str>) -> Self {
        Self { label: Arc::clone(label), results: Default::default() }
    }

    pub(crate) fn ended(&self, result: PassthroughResult) {
        if let Some(counter) = self.results.get(result as usize) {
            counter.inc();
        }
    }
}

/// In the order of the enum, which is that of the array in [`PassthroughMetrics`].
pub(super) const PASSTHROUGH_RESULTS: [(PassthroughResult, &str); 4] = [
    (PassthroughResult::Ok, "ok"),
    (PassthroughResult::NoEndpoint, "no_endpoint"),
    (PassthroughResult::ConnectFailed, "connect_failed"),
    (PassthroughResult::BreakerOpen, "breaker_open"),
];
