//! Lists the extras of a route: what is done beside sending a request to its backend.

use ir::{BackendTarget, Route, RouteExtras, SideBackend, StatusRange};

use super::policy::{Detail, Step};

/// What is done when the request goes out.
pub(super) fn request_steps(route: &Route) -> Vec<Step> {
    let mirror = route.extras.as_deref().and_then(|extras| extras.mirror.as_ref());
    let step = mirror.map(|mirror| {
        Step::new("RequestMirror", &route.id.object)
            .with("backend", Detail::Text(side_text(&mirror.backend)))
            .with("percent", Detail::Number(mirror.percent.into()))
            .with("includeBody", Detail::Flag(mirror.includes_body))
    });
    step.into_iter().collect()
}

/// What is done with the answer.
pub(super) fn answer_steps(route: &Route) -> Vec<Step> {
    let Some(extras) = route.extras.as_deref() else { return Vec::new() };
    let RouteExtras { error_pages, mirror: _ } = extras;
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
