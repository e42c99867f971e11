//! The Lease of this replica: that it lives, whether it is ready and how far it is. Read by the leader.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::Applied;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{CALL_MAX, Context, FIELD_MANAGER, Progress, ReplicaSettings, bounded, changed, now, stopped};
use crate::leader::micro;
use crate::outlook::Outlook;

#[cfg(test)]
mod tests;

/// Tells Leases of replicas from others.
pub(super) const REPLICA_LABEL: &str = "gateway.baribhara.io/replica";
/// Which install the replica belongs to: the name of the leader's Lease.
pub(super) const INSTALL_ANNOTATION: &str = "gateway.baribhara.io/lease-name";
pub(super) const APPLIED_ANNOTATION: &str = "gateway.baribhara.io/applied";
pub(super) const READY_ANNOTATION: &str = "gateway.baribhara.io/ready";
/// How long a replica counts that says nothing more.
pub(super) const DURATION: Duration = Duration::from_secs(20);

const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Between two writes, whatever changes meanwhile.
const PACE: Duration = Duration::from_secs(1);
/// The longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// When to write next. Has no clock.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    written: Option<Progress>,
}

/// Writes until `stop`, then says that the replica is not ready any more and takes the Lease away.
pub(super) async fn keep(
    context: &Context,
    mut outlook: watch::Receiver<Arc<Outlook>>,
    mut applied: watch::Receiver<Applied>,
    mut stop: watch::Receiver<bool>,
) {
    let mut progress = Progress::default();
    let mut pace = Pace::default();
    let mut is_told = false;
    loop {
        progress.take(&outlook.borrow_and_update(), *applied.borrow_and_update());
        let now = now();
        let due = pace.due(now, &progress);
        if due <= now {
            let written = write(context, &progress, &mut is_told).await;
            pace.done(now, written.then(|| progress.clone()));
            if !*stop.borrow() {
                continue;
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = tokio::time::sleep_until(due.into()) => {}
            () = changed(&mut outlook) => {}
            () = changed(&mut applied) => {}
        }
    }
    progress.is_ready = false;
    write(context, &progress, &mut is_told).await;
    let name = name(&context.settings);
    match bounded(context.leases().delete(&name, &DeleteParams::default()), CALL_MAX).await {
        Some(Ok(_)) => debug!(lease = name, "the replica's Lease is gone"),
        Some(Err(error)) => debug!(%error, "the replica's Lease was not deleted; it goes with the pod"),
        None => debug!("the replica's Lease was not deleted in time; it goes with the pod"),
    }
}

/// Whether the Lease says it now.
async fn write(context: &Context, progress: &Progress, is_told: &mut bool) -> bool {
    let name = name(&context.settings);
    let lease = document(&context.settings, progress, Timestamp::now());
    let patch = Patch::Apply(&lease);
    match bounded(context.leases().patch(&name, &apply(), &patch), CALL_MAX).await {
        Some(Ok(_)) => {
            *is_told = false;
            return true;
        }
        Some(Err(error)) => {
            let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
            if forbidden && !*is_told {
                warn!(%error, "this replica cannot say how far it is: status does not count it");
                *is_told = true;
            }
            debug!(%error, "the replica's Lease was not written");
        }
        None => debug!("the replica's Lease was not written in time"),
    }
    false
}

impl Pace {
    fn due(&self, now: Instant, progress: &Progress) -> Instant {
        match self.last {
            None => now,
            Some(last) if self.written.as_ref() == Some(progress) => last + RENEW_EVERY,
            Some(last) => last + PACE,
        }
    }

    fn done(&mut self, now: Instant, written: Option<Progress>) {
        self.last = Some(now);
        self.written = written;
    }
}

/// `<lease>-<pod>`; where that is too long, its end gives way to a number made of all of it.
pub(super) fn name(settings: &ReplicaSettings) -> String {
    let full = format!("{}-{}", settings.lease_name, settings.pod_name);
    if full.len() <= NAME_BYTES_MAX {
        return full;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(full.as_bytes());
    let tail = format!("{:016x}", hasher.finish());
    let kept: String = full.chars().take(NAME_BYTES_MAX - tail.len() - 1).collect();
    format!("{}-{tail}", kept.trim_end_matches(['-', '.']))
}

/// The whole Lease, for server-side apply.
fn document(settings: &ReplicaSettings, progress: &Progress, wall: Timestamp) -> Value {
    let mut metadata = json!({
        "name": name(settings),
        "namespace": settings.namespace,
        "labels": {REPLICA_LABEL: "true"},
        "annotations": {
            INSTALL_ANNOTATION: settings.lease_name,
            APPLIED_ANNOTATION: serde_json::to_string(&progress.marks).unwrap_or_default(),
            READY_ANNOTATION: progress.is_ready.to_string(),
        },
    });
    if let (Some(uid), Some(metadata)) = (&settings.pod_uid, metadata.as_object_mut()) {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": settings.pod_name, "uid": uid});
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": settings.pod_name,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": micro(wall),
        },
    })
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
