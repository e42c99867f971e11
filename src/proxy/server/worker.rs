//! A worker: one thread with its own runtime, listeners, pools and view of the generation.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{self, MissedTickBehavior};
use tracing::{debug, warn};

use super::connection;
use super::downstream::Downstream;
use super::turn_away::turn_away;
use crate::filter::auth::{AnswerCache, VerdictCache};
use crate::generation::{Generation, WorkerGeneration};
use crate::observe::{LastingTask, ListenerMetrics, LogBuffer, Metrics, give_free_memory_back};
use crate::random::Random;
use crate::settings::Settings;
use crate::task::{caught, lasting};
use crate::timer;
use crate::upstream::Pools;

/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Tokens whose verdict a worker remembers.
const VERDICTS_MAX: usize = 4096;
const VERDICT_BYTES_MAX: usize = 16 << 20;
const REAP_EVERY: Duration = Duration::from_secs(1);

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 100;
/// A request's fields over HTTP/2, as RFC 9113 §6.5.2 counts them.
const HTTP2_HEAD_BYTES_MAX: u32 = 64 << 10;
/// How much of a request's body, and of all bodies on a connection, may wait to be read.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 1 << 20;
/// How much of one answer may wait to be sent.
const HTTP2_UNSENT_BYTES_MAX: usize = 64 << 10;

/// Runs the requests of HTTP/2 connections on the worker's own thread. They are known to their connections: one that
/// ends resets its streams, and with that their tasks end.
#[derive(Clone, Debug)]
pub(super) struct LocalExecutor {
    metrics: Arc<Metrics>,
}

impl<F> Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        spawn(task, Arc::clone(&self.metrics));
    }
}

/// Runs a task on the worker's own thread. A panic costs the task and no other.
fn spawn<F: Future + 'static>(task: F, metrics: Arc<Metrics>) {
    tokio::task::spawn_local(async move {
        if caught(task).await.is_none() {
            metrics.panicked();
            tracing::error!("serving a request panicked; its stream is reset");
        }
    });
}

/// What the control thread tells a worker. The mailbox is bounded.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve this from the next request on, and say so.
    Serve(Arc<Generation>, mpsc::Sender<()>),
    /// From now on answers close their connections.
    LameDuck,
    /// Take what is queued on the listener, close it, close idle connections, and end when the last request has.
    Drain,
    /// End now, whatever is in flight.
    Cut,
}

/// Everything that requests on one worker share. Never leaves its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    /// How HTTP/1.1 is spoken.
    pub(super) http1: http1::Builder,
    /// How HTTP/2 is spoken.
    pub(super) http2: http2::Builder<LocalExecutor>,
    pub(crate) random: Random,
    pub(crate) pools: RefCell<Pools>,
    pub(crate) verdicts: RefCell<VerdictCache>,
    pub(crate) auth_answers: RefCell<AnswerCache>,
    pub(crate) log: RefCell<LogBuffer>,
    /// Idle upstream connections of one backend that this worker keeps when the load has gone.
    pub(crate) upstream_idle_max: usize,
    /// The monotonic clock's zero for limits, breakers and health; the same on all workers.
    pub(crate) epoch: Instant,
    pub(super) connections: RefCell<Connections>,
    generation: RefCell<Rc<WorkerGeneration>>,
    serves: Cell<bool>,
    closing: Cell<bool>,
}

/// What a worker is made of.
#[derive(Debug)]
pub(super) struct WorkerParts {
    pub(super) settings: Arc<Settings>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: LogBuffer,
    pub(super) http: Bound,
    pub(super) https: Option<Bound>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) epoch: Instant,
}

/// A worker's socket on an address.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) listener: std::net::TcpListener,
}

/// What a worker accepts from.
struct Listeners {
    http: Listener,
    https: Option<Listener>,
}

struct Listener {
    socket: TcpListener,
    metrics: Arc<ListenerMetrics>,
    has_tls: bool,
}

