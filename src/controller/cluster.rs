//! The cluster as a source of objects: the thread that follows the API server, and the one-shot reading for commands.
//! Writes nothing to the API server and translates nothing.

mod backoff;
mod client;
mod intake;
mod keeper;
mod link;
mod once;
mod request;
mod resource;
mod roll;
mod selection;
mod shelf;
mod stream;
mod trouble;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ir::{ControlState, ObjectRef};
use kube::Client;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};
use translate::Settings;

use self::intake::{Intake, Ledger};
use self::keeper::{Keeper, KeeperHandle, Versions};
use self::link::{TASKS_MAX, Task};
use self::resource::Target;
use self::roll::Roll;
use self::stream::{Stream, Taker};
use crate::error::ControllerError;
use crate::event_loop::{Control, Inlets, Outlets};
use crate::last_good;
use crate::outlook::{MarkScope, Outlook};
use crate::running::{Running, Stop, spawn};
use crate::schema::{CertificateCheck, Schemas};
use crate::source::{BATCHES_MAX, Batch, Change};

pub(crate) use self::link::ClusterLink;
pub use self::once::load_cluster;

/// How long the tasks beside the source have to end.
const END_MAX: Duration = Duration::from_secs(5);
/// After this time it is said what is still waited for, and again each time.
const SAY_MISSING_AFTER: Duration = Duration::from_secs(10);

/// Which cluster, and which part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// `None`: the cluster of the pod in which this process runs.
    pub kubeconfig: Option<PathBuf>,
    /// Empty: all namespaces.
    pub watch_namespaces: Vec<String>,
    /// Namespace and name of the Service whose address is published; it is read in any namespace.
    pub publish_service: Option<(String, String)>,
    /// Where the objects in use are kept for a restart while the API server is away.
    pub last_good: Option<PathBuf>,
}

/// A cluster, watched.
#[derive(Debug)]
pub struct ClusterSource;

/// What the thread `cluster` works with.
struct Follower {
    client: Client,
    cluster: ClusterSettings,
    /// Is read though no object names it.
    named_secrets: Vec<ObjectRef>,
    check: CertificateCheck,
    batches: mpsc::Sender<Batch>,
    state: watch::Sender<ControlState>,
    outlook: watch::Receiver<Arc<Outlook>>,
    stopping: watch::Receiver<bool>,
    tasks: mpsc::Receiver<Task>,
}

impl ClusterSource {
    /// Starts the threads `cluster` (follows the API server) and `control` (owns the snapshot, translates, publishes).
    /// Does not ask the API server for anything: it may be away.
    ///
    /// # Errors
    /// There is no way to a cluster, or a thread cannot be started.
    pub fn start(
        cluster: ClusterSettings,
        settings: Settings,
        check: CertificateCheck,
    ) -> Result<Running, ControllerError> {
        let runtime = runtime()?;
        let (client, url) = client::client(cluster.kubeconfig.as_deref(), &runtime)?;
        info!(api_server = url, namespaces = ?cluster.watch_namespaces, "following the cluster");
        let scope = scope(&cluster);
        let (batches, inbox) = mpsc::channel(BATCHES_MAX);
        let (outlets, inlets) = Outlets::new();
        let sender = outlets.state();
        let Inlets { state, config, endpoints, problems, outlook } = inlets;
        let named_secrets = settings.named_secrets();
        let control = Control::new(settings, outlets).with_scope(scope);
        let control = spawn("control", move || control.run(inbox))?;
        let (stop, stopping) = watch::channel(false);
        let (task_sender, tasks) = mpsc::channel(TASKS_MAX);
        let link = ClusterLink {
            client: client.clone(),
            outlook: outlook.clone(),
            state: sender.clone(),
            scope,
            tasks: task_sender,
        };
        let follower = Follower {
            client,
            cluster,
            named_secrets,
            check,
            batches,
            state: sender,
            outlook,
            stopping,
            tasks,
        };
        let follower = spawn("cluster", move || runtime.block_on(follower.run()))?;
        let (stop, threads) = (Stop::Cluster(stop), vec![follower, control]);
        let (leave, _) = watch::channel(false);
        Ok(Running { config, endpoints, state, problems, cluster: Some(link), leave, stop, threads })
    }
}

