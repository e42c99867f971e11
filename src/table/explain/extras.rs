//! Lists the extras of a route: what is done beside sending a request to its backend.

use ir::{BackendTarget, Fault, FaultAnswer, ObjectRef, Route, RouteExtras, SideBackend, StatusRange};

use super::policy::{Detail, Step, duration};

/// What is done when the request goes out.
pub(super) fn request_steps(route: &Route) -> Vec<Step> {
    let Some(extras) = route.extras.as_deref() else { return Vec::new() };
    let fault = extras.fault.as_ref().map(|fault| fault_step(fault, &route.id.object));
    let mirror = extras.mirror.as_ref().map(|mirror| {
        Step::new("RequestMirror", &route.id.object)
            .with("backend", Detail::Text(side_text(&mirror.backend)))
            .with("percent", Detail::Number(mirror.percent.into()))
            .with("includeBody", Detail::Flag(mirror.includes_body))
    });
    fault.into_iter().chain(mirror).collect()
}

/// A value that is asked for may be a secret of the testers.
fn fault_step(fault: &Fault, object: &ObjectRef) -> Step {
    let Fault { header, delay, abort } = fault;
    let text = |what: String, percent: u8| format!("{what} for {percent} %");
    let answer = |answer: FaultAnswer| match answer {
        FaultAnswer::Status(status) => status.to_string(),
        FaultAnswer::Grpc(status) => format!("gRPC status {status}"),
    };
    Step::new("Fault", object)
        .text("header", header.as_ref().map(|header| header.name.to_string()))
        .text("delay", delay.map(|delay| text(duration(delay.duration), delay.percent)))
        .text("abort", abort.map(|abort| text(answer(abort.answer), abort.percent)))
}

/// What is done with the answer.
pub(super) fn answer_steps(route: &Route) -> Vec<Step> {
    let Some(extras) = route.extras.as_deref() else { return Vec::new() };
    let RouteExtras { error_pages, mirror: _, fault: _ } = extras;
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
