//! What the extras of a route (error pages and the like) came to.

use std::sync::Arc;

use super::route::RouteMetrics;
use super::value::Counter;

/// The metrics of one route that has extras.
#[derive(Debug)]
pub(crate) struct ExtraMetrics {
    pub(super) label: Arc<str>,
    /// Errors that got their page.
    pub(crate) pages_shown: Counter,
    /// Errors whose page could not be had.
    pub(crate) pages_failed: Counter,
    /// Takes the tries of requests that no client made, and is shown nowhere.
    pub(crate) unshown: RouteMetrics,
}

impl ExtraMetrics {
    pub(super) fn new(label: &Arc<str>) -> Self {
        Self {
            label: Arc::clone(label),
            pages_shown: Counter::default(),
            pages_failed: Counter::default(),
            unshown: RouteMetrics::new(Arc::clone(label), 1),
        }
    }
}
