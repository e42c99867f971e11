//! What the replicas say of themselves in their Leases, and which of them still count. Writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::own::{APPLIED_ANNOTATION, DURATION, INSTALL_ANNOTATION, READY_ANNOTATION, REPLICA_LABEL, name};
use super::{CALL_MAX, Context, Leadership, bounded, changed, now, stopped};
use crate::leader::duration;
use crate::outlook::Marks;

#[cfg(test)]
mod tests;

/// A follower looks too, so that it knows who lives when it comes to lead.
const EVERY_AS_FOLLOWER: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(1);
/// While some object waits for a replica.
const EVERY_WHEN_PENDING: Duration = Duration::from_millis(300);
/// More than that between two looks says nothing of the replicas: they could not be seen.
const BLIND_AFTER: Duration = Duration::from_secs(6);

/// The marks of the other ready replicas, by the names of their Leases.
pub(crate) type ReadyPeers = BTreeMap<String, Marks>;

/// What is known of the other replicas. Has no clock.
#[derive(Debug, Default)]
struct Book {
    peers: HashMap<String, Peer>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    version: Option<String>,
    /// For how long it was seen to say nothing new.
    silent: Duration,
}

/// Looks until `stop`.
pub(super) async fn watch(
    context: &Context,
    outlet: watch::Sender<Option<Arc<ReadyPeers>>>,
    mut leadership: Leadership,
    mut pending: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut book = Book::default();
    let own = name(&context.settings);
    let mut is_told = false;
    let parameters = ListParams::default().labels(&format!("{REPLICA_LABEL}=true"));
    let api = context.leases();
    let mut last: Option<Instant> = None;
    while !*stop.borrow() {
        let leads = leadership.is_held();
        let every = match (leads, *pending.borrow_and_update()) {
            (false, _) => EVERY_AS_FOLLOWER,
            (true, false) => EVERY,
            (true, true) => EVERY_WHEN_PENDING,
        };
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = tokio::time::sleep_until(last.map_or_else(now, |last| last + every).into()) => {}
            // Once it comes to lead, or once something waits, the time to the next look is another.
            () = leadership.turns(leads) => continue,
            () = changed(&mut pending), if every == EVERY => continue,
        }
        last = Some(now());
        match bounded(api.list(&parameters), CALL_MAX).await {
            Some(Ok(leases)) => {
                let now = now();
                let ours =
                    leases.items.into_iter().filter(|lease| is_of(lease, &context.settings.lease_name));
                let ready = book.look(now, ours.filter(|lease| lease.metadata.name.as_ref() != Some(&own)));
                tell(&outlet, ready);
            }
            Some(Err(error)) => {
                let forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
                if forbidden && !std::mem::replace(&mut is_told, true) {
                    warn!(%error, "the replicas' leases may not be read: status counts this replica alone");
                    tell(&outlet, ReadyPeers::new());
                }
                debug!(%error, "the replicas' leases were not read");
            }
            None => debug!("the replicas' leases were not read in time"),
        }
    }
}

impl Book {
    /// Takes what all Leases say now. The ready ones among those that still count.
    fn look(&mut self, now: Instant, leases: impl Iterator<Item = Lease>) -> ReadyPeers {
        let passed = self.looked.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let passed = if passed > BLIND_AFTER { Duration::ZERO } else { passed };
        self.looked = Some(now);
        let mut last = std::mem::take(&mut self.peers);
        let mut ready = ReadyPeers::new();
        for lease in leases {
            let Some(name) = lease.metadata.name.clone() else { continue };
            let version = lease.metadata.resource_version.clone();
            let silent = match last.remove(&name) {
                Some(peer) if peer.version == version => peer.silent + passed,
                Some(_) | None => Duration::ZERO,
            };
            let lasts = duration(&lease);
            let lasts = if lasts.is_zero() { DURATION } else { lasts };
            self.peers.insert(name.clone(), Peer { version, silent });
            if silent < lasts && annotation(&lease, READY_ANNOTATION) == Some("true") {
                // Marks that cannot be read reach nothing: the replica is waited for.
                let marks = annotation(&lease, APPLIED_ANNOTATION).unwrap_or_default();
                ready.insert(name, serde_json::from_str(marks).unwrap_or_default());
            }
        }
        ready
    }
}

fn tell(outlet: &watch::Sender<Option<Arc<ReadyPeers>>>, ready: ReadyPeers) {
    outlet.send_if_modified(|last| {
        let is_new = last.as_deref() != Some(&ready);
        if is_new {
            *last = Some(Arc::new(ready));
        }
        is_new
    });
}

fn is_of(lease: &Lease, install: &str) -> bool {
    annotation(lease, INSTALL_ANNOTATION) == Some(install)
}

fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