impl Listener {
    fn new(bound: Bound, metrics: &Metrics, has_tls: bool) -> io::Result<Self> {
        let metrics = metrics.listener(&bound.address.to_string());
        Ok(Self { socket: TcpListener::from_std(bound.listener)?, metrics, has_tls })
    }
}

impl Listeners {
    /// The next connection, whichever listener it comes to: neither keeps the other out. Can be dropped at any time.
    async fn accept(&self) -> (&Listener, io::Result<(TcpStream, SocketAddr)>) {
        let Some(https) = &self.https else { return (&self.http, self.http.socket.accept().await) };
        tokio::select! {
            accepted = self.http.socket.accept() => (&self.http, accepted),
            accepted = https.socket.accept() => (https, accepted),
        }
    }
}

/// The open connections, so that they can be told to end.
#[derive(Debug, Default)]
pub(super) struct Connections {
    next: u64,
    open: HashMap<u64, Rc<Downstream>>,
}

impl Connections {
    pub(super) fn insert(&mut self, downstream: Rc<Downstream>) -> u64 {
        self.next += 1;
        self.open.insert(self.next, downstream);
        self.next
    }

    pub(super) fn replace(&mut self, id: u64, downstream: Rc<Downstream>) {
        self.open.insert(id, downstream);
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.open.remove(&id);
    }
}

impl Worker {
    /// The generation that requests see now. The empty one is never served: nothing is accepted before the first.
    pub(crate) fn generation(&self) -> Rc<WorkerGeneration> {
        Rc::clone(&self.generation.borrow())
    }

    /// Runs what a client's stream has begun, until it ends by itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn(task, Arc::clone(&self.metrics));
    }

    /// Whether answers should close their connections.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Nanoseconds on the process's own monotonic clock.
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Runs a worker until it has drained. Blocks the thread.
///
/// # Errors
/// The runtime could not be made, or the listener not be given to it.
pub(super) fn run(parts: WorkerParts) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listeners = Listeners {
            http: Listener::new(parts.http, &parts.metrics, false)?,
            https: parts.https.map(|https| Listener::new(https, &parts.metrics, true)).transpose()?,
        };
        let workers = parts.settings.workers.max(1);
        let worker = Rc::new(Worker {
            upstream_idle_max: parts.settings.upstream_idle_connections_max.div_ceil(workers),
            http1: http1_builder(parts.settings.head_bytes_max),
            http2: http2_builder(Arc::clone(&parts.metrics)),
            settings: parts.settings,
            metrics: parts.metrics,
            random: Random::new(),
            pools: RefCell::default(),
            verdicts: RefCell::new(VerdictCache::new(VERDICTS_MAX, VERDICT_BYTES_MAX)),
            auth_answers: RefCell::default(),
            log: RefCell::new(parts.log),
            epoch: parts.epoch,
            connections: RefCell::default(),
            generation: RefCell::default(),
            serves: Cell::new(false),
            closing: Cell::new(false),
        });
        let kept = Rc::clone(&worker);
        let housekeeping = tokio::task::spawn_local(async move {
            lasting(LastingTask::Housekeeping, &kept.metrics, async || keep_house(&kept).await).await;
        });
        serve(&worker, listeners, parts.orders).await;
        housekeeping.abort();
        worker.log.borrow_mut().flush();
        Ok(())
    })
}

/// Ticks the timers, reaps idle upstream connections and hands the log over.
async fn keep_house(worker: &Worker) {
    let mut ticks = time::interval(timer::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reaped = Instant::now();
    loop {
        ticks.tick().await;
        timer::tick();
        worker.log.borrow_mut().flush();
        worker.pools.borrow_mut().yield_wanted();
        if worker.metrics.overload.is_over() {
            give_free_memory_back();
        }
        let now = Instant::now();
        if now.duration_since(reaped) >= REAP_EVERY {
            reaped = now;
            let (idle_for, idle_max) = (worker.settings.upstream_idle, worker.upstream_idle_max);
            worker.pools.borrow_mut().reap(now, idle_for, idle_max);
        }
    }
}

fn http1_builder(head_bytes_max: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    builder.max_buf_size(head_bytes_max.max(8 << 10));
    builder.max_header_size(head_bytes_max);
    builder
}

fn http2_builder(metrics: Arc<Metrics>) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor { metrics });
    builder.max_concurrent_streams(HTTP2_STREAMS_MAX);
    builder.max_header_list_size(HTTP2_HEAD_BYTES_MAX);
    builder.initial_stream_window_size(HTTP2_STREAM_WINDOW);
    builder.initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
    builder.max_send_buf_size(HTTP2_UNSENT_BYTES_MAX);
    // WebSocket (RFC 8441).
    builder.enable_connect_protocol();
    builder
}

