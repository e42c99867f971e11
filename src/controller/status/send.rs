//! One write of one object's status: server-side apply, so that what others wrote there stays. Judges the answers.

use std::collections::HashSet;

use api::{AuthPolicy, GatewayRoute, RateLimitPolicy};
use ir::{Kind, ObjectRef};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::plan::{Outcome, Write};
use super::target::Said;
use crate::outlook::version;
use crate::replica::{CALL_MAX, Context, FIELD_MANAGER, Leadership, bounded, now};

#[cfg(test)]
mod tests;

/// What came back. `None`: nothing in time.
pub(super) type Answer = (Said<'static>, Option<kube::Result<DynamicObject>>);

/// Remembers what was complained of.
#[derive(Debug, Default)]
pub(super) struct Sender {
    refused: HashSet<(Kind, u16)>,
}

/// Sends it, if this replica still leads. It ends by itself before another may lead.
pub(super) async fn send(context: &Context, leadership: &Leadership, write: Write) -> (ObjectRef, Answer) {
    let said = write.target.over(&write.said, Timestamp::now());
    let resource = resource(write.id.kind).filter(|_| leadership.holds(now()));
    let Some(resource) = resource else { return (write.id, (said, None)) };
    let body = document(&write, &resource, &said);
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &write.id.namespace, &resource);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    let answer = bounded(api.patch_status(&write.id.name, &parameters, &patch), CALL_MAX).await;
    (write.id, (said, answer))
}

impl Sender {
    pub(super) fn judge(&mut self, id: &ObjectRef, (said, answer): Answer) -> Outcome {
        match answer {
            Some(Ok(object)) => {
                self.refused.retain(|(kind, _)| *kind != id.kind);
                Outcome::Written { version: version(&object.metadata), said }
            }
            // The object is gone, or another of this name is there now: the watch tells.
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                debug!(object = %id, code = status.code, "status was not written: the object is another now");
                Outcome::Outdated
            }
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 422) => {
                if self.refused.insert((id.kind, status.code)) {
                    let remedy = match status.code {
                        403 => "grant the service account patch on the kind's status, as the chart does",
                        _ => "apply the CustomResourceDefinitions of this version",
                    };
                    warn!(kind = %id.kind, object = %id, error = %status.message, remedy, "status is refused");
                }
                Outcome::Refused
            }
            Some(Err(error)) => {
                debug!(object = %id, %error, "status was not written");
                Outcome::Failed
            }
            None => {
                debug!(object = %id, "status was not written in time");
                Outcome::Failed
            }
        }
    }
}

/// What is applied. The uid keeps it from another object of the same name; the version, where it is given, from one
/// that somebody wrote to meanwhile.
fn document(write: &Write, resource: &ApiResource, said: &Said<'_>) -> Value {
    let mut metadata = json!({"name": &*write.id.name, "namespace": &*write.id.namespace});
    if let Some(metadata) = metadata.as_object_mut() {
        if let Some(uid) = &write.uid {
            metadata.insert("uid".to_owned(), json!(uid));
        }
        if let Some(version) = write.only_at {
            metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        }
    }
    let mut body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
    });
    // What is not in it is taken away. An empty status would become null, which is refused.
    let status = match said {
        Said::Conditions(status) if status.conditions.is_empty() => None,
        Said::Conditions(status) => Some(json!(status)),
        Said::Addresses(addresses) if addresses.is_empty() => None,
        Said::Addresses(addresses) => Some(json!({"loadBalancer": {"ingress": addresses}})),
    };
    if let (Some(status), Some(body)) = (status, body.as_object_mut()) {
        body.insert("status".to_owned(), status);
    }
    body
}

fn resource(kind: Kind) -> Option<ApiResource> {
    match kind {
        Kind::Ingress => Some(ApiResource::erase::<Ingress>(&())),
        Kind::GatewayRoute => Some(ApiResource::erase::<GatewayRoute>(&())),
        Kind::RateLimitPolicy => Some(ApiResource::erase::<RateLimitPolicy>(&())),
        Kind::AuthPolicy => Some(ApiResource::erase::<AuthPolicy>(&())),
        Kind::IngressClass
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::ReferenceGrant => None,
    }
}
