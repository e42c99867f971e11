//! One client's connection: its deadlines, its age and its end.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use tokio::net::TcpStream;

use super::socket::Socket;
use super::worker::Worker;
use crate::answer::AnswerBody;
use crate::pipeline;
use crate::timer::Timer;
use crate::upstream::UpstreamBody;

/// How much of an answer may wait for a client that is slow to take it, beside one part of its body.
const UNFLUSHED_BYTES_MAX: usize = 64 << 10;
/// How long a new connection's first request is waited for while the server drains.
const NEWBORN: Duration = Duration::from_millis(500);

/// What is known about a client's connection beside the requests on it.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// IPv4-mapped addresses are folded.
    pub(crate) peer: IpAddr,
    pub(crate) peer_text: String,
    /// The port the client connected to.
    pub(crate) local_port: u16,
    pub(crate) body_timer: Timer,
    pub(crate) write_timer: Timer,
    pub(crate) write_timeout: Duration,
    /// Bytes of the current request's body so far.
    pub(crate) request_bytes: Cell<u64>,
    /// A part of the current request's body has not been read.
    pub(crate) body_unread: Cell<bool>,
    /// Bytes of answers that were handed to hyper and have not gone to the socket.
    pub(crate) unflushed: Cell<usize>,
    /// The connection ends with an unread body: what still comes is read away for a moment, or the reset that closing
    /// it brings could overtake the answer.
    pub(crate) lingers: Cell<bool>,
    /// An answer whose request is still being sent upstream while hyper does not ask for more of it.
    pub(crate) uploading: RefCell<Weak<RefCell<UpstreamBody>>>,
    phase: Cell<Phase>,
    phase_timer: Timer,
    read_timeout: Duration,
    idle_timeout: Duration,
    opened: Instant,
    retire_at: Instant,
    close: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of the next request has come.
    Waiting,
    /// A part of a head has come.
    Head,
    /// A request is being served.
    Request,
}

impl Downstream {
    fn new(peer: SocketAddr, local_port: u16, worker: &Worker) -> Self {
        let settings = &worker.settings;
        // Up to a tenth is taken off, so that connections that were opened together do not all end together.
        let age = settings.connection_age_max;
        let jitter = age.mul_f64((worker.random.next() % 1024) as f64 / 10240.0);
        let downstream = Self {
            peer: peer.ip().to_canonical(),
            peer_text: peer.ip().to_canonical().to_string(),
            local_port,
            body_timer: Timer::new(),
            write_timer: Timer::new(),
            write_timeout: settings.write_timeout,
            request_bytes: Cell::new(0),
            body_unread: Cell::new(false),
            unflushed: Cell::new(0),
            lingers: Cell::new(false),
            uploading: RefCell::default(),
            phase: Cell::new(Phase::Waiting),
            phase_timer: Timer::new(),
            read_timeout: settings.read_timeout,
            idle_timeout: settings.idle_timeout,
            opened: Instant::now(),
            retire_at: Instant::now() + (age - jitter),
            close: Cell::new(false),
            waker: RefCell::new(None),
        };
        // The first request must come as fast as any other; only later ones may be waited for.
        downstream.phase_timer.arm(settings.read_timeout);
        downstream
    }

    pub(super) fn on_read(&self) {
        if self.phase.get() == Phase::Waiting {
            self.phase.set(Phase::Head);
            self.phase_timer.arm(self.read_timeout);
        }
    }

    fn on_request(&self) {
        self.phase.set(Phase::Request);
        self.phase_timer.disarm();
        self.body_timer.disarm();
        self.request_bytes.set(0);
        self.body_unread.set(false);
        self.unflushed.set(0);
    }

    /// Whether another part of an answer may be handed to hyper, or enough bytes wait for the socket (hardening SL03).
    pub(crate) fn may_buffer_more(&self) -> bool {
        self.unflushed.get() < UNFLUSHED_BYTES_MAX
    }

    /// Bytes have gone to the socket. hyper does not ask an answer for more after a flush, so it is woken where the
    /// answer had been held back.
    pub(super) fn on_written(&self, cx: &Context<'_>, written: usize) {
        let before = self.unflushed.get();
        let after = before.saturating_sub(written);
        self.unflushed.set(after);
        if before >= UNFLUSHED_BYTES_MAX && after < UNFLUSHED_BYTES_MAX {
            cx.waker().wake_by_ref();
        }
    }

    /// The answer was handed over whole; the connection waits for its next request.
    pub(crate) fn on_answered(&self) {
        self.phase.set(Phase::Waiting);
        self.phase_timer.arm(self.idle_timeout);
    }

    /// Whether this connection should end with the answer to a request that came at `now`.
    pub(crate) fn is_retiring(&self, now: Instant) -> bool {
        now >= self.retire_at
    }

    /// Asks the connection to end: at once if it is idle, else with its current answer. A connection on which nothing
    /// has come yet gets a moment: its first request may be on the way.
    pub(super) fn close(&self) {
        if self.phase.get() == Phase::Waiting && self.opened.elapsed() < NEWBORN && !self.close.get() {
            return;
        }
        self.close.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Sends on what a client uploads while it does not take the answer (hardening BE07).
    fn drive_upload(&self, cx: &mut Context<'_>) {
        let uploading = self.uploading.borrow().upgrade();
        if let Some(body) = uploading {
            body.borrow_mut().drive_upload(cx);
        }
    }

    fn remember_waker(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
}

/// Serves a connection to its end. It is known to the worker until then.
pub(super) fn serve(
    worker: &Rc<Worker>,
    builder: &http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + use<> {
    let local_port = stream.local_addr().map_or(0, |address| address.port());
    let downstream = Rc::new(Downstream::new(peer, local_port, worker));
    worker.listener.connection_opened();
    let id = worker.connections.borrow_mut().insert(Rc::clone(&downstream));
    let socket = Socket::new(stream, Rc::clone(&downstream));
    let service = {
        let (worker, downstream) = (Rc::clone(worker), Rc::clone(&downstream));
        service_fn(move |request| {
            downstream.on_request();
            pipeline::serve(Rc::clone(&worker), Rc::clone(&downstream), request)
        })
    };
    let http = builder.serve_connection(socket, service);
    Connection { http, downstream, worker: Rc::clone(worker), id, closing: false }
}

/// A connection as a task of its worker.
struct Connection<S>
where
    S: HttpService<Incoming>,
{
    http: http1::Connection<Socket, S>,
    downstream: Rc<Downstream>,
    worker: Rc<Worker>,
    id: u64,
    closing: bool,
}

impl<S> Future for Connection<S>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // hyper would drop a head that has begun to arrive; its answer will say `Connection: close`.
        if this.downstream.close.get() && !this.closing && this.downstream.phase.get() != Phase::Head {
            this.closing = true;
            Pin::new(&mut this.http).graceful_shutdown();
        }
        // A panic costs its own connection and no other.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.http).poll(cx)));
        let Ok(polled) = polled else {
            this.worker.metrics.panicked();
            tracing::error!("serving a request panicked; its connection is closed");
            return Poll::Ready(());
        };
        // How a connection ended is in the records of its requests; nobody else wants to know.
        if polled.is_ready() || this.downstream.phase_timer.poll_expired(cx) {
            return Poll::Ready(());
        }
        this.downstream.drive_upload(cx);
        this.downstream.remember_waker(cx);
        Poll::Pending
    }
}

impl<S: HttpService<Incoming>> Drop for Connection<S> {
    fn drop(&mut self) {
        self.worker.listener.connection_closed();
        self.worker.connections.borrow_mut().remove(self.id);
    }
}
