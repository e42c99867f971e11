//! Lists the extras of a route: what is done beside sending a request to its backend.

use ir::{BackendTarget, Route, RouteExtras, SideBackend, StatusRange};

use super::policy::{Detail, Step};

/// What is done with the answer.
pub(super) fn answer_steps(route: &Route) -> Vec<Step> {
    let Some(extras) = route.extras.as_deref() else { return Vec::new() };
    let RouteExtras { error_pages } = extras;
    let pages = error_pages.iter().map(|page| {
        let step = Step::new("ErrorPages", &route.id.object)
            .list("statusCodes", page.statuses.iter().copied().map(status_text));
        let step =
            if page.without_endpoints { step.with("withoutEndpoints", Detail::Flag(true)) } else { step };
        step.with("backend", Detail::Text(side_text(&page.backend)))
    });
    pages.collect()
}

fn status_text(StatusRange { first, last }: StatusRange) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn side_text(backend: &SideBackend) -> String {
    match &backend.target {
        BackendTarget::Backend(id) => id.to_string(),
        BackendTarget::Missing(id) => format!("{id} (missing)"),
    }
}
