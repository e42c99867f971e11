//! The data plane as a whole: binds, starts the workers and the control thread, and ends them in order.

mod connection;
mod control;
mod downstream;
mod listener;
mod opening;
mod passthrough;
mod proxy_header;
mod proxy_protocol;
mod socket;
mod stream;
mod stream_tunnel;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod turn_away;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use ir::{Applied, Config, ControlState, EndpointMap, KeySetStates};
use tokio::sync::{mpsc, watch};

pub(crate) use downstream::Downstream;
pub(crate) use stream::Stream;
pub(crate) use stream_tunnel::begin as begin_stream_tunnel;
pub(crate) use worker::Worker;

use self::control::Control;
use self::worker::{Bound, WorkerParts};
use crate::observe::{AccessLog, Metrics};
use crate::settings::{AccessLogTarget, Settings};

/// Orders that may wait for one worker.
const MAILBOX: usize = 16;

/// What the data plane is fed with.
#[derive(Debug)]
pub struct Feeds {
    pub config: watch::Receiver<Arc<Config>>,
    pub endpoints: watch::Receiver<Arc<EndpointMap>>,
    /// How the control plane is, for the metrics.
    pub state: watch::Receiver<ControlState>,
}

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("can't listen on {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("can't open the access log {path}: {error}")]
    AccessLog { path: String, error: io::Error },
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
    #[error("the cryptography provider failed its self-test: {0}")]
    Crypto(crate::filter::auth::SelfTestError),
}

/// A running data plane.
#[derive(Debug)]
pub struct Server {
    /// Where plain HTTP is served.
    pub http: SocketAddr,
    /// Where HTTP over TLS is served, if it is.
    pub https: Option<SocketAddr>,
    /// Where the admin interface is served.
    pub admin: SocketAddr,
    /// The last generation that every worker serves.
    pub applied: watch::Receiver<Applied>,
    /// How the key sets are that are fetched by URL.
    pub key_sets: watch::Receiver<Arc<KeySetStates>>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    control: JoinHandle<io::Result<()>>,
    log: AccessLog,
}

impl Server {
    /// Binds the addresses and starts the threads. Connections wait in the kernel's queue until the first
    /// configuration is there.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(settings: Settings, feeds: Feeds) -> Result<Self, StartError> {
        crate::filter::auth::self_test().map_err(StartError::Crypto)?;
        let settings = Arc::new(settings);
        let workers = settings.workers.max(1);
        let bind = |address, count| {
            listener::bind(address, count).map_err(|error| StartError::Bind { address, error })
        };
        let (admin, admin_listener) = bind(settings.admin, 1)?;
        let (http, http_listeners) = bind(settings.http, workers)?;
        let https = settings.https.map(|address| bind(address, workers)).transpose()?;
        let (https, https_listeners) = https.unzip();
        let mut https_listeners = https_listeners.into_iter().flatten();
        let metrics = Metrics::new();
        metrics.overload.set_budgets(settings.memory_bytes_max, settings.connections_max);
        let log = open_log(&settings.access_log, &metrics)?;
        let epoch = Instant::now();
        let mut threads = Vec::new();
        let mut orders = Vec::new();
        for (index, listener) in http_listeners.into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel(MAILBOX);
            orders.push(sender);
            let parts = WorkerParts {
                settings: Arc::clone(&settings),
                metrics: Arc::clone(&metrics),
                log: log.buffer(),
                http: Bound { address: http, listener },
                https: https
                    .zip(https_listeners.next())
                    .map(|(address, listener)| Bound { address, listener }),
                orders: receiver,
                epoch,
            };
            threads.push(spawn(&format!("worker-{index}"), move || worker::run(parts))?);
        }
        let (stop, stopping) = watch::channel(false);
        let (applied_to, applied) = watch::channel(Applied::default());
        let (key_sets_to, key_sets) = watch::channel(Arc::default());
        let control = Control {
            settings,
            metrics,
            feeds,
            orders,
            applied: applied_to,
            key_sets: key_sets_to,
            stopping,
            epoch,
        };
        let control = spawn("control", move || control::run(control, admin_listener))?;
        Ok(Self { http, https, admin, applied, key_sets, stop, threads, control, log })
    }

    /// Begins the end: not ready at once, connections are still taken for the lame-duck time, then what is in flight
    /// may finish within the drain time. Returns when all has ended.
    pub fn stop(self) {
        // The receiver is gone only if the control thread is: then the workers end by themselves.
        self.stop.send_replace(true);
        for thread in self.threads {
            report(thread.join());
        }
        report(self.control.join());
        self.log.close();
    }
}

fn report(ended: std::thread::Result<io::Result<()>>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a thread of the data plane failed"),
        Err(_) => tracing::error!("a thread of the data plane panicked"),
    }
}

fn spawn<F>(name: &str, run: F) -> Result<JoinHandle<io::Result<()>>, StartError>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StartError::Thread)
}

fn open_log(target: &AccessLogTarget, metrics: &Arc<Metrics>) -> Result<AccessLog, StartError> {
    AccessLog::open(target, metrics).map_err(|error| StartError::AccessLog {
        path: match target {
            AccessLogTarget::File(path) => path.display().to_string(),
            AccessLogTarget::Off | AccessLogTarget::Stdout => "standard output".to_owned(),
        },
        error,
    })
}
