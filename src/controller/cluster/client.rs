//! Makes the client of the API server from a kubeconfig file or from what a pod is given. Asks the API server nothing,
//! so that a start does not depend on it.
//!
//! What the times mean in this client: connecting includes TLS; reading and writing are times *without progress* on the
//! connection, not for a whole answer. A body that streams may last for ever as long as bytes come; a watch that is
//! silent is cut off, which is why the API server is asked to end each watch before that.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::Runtime;

use crate::error::ControllerError;

/// How long a connection may take, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a connection may be silent while an answer is awaited. Longer than a watch lasts.
const READ_SILENCE_MAX: Duration = Duration::from_secs(55);
/// How long a request may make no progress while it is sent.
const WRITE_SILENCE_MAX: Duration = Duration::from_secs(30);

/// The client, and the address it speaks to.
pub(super) fn client(
    kubeconfig: Option<&Path>,
    runtime: &Runtime,
) -> Result<(Client, String), ControllerError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).and_then(|kubeconfig| {
                runtime.block_on(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()))
            });
            read.map_err(|source| ControllerError::KubeconfigUnusable {
                path: path.to_owned(),
                source: Box::new(source),
            })?
        }
        None => Config::incluster().map_err(|source| ControllerError::NotInCluster { source })?,
    };
    config.connect_timeout = Some(CONNECT_MAX);
    config.read_timeout = Some(READ_SILENCE_MAX);
    config.write_timeout = Some(WRITE_SILENCE_MAX);
    // The client's own tries would wait for up to 1,000 s and tell nobody; each caller here has its back-off.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    // The client starts a task of its own.
    let _guard = runtime.enter();
    let client = Client::try_from(config).map_err(|source| ControllerError::ClientUnusable { source })?;
    Ok((client, url))
}
