//! Who may name objects of another namespace (Gateway API ReferenceGrant). Nobody may whom nothing there permits.

use ir::{Kind, ObjectRef};

use crate::snapshot::Snapshot;

/// Whether a ReferenceGrant in `namespace` lets `from` name the Service there.
pub(crate) fn permits_service(snapshot: &Snapshot, from: &ObjectRef, namespace: &str, name: &str) -> bool {
    let group = group_of(from.kind);
    snapshot.reference_grants.within(namespace).any(|grant| {
        let spec = &grant.spec;
        let may = spec.from.iter().any(|one| {
            one.group == group && one.kind == from.kind.as_str() && one.namespace == *from.namespace
        });
        // The empty group is that of core objects.
        let named = |to: &api::GrantTo| to.name.as_deref().is_none_or(|only| only == name);
        may && spec.to.iter().any(|to| to.group.is_empty() && to.kind == "Service" && named(to))
    })
}

/// The API group by which grants name a kind.
const fn group_of(kind: Kind) -> &'static str {
    match kind {
        Kind::GatewayRoute | Kind::RateLimitPolicy | Kind::AuthPolicy => api::GROUP,
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io",
        Kind::EndpointSlice => "discovery.k8s.io",
        Kind::ReferenceGrant => "gateway.networking.k8s.io",
        Kind::Service | Kind::Secret | Kind::ConfigMap => "",
    }
}
