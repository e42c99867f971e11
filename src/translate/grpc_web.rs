//! gRPC-Web on a rule: what it needs of the rule's backends and of its CORS. Reads no other object.

use http::HeaderName;
use ir::{Action, Cors, Route, UpstreamVersion};

use crate::report::{Field, Lines};

/// What browsers' clients send beside the fields that every page may send.
const SENT: [&str; 4] = ["content-type", "grpc-timeout", "x-grpc-web", "x-user-agent"];
/// Where a call's outcome stands when the answer has no body.
const READ: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Switches it on for a rule that is otherwise whole. `field`: the rule's filters.
pub(crate) fn apply(route: &mut Route, field: Field<'_>, lines: &mut Lines) {
    let Action::Forward { backends, grpc_web, .. } = &mut route.action else {
        let message = "GRPCWeb has no effect: the rule answers by itself";
        lines.warning(field, message, "remove the filter");
        return;
    };
    *grpc_web = true;
    if backends.iter().any(|backend| backend.protocol.version == UpstreamVersion::Http1) {
        let message =
            "a backend of the rule is spoken to over HTTP/1.1, and gRPC needs HTTP/2: calls to it fail";
        lines.warning(
            field,
            message,
            "set protocol: GRPC (or GRPCS) on the backendRef, or appProtocol on the port",
        );
    }
    if let Some(cors) = &mut route.cors {
        complete(cors);
    }
}

/// A list that names something names what the protocol needs, too: without it no call would work.
fn complete(cors: &mut Cors) {
    if !cors.allow_headers.is_empty() {
        add(&mut cors.allow_headers, &SENT);
    }
    add(&mut cors.expose_headers, &READ);
}

fn add(list: &mut Vec<HeaderName>, names: &[&'static str]) {
    if list.iter().any(|name| name.as_str() == "*") {
        return;
    }
    for name in names {
        let name = HeaderName::from_static(name);
        if !list.contains(&name) {
            list.push(name);
        }
    }
}
