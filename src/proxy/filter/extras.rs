//! The extras of a route, with the handles that its requests need. Asks nobody itself.

use std::sync::Arc;

use ir::{BackendTarget, SideBackend};

use super::error_page::PageSource;
use crate::generation::RouteBackend;
use crate::observe::ExtraMetrics;

/// What few routes have.
#[derive(Debug)]
pub(crate) struct ExtrasStage {
    pub(crate) pages: Vec<PageSource>,
    pub(crate) metrics: Arc<ExtraMetrics>,
}

impl ExtrasStage {
    /// `side` finds a Service's backend.
    pub(crate) fn new(
        extras: &ir::RouteExtras,
        metrics: Arc<ExtraMetrics>,
        mut side: impl FnMut(&ir::BackendId, &SideBackend) -> RouteBackend,
    ) -> Self {
        let ir::RouteExtras { error_pages } = extras;
        let mut upstream = |backend: &SideBackend| match &backend.target {
            BackendTarget::Backend(id) => Some(side(id, backend)),
            BackendTarget::Missing(_) => None,
        };
        let pages = error_pages.iter().map(|page| PageSource {
            statuses: page.statuses.clone(),
            without_endpoints: page.without_endpoints,
            upstream: upstream(&page.backend),
        });
        Self { pages: pages.collect(), metrics }
    }
}
