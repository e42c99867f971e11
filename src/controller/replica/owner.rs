//! Finds the Deployment that the leader's Lease belongs to, once.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{CALL_MAX, Context, bounded, stopped};

const RETRY: Duration = Duration::from_secs(5);

/// Ends once it is known whether there is an owner.
pub(super) async fn find(
    context: &Context,
    outlet: watch::Sender<Option<OwnerReference>>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(name) = &context.settings.owner_deployment else { return };
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    loop {
        match bounded(api.get(name), CALL_MAX).await {
            Some(Ok(deployment)) => {
                outlet.send_replace(deployment.metadata.uid.map(|uid| owner(name, uid)));
                return;
            }
            Some(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                let error = &status.message;
                warn!(deployment = name, %error, "the leader's Lease stays without an owner: uninstalling leaves it");
                return;
            }
            Some(Err(error)) => debug!(%error, "the owner of the Lease was not read"),
            None => debug!("the owner of the Lease was not read in time"),
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn owner(name: &str, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    }
}
