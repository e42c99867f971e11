//! What one replica writes to the API server: its own Lease, and, while it leads, status and Events. Reads no object
//! of the user's itself and changes nothing about what is served.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Applied, ControlState, KeySetStates};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::events;
use crate::leader::Timing;
use crate::outlook::{MarkScope, Marks, Outlook};
use crate::status;

mod election;

mod own;
mod owner;
mod peers;
#[cfg(test)]
mod tests;

pub(crate) use peers::ReadyPeers;

/// By what the writes of the gateway are told from those of others.
pub(crate) const FIELD_MANAGER: &str = "gateway.baribhara.io/controller";

/// The longest that one call takes. Part of what keeps two leaders apart.
pub(crate) const CALL_MAX: Duration = Timing::STANDARD.write_max;

/// Who this replica is, and what it says of its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// The name that it leads under.
    pub pod_name: String,
    /// Where its Leases are.
    pub namespace: String,
    /// Owner of the replica's own Lease, which goes with the Pod.
    pub pod_uid: Option<String>,
    /// The Lease by which the replicas agree on a leader.
    pub lease_name: String,
    /// Owner of that Lease.
    pub owner_deployment: Option<String>,
    /// Namespace and name of the Service whose address every Ingress shows.
    pub publish_service: Option<(String, String)>,
    /// Addresses or names that every Ingress shows instead.
    pub publish_addresses: Vec<String>,
}

/// What the rest of the process tells, and is told.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) outlook: watch::Receiver<Arc<Outlook>>,
    /// What the data plane serves.
    pub(crate) applied: watch::Receiver<Applied>,
    /// How the key sets are that it fetches.
    pub(crate) key_sets: watch::Receiver<Arc<KeySetStates>>,
    /// Only `is_leader` is written.
    pub(crate) state: watch::Sender<ControlState>,
    /// Turns true when the process is about to end; a lost sender says the same.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What the tasks of one replica share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) settings: Arc<ReplicaSettings>,
    pub(crate) client: Client,
    pub(crate) scope: MarkScope,
}

/// Until when this replica leads if it renews no more.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<Option<Instant>>);

/// How far this replica's own data plane is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) marks: Marks,
    /// It serves what a synced source told.
    pub(crate) is_ready: bool,
}

/// Works until `stop`, then lets go of the Leases. Ends within a few seconds even without an API server.
pub(crate) async fn run(settings: ReplicaSettings, client: Client, scope: MarkScope, inputs: Inputs) {
    let Inputs { outlook, applied, key_sets, state, stop } = inputs;
    let context = Context { settings: Arc::new(settings), client, scope };
    let (leads, leadership) = watch::channel(None);
    let leadership = Leadership(leadership);
    let (peers, ready_peers) = watch::channel(None);
    let (is_pending, pending) = watch::channel(false);
    let (writers_end, writers) = watch::channel(false);
    let (owner, owner_inlet) = watch::channel(None);

    let writers_of_the_leader = async {
        let feed =
            status::Feed { outlook: outlook.clone(), applied: applied.clone(), key_sets, peers: ready_peers };
        tokio::join!(
            status::run(&context, feed, leadership.clone(), &is_pending, stop.clone()),
            events::run(&context, outlook.clone(), leadership.clone(), stop.clone()),
        );
        // Only now may another lead.
        writers_end.send_replace(true);
    };
    tokio::join!(
        own::keep(&context, outlook.clone(), applied.clone(), stop.clone()),
        owner::find(&context, owner, stop.clone()),
        election::run(&context, election::Outlets { leads, state }, owner_inlet, writers),
        peers::watch(&context, peers, leadership.clone(), pending, stop.clone()),
        writers_of_the_leader,
    );
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, client: _, scope } = self;
        f.debug_struct("Context").field("settings", settings).field("scope", scope).finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
}

impl Leadership {
    /// Whether a write may begin now.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.0.borrow().is_some_and(|until| now < until)
    }

    /// Whether this replica came to lead and was not told the contrary. Enough to prepare what is to be written.
    pub(crate) fn is_held(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits until [`Self::is_held`] is other than `was`; for ever when it cannot be.
    pub(crate) async fn turns(&mut self, was: bool) {
        if self.0.wait_for(|until| until.is_some() != was).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Progress {
    /// What follows from what is published and served.
    pub(crate) fn take(&mut self, outlook: &Outlook, applied: Applied) {
        if applied.generation == 0 {
            return;
        }
        // A data plane that is further behind than is remembered has at least what it had.
        if let Some(marks) = outlook.marks_of(applied.generation) {
            self.marks = marks.clone();
            self.is_ready = true;
        }
    }
}

/// Waits until the process is about to end.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which says the same.
    drop(stop.wait_for(|stops| *stops).await);
}

/// Waits for a change of what another task tells; for ever when that task has ended.
pub(crate) async fn changed<T>(inlet: &mut watch::Receiver<T>) {
    if inlet.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The time by the clock that tests can turn.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A call with a bound. `None`: no answer in time.
pub(crate) async fn bounded<T>(
    call: impl Future<Output = kube::Result<T>>,
    most: Duration,
) -> Option<kube::Result<T>> {
    tokio::time::timeout(most, call).await.ok()
}
