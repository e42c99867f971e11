//! A control plane at work, whatever its source: what it publishes, and how it ends. Knows no source's ways.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use ir::{Applied, Config, ControlState, EndpointMap, KeySetStates};
use tokio::sync::watch;
use tracing::error;

use crate::cluster::ClusterLink;
use crate::error::ControllerError;
use crate::problem::Problems;
use crate::replica::{self, Inputs, ReplicaSettings};

/// A control plane at work. Dropping it ends its threads without waiting for them.
#[derive(Debug)]
pub struct Running {
    /// Generation 0 until all objects were seen once; then each published config.
    pub config: watch::Receiver<Arc<Config>>,
    /// Published together with the first config, then whenever endpoints change.
    pub endpoints: watch::Receiver<Arc<EndpointMap>>,
    /// How the control plane is. The number of refused objects is published before the config that lacks them.
    pub state: watch::Receiver<ControlState>,
    /// What is wrong with the objects now. Published after the config, since lines are looked for first.
    pub problems: watch::Receiver<Arc<Problems>>,
    /// Where the objects come from a cluster.
    pub(crate) cluster: Option<ClusterLink>,
    /// True: what this replica holds among others is let go.
    pub(crate) leave: watch::Sender<bool>,
    pub(crate) stop: Stop,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

/// Ends a source. The thread of the snapshot's owner ends with it.
#[derive(Debug)]
pub(crate) enum Stop {
    Folder(crate::watch::Stop),
    Cluster(watch::Sender<bool>),
}

impl Running {
    /// From now on keeps this replica's Lease, and writes status and Events while it leads, by what the data plane has
    /// applied and which keys it has. Does nothing where there is no cluster.
    pub fn follow(
        &self,
        replica: ReplicaSettings,
        applied: watch::Receiver<Applied>,
        key_sets: watch::Receiver<Arc<KeySetStates>>,
    ) {
        let Some(link) = &self.cluster else { return };
        let inputs = Inputs {
            outlook: link.outlook.clone(),
            applied,
            key_sets,
            state: link.state.clone(),
            stop: self.leave.subscribe(),
        };
        if !link.spawn("replica", replica::run(replica, link.client.clone(), link.scope, inputs)) {
            error!("the source has ended: no status is written and no Lease is held");
        }
    }

    /// Lets go of what [`Running::follow`] holds, so that another replica writes status from now on. Objects are followed
    /// on.
    pub fn leave(&self) {
        self.leave.send_replace(true);
    }

    /// Ends the threads and waits for them. The receivers keep their last values.
    pub fn stop(mut self) {
        self.stop.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr; there is nothing left to end.
            drop(thread.join());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl Stop {
    fn stop(&self) {
        match self {
            Self::Folder(stop) => stop.stop(),
            Self::Cluster(stop) => drop(stop.send_replace(true)),
        }
    }
}

/// Starts a thread of the control plane.
pub(crate) fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ControllerError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| ControllerError::ThreadFailed { name, source })
}