impl Follower {
    /// Follows the API server until it is stopped.
    async fn run(mut self) {
        let schemas = Arc::new(Schemas::compile(self.check));
        if let Some(dir) = &self.cluster.last_good
            && let Some(copy) = last_good::read(dir, &schemas)
            && self.batches.send(copy).await.is_err()
        {
            return;
        }
        let mut beside = JoinSet::new();
        if let Some(dir) = self.cluster.last_good.clone() {
            let (outlook, stopping) = (self.outlook.clone(), self.stopping.clone());
            beside.spawn(named("last good copy", last_good::keep(dir, outlook, stopping)));
        }
        let mut streams = self.streams(&schemas);
        loop {
            // All arms are cancel-safe: what is not taken now is there the next time.
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => break,
                Some(Task { name, future }) = self.tasks.recv() => drop(beside.spawn(named(name, future))),
                Some(ended) = streams.join_next() => log_end(ended),
                Some(ended) = beside.join_next() => log_end(ended),
            }
        }
        // The objects go first, so that nobody beside hears of more.
        streams.shutdown().await;
        drop(self.batches);
        let all = async {
            while let Some(ended) = beside.join_next().await {
                log_end(ended)
            }
        };
        if timeout(END_MAX, all).await.is_err() {
            warn!(tasks = beside.len(), "tasks did not end in time");
        }
        beside.shutdown().await;
    }

    /// Starts everything that reads objects.
    fn streams(&self, schemas: &Arc<Schemas>) -> JoinSet<&'static str> {
        let targets = Target::all(&self.cluster.watch_namespaces, self.cluster.publish_service.as_ref());
        let roll = Roll::new(&targets, self.state.clone());
        let (keeper, handle) = Keeper::new(self.client.clone(), Arc::clone(schemas), self.batches.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(named("keeper", keeper.run()));
        for target in targets {
            let taker = taker(&target, schemas, &self.batches, &handle);
            let optional = is_optional(&target, &self.cluster);
            if let Some(stream) = Stream::new(self.client.clone(), target, taker, roll.clone(), optional) {
                tasks.spawn(named("stream", stream.run()));
            }
        }
        let first = self.named_secrets.clone();
        tasks.spawn(named("sync", sync(handle, first, roll, self.batches.clone())));
        tasks
    }
}

/// Says once that all objects are there. What they name was fetched before each of them was sent.
async fn sync(keeper: KeeperHandle, first: Vec<ObjectRef>, roll: Roll, batches: mpsc::Sender<Batch>) {
    keeper.take(first, Vec::new()).await;
    while timeout(SAY_MISSING_AFTER, roll.all_listed()).await.is_err() {
        info!(missing = ?roll.missing(), "waiting for the first list of these kinds");
    }
    // What is taken by its labels is known only now.
    keeper.settle().await;
    info!("all objects of the cluster were read");
    // It fails only where everything ends.
    drop(batches.send(vec![Change::Synced]).await);
}

fn taker(
    target: &Target,
    schemas: &Arc<Schemas>,
    batches: &mpsc::Sender<Batch>,
    keeper: &KeeperHandle,
) -> Taker {
    use ir::Kind;
    match target.kind {
        Kind::Secret | Kind::ConfigMap => Taker::Versions(Versions::new(target.clone(), keeper.clone())),
        Kind::Ingress
        | Kind::IngressClass
        | Kind::GatewayRoute
        | Kind::RateLimitPolicy
        | Kind::AuthPolicy
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::ReferenceGrant => {
            let ledger = Ledger::new(target.kind, Arc::clone(schemas));
            Taker::Objects(Intake::new(ledger, batches.clone(), keeper.clone()))
        }
    }
}

/// An install for some namespaces may have no right to what belongs to the whole cluster.
fn is_optional(target: &Target, cluster: &ClusterSettings) -> bool {
    !target.kind.is_namespaced() && !cluster.watch_namespaces.is_empty()
}

/// Versions of objects in different watches do not follow one another.
fn scope(cluster: &ClusterSettings) -> MarkScope {
    if cluster.watch_namespaces.is_empty() { MarkScope::Kind } else { MarkScope::KindAndNamespace }
}

fn runtime() -> Result<Runtime, ControllerError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ControllerError::ThreadFailed { name: "cluster", source })
}

/// A task that says its name when it ends.
async fn named(name: &'static str, future: impl Future<Output = ()>) -> &'static str {
    future.await;
    name
}

fn log_end(ended: Result<&'static str, tokio::task::JoinError>) {
    match ended {
        Ok(name) => tracing::debug!(task = name, "task ended"),
        Err(error) => error!(%error, "a task of the control plane failed"),
    }
}
