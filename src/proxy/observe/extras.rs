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
    /// Copies of requests that were answered.
    pub(crate) mirrors_sent: Counter,
    /// Copies that were not answered.
    pub(crate) mirrors_failed: Counter,
    /// Copies that were not made, or not to their end, because too much was under way.
    pub(crate) mirrors_dropped: Counter,
    /// Requests that were made to wait on purpose.
    pub(crate) faults_delayed: Counter,
    /// Requests that were answered on purpose without asking the backend.
    pub(crate) faults_aborted: Counter,
    /// Takes the tries of requests that no client made, and is shown nowhere.
    pub(crate) unshown: RouteMetrics,
}

impl ExtraMetrics {
    pub(super) fn new(label: &Arc<str>) -> Self {
        Self {
            label: Arc::clone(label),
            pages_shown: Counter::default(),
            pages_failed: Counter::default(),
            mirrors_sent: Counter::default(),
            mirrors_failed: Counter::default(),
            mirrors_dropped: Counter::default(),
            faults_delayed: Counter::default(),
            faults_aborted: Counter::default(),
            unshown: RouteMetrics::new(Arc::clone(label), 1),
        }
    }
}
