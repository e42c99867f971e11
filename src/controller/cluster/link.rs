//! What those who speak to the API server beside the source need of it: status, Lease, last good copy. Starts nothing by
//! itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ir::ControlState;
use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::outlook::{MarkScope, Outlook};

/// How many tasks may wait to be started.
pub(super) const TASKS_MAX: usize = 32;

/// A task of the runtime `cluster`. It ends by itself soon after `stopping` is true, else it is ended.
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The way to the cluster.
#[derive(Clone)]
pub(crate) struct ClusterLink {
    pub(crate) client: Client,
    /// The objects after each publication; empty before the first.
    pub(crate) outlook: watch::Receiver<Arc<Outlook>>,
    /// For those who know a part of the state.
    pub(crate) state: watch::Sender<ControlState>,
    pub(crate) scope: MarkScope,
    pub(super) tasks: mpsc::Sender<Task>,
}

impl ClusterLink {
    /// Runs a task on the source's own runtime, which waits for it for a while when the source ends. False: the source
    /// has ended, or too many tasks were started at once.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        self.tasks.try_send(Task { name, future: Box::pin(future) }).is_ok()
    }
}

impl fmt::Debug for ClusterLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLink").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}
