//! Why the control plane cannot start. What is wrong with objects is a [`crate::Problem`], never an error.

use std::io;
use std::path::PathBuf;

/// Why a source could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The folder does not exist, is no directory or may not be read.
    #[error("the folder {} cannot be read", path.display())]
    FolderUnreadable { path: PathBuf, source: io::Error },
    /// The operating system gave no thread.
    #[error("the thread {name} could not be started")]
    ThreadFailed { name: &'static str, source: io::Error },
    /// The file is missing, or names no cluster that can be used.
    #[error("the kubeconfig {} cannot be used", path.display())]
    KubeconfigUnusable { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    /// No file was named and this is no pod with a ServiceAccount.
    #[error(
        "this does not run in a pod of a cluster; name a kubeconfig file with --kubeconfig, or a folder with --config"
    )]
    NotInCluster { source: kube::config::InClusterError },
    /// Certificates, keys or the way to log in are not usable.
    #[error("no client of the API server can be made of this configuration")]
    ClientUnusable { source: kube::Error },
    /// The cluster could not be read once.
    #[error("the cluster at {url} cannot be read: {reason}")]
    ClusterUnreadable { url: String, reason: String },
    /// A right is missing.
    #[error("the cluster at {url} does not allow to {permission}; grant it by a Role or ClusterRole")]
    PermissionMissing { url: String, permission: String },
}
