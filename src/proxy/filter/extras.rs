//! The extras of a route, with the handles that its requests need. Asks nobody itself.

use std::sync::Arc;

use ir::{BackendTarget, Fault, SideBackend};

use super::error_page::{PageSource, page_terms};
use super::mirror::MirrorStage;
use crate::body::RequestBody;
use crate::generation::RouteBackend;
use crate::observe::ExtraMetrics;
use crate::upstream::{AsideTerms, Forward};

/// What few routes have.
#[derive(Debug)]
pub(crate) struct ExtrasStage {
    pub(crate) pages: Vec<PageSource>,
    pub(crate) page_terms: AsideTerms,
    mirror: Option<MirrorStage>,
    pub(crate) fault: Option<Fault>,
    pub(crate) metrics: Arc<ExtraMetrics>,
}

impl ExtrasStage {
    /// `side` finds a Service's backend.
    pub(crate) fn new(
        extras: &ir::RouteExtras,
        metrics: Arc<ExtraMetrics>,
        mut side: impl FnMut(&ir::BackendId, &SideBackend) -> RouteBackend,
    ) -> Self {
        let ir::RouteExtras { error_pages, mirror, fault } = extras;
        let mut upstream = |backend: &SideBackend| match &backend.target {
            BackendTarget::Backend(id) => Some(side(id, backend)),
            BackendTarget::Missing(_) => None,
        };
        let mirror = mirror.as_ref().map(|mirror| MirrorStage::new(mirror, upstream(&mirror.backend)));
        let pages = error_pages.iter().map(|page| PageSource {
            statuses: page.statuses.clone(),
            without_endpoints: page.without_endpoints,
            upstream: upstream(&page.backend),
        });
        Self { pages: pages.collect(), page_terms: page_terms(), mirror, fault: fault.clone(), metrics }
    }
}

/// Begins the copy of a request that is about to be sent, if its route has a mirror. `host`: the client's own.
pub(crate) fn mirror(
    extras: Option<&ExtrasStage>,
    ask: &Forward<'_>,
    body: Option<&mut RequestBody>,
    host: &[u8],
) {
    if let (Some(ExtrasStage { mirror: Some(mirror), metrics, .. }), Some(body)) = (extras, body) {
        mirror.begin(metrics, ask, body, host);
    }
}