async fn serve(worker: &Rc<Worker>, listeners: Listeners, mut orders: mpsc::Receiver<Order>) {
    // Nothing is accepted before there is something to serve: connections wait in the kernel's queue meanwhile.
    let mut led = true;
    loop {
        let accepting = worker.serves.get();
        tokio::select! {
            biased;
            order = orders.recv(), if led => match order {
                Some(Order::Serve(generation, done)) => take_generation(worker, generation, &done),
                Some(Order::LameDuck) => worker.closing.set(true),
                Some(Order::Drain | Order::Cut) => break,
                // The control thread is gone. The last generation is served for ever.
                None => led = false,
            },
            (listener, accepted) = listeners.accept(), if accepting => accept(worker, listener, accepted).await,
        }
    }
    worker.closing.set(true);
    for listener in [Some(listeners.http), listeners.https].into_iter().flatten() {
        if let Err(error) = accept_queued(worker, listener) {
            warn!(%error, "connections that waited to be accepted are lost");
        }
    }
    tokio::select! {
        () = drain(worker) => {}
        () = cut(orders) => {}
    }
}

/// Comes back when what is in flight must not be waited for any longer.
async fn cut(mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        if matches!(order, Order::Cut) {
            return;
        }
    }
    std::future::pending().await
}

fn take_generation(worker: &Worker, generation: Arc<Generation>, done: &mpsc::Sender<()>) {
    *worker.generation.borrow_mut() = Rc::new(WorkerGeneration::new(generation));
    worker.serves.set(true);
    if done.try_send(()).is_err() {
        debug!("nobody waits for the acknowledgement any more");
    }
}

async fn accept(worker: &Rc<Worker>, listener: &Listener, accepted: io::Result<(TcpStream, SocketAddr)>) {
    match accepted {
        Ok((stream, peer)) => start(worker, &listener.metrics, listener.has_tls, stream, peer),
        Err(error) => {
            // Out of file descriptors or memory: the queue stays, so trying again at once would only spin.
            warn!(%error, "accepting a connection failed");
            time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn start(
    worker: &Rc<Worker>,
    metrics: &Arc<ListenerMetrics>,
    has_tls: bool,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let overload = &worker.metrics.overload;
    if let Some(why) = overload.refuses_connection() {
        overload.shed(why);
        return turn_away(stream, has_tls);
    }
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "the client was gone before its connection was served");
        return;
    }
    if has_tls {
        tokio::task::spawn_local(connection::serve_tls(worker, metrics, stream, peer));
    } else {
        tokio::task::spawn_local(connection::serve(worker, metrics, stream, peer));
    }
}

/// Takes every connection that the kernel has completed already, so that closing the listener resets none. Asks the
/// kernel itself: the runtime says "nothing there" also where it has only not looked.
fn accept_queued(worker: &Rc<Worker>, listener: Listener) -> io::Result<()> {
    let Listener { socket, metrics, has_tls } = listener;
    let socket = socket.into_std()?;
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                start(worker, &metrics, has_tls, TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Closes idle connections and waits for the busy ones. The caller bounds the time.
async fn drain(worker: &Worker) {
    let mut ticks = time::interval(Duration::from_millis(10));
    loop {
        let open: Vec<_> = worker.connections.borrow().open.values().cloned().collect();
        if open.is_empty() {
            return;
        }
        // What was accepted a moment ago is read first: its request may be there already.
        ticks.tick().await;
        open.iter().for_each(|downstream| downstream.close());
    }
}
