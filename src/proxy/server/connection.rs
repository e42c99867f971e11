//! One client's connection: which HTTP it speaks, its deadlines, its age and its end.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1::{self, Parts};
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::opening;
use super::passthrough;
use super::proxy_protocol::{self, Absent, Client};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{self, Opened, Session};
use super::tunnel;
use super::worker::{LocalExecutor, Worker};
use crate::answer::AnswerBody;
use crate::observe::{HandshakeResult, ListenerMetrics};
use crate::pipeline;
use crate::timer::Timer;
use crate::tunnel::Offer;
use crate::upstream::UpstreamBody;

/// How much of an answer may wait for a client that is slow to take it, beside one part of its body.
const UNFLUSHED_BYTES_MAX: usize = 64 << 10;
/// How long a new connection's first request is waited for while the server drains.
const NEWBORN: Duration = Duration::from_millis(500);
/// How long a client may take to hear that its HTTP/2 connection ends while no request is on it.
const GOODBYE: Duration = Duration::from_secs(5);

/// Longer than any connection lasts, and short enough to be added to a clock.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What is known about a client's connection beside the requests on it.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// IPv4-mapped addresses are folded.
    pub(crate) peer: IpAddr,
    pub(crate) peer_text: String,
    pub(super) peer_port: u16,
    /// What the client connected to, folded as `peer` is; unspecified where that is not known.
    pub(super) local_ip: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) write_timer: Timer,
    pub(crate) write_timeout: Cell<Duration>,
    /// Bytes of answers that were handed to hyper and have not gone to the socket. Only HTTP/1.1: the windows of HTTP/2
    /// bound each stream.
    unflushed: Cell<usize>,
    /// The connection ends with an unread body: what still comes is read away for a moment, or the reset that closing
    /// it brings could overtake the answer.
    pub(crate) lingers: Cell<bool>,
    /// An answer whose request is still being sent upstream while hyper does not ask for more of it. Only HTTP/1.1.
    pub(crate) uploading: RefCell<Weak<RefCell<UpstreamBody>>>,
    /// Set when the handshake is done; never for a connection without TLS.
    tls: OnceCell<Session>,
    protocol: Cell<Protocol>,
    /// Requests that are being served.
    requests: Cell<u32>,
    phase: Cell<Phase>,
    phase_timer: Timer,
    read_timeout: Duration,
    idle_timeout: Duration,
    /// When requests could first come.
    opened: Cell<Instant>,
    retire_at: Instant,
    /// Set when HTTP/2 begins: many requests are on it, so no answer of theirs need be waited for.
    age_timer: OnceCell<Timer>,
    close: Cell<bool>,
    /// The server drains; who waits for that is told.
    is_drained: Cell<bool>,
    drained: Notify,
    waker: RefCell<Option<Waker>>,
    /// What becomes of the connection when its 101 has been sent.
    offer: RefCell<Option<Box<Offer>>>,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// One request after the other (RFC 9112).
    Http1,
    /// Many at once (RFC 9113).
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// TLS is being agreed on.
    Handshake,
    /// Nothing of the next request has come.
    Waiting,
    /// A part of a head has come.
    Head,
    /// A request is being served.
    Request,
}

impl Downstream {
    fn new(peer: SocketAddr, local: SocketAddr, worker: &Worker) -> Self {
        let settings = &worker.settings;
        // Up to a tenth is taken off, so that connections that were opened together do not all end together.
        let age = settings.connection_age_max;
        let jitter = age.mul_f64((worker.random.next() % 1024) as f64 / 10240.0);
        let downstream = Self {
            peer: peer.ip().to_canonical(),
            peer_text: peer.ip().to_canonical().to_string(),
            peer_port: peer.port(),
            local_ip: local.ip().to_canonical(),
            local_port: local.port(),
            write_timer: Timer::new(),
            write_timeout: Cell::new(settings.write_timeout),
            unflushed: Cell::new(0),
            lingers: Cell::new(false),
            uploading: RefCell::default(),
            tls: OnceCell::new(),
            protocol: Cell::new(Protocol::Http1),
            requests: Cell::new(0),
            phase: Cell::new(Phase::Waiting),
            phase_timer: Timer::new(),
            read_timeout: settings.read_timeout,
            idle_timeout: settings.idle_timeout,
            opened: Cell::new(Instant::now()),
            retire_at: Instant::now() + (age - jitter),
            age_timer: OnceCell::new(),
            close: Cell::new(false),
            is_drained: Cell::new(false),
            drained: Notify::new(),
            waker: RefCell::new(None),
            offer: RefCell::new(None),
        };
        // The first request must come as fast as any other; only later ones may be waited for.
        downstream.phase_timer.arm(settings.read_timeout);
        downstream
    }

    /// How TLS was agreed on; `None`: the connection is without.
    pub(crate) fn tls(&self) -> Option<&Session> {
        self.tls.get()
    }

    fn begin_handshake(&self, timeout: Duration) {
        self.phase.set(Phase::Handshake);
        self.phase_timer.arm(timeout);
    }

    fn end_handshake(&self, session: Session) {
        // Nothing else sets it.
        drop(self.tls.set(session));
        self.phase.set(Phase::Waiting);
        self.opened.set(Instant::now());
        self.phase_timer.arm(self.read_timeout);
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.protocol.get() == Protocol::Http2
    }

    /// The client has shown that it speaks HTTP/2: from now on it is idle between its requests.
    fn begin_http2(&self) {
        self.protocol.set(Protocol::Http2);
        let age_timer = self.age_timer.get_or_init(Timer::new);
        age_timer.arm(self.retire_at.saturating_duration_since(Instant::now()));
        self.phase.set(Phase::Waiting);
        self.phase_timer.arm(self.idle_timeout);
    }

    pub(super) fn on_read(&self) {
        // Frames of HTTP/2 that begin no request keep no connection.
        if self.phase.get() == Phase::Waiting && self.protocol.get() == Protocol::Http1 {
            self.phase.set(Phase::Head);
            self.phase_timer.arm(self.read_timeout);
        }
    }

    pub(super) fn on_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.phase.set(Phase::Request);
        self.phase_timer.disarm();
        self.unflushed.set(0);
    }

    pub(super) fn is_asked_to_close(&self) -> bool {
        self.close.get()
    }

    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> bool {
        self.phase_timer.poll_expired(cx)
    }

    /// Whether another part of an answer may be handed to hyper, or enough bytes wait for the socket (hardening SL03).
    pub(crate) fn may_buffer_more(&self) -> bool {
        self.unflushed.get() < UNFLUSHED_BYTES_MAX
    }

    /// A part of an answer was handed to hyper.
    pub(crate) fn on_answer_part(&self, bytes: usize) {
        if self.protocol.get() == Protocol::Http1 {
            self.unflushed.set(self.unflushed.get() + bytes);
        }
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

    /// An answer was handed over whole. Where it was the only one, the connection waits for its next request.
    pub(crate) fn on_answered(&self) {
        let left = self.requests.get().saturating_sub(1);
        self.requests.set(left);
        if left == 0 {
            self.phase.set(Phase::Waiting);
            let says_goodbye = self.is_http2() && self.close.get();
            self.phase_timer.arm(if says_goodbye { GOODBYE } else { self.idle_timeout });
        }
    }

    /// Whether this connection should end with the answer to a request that came at `now`.
    pub(crate) fn is_retiring(&self, now: Instant) -> bool {
        now >= self.retire_at
    }

    /// Asks the connection to end: at once if it is idle, else with its current answer. A connection on which nothing
    /// has come yet gets a moment: its first request may be on the way. A handshake is let come to its end before. A
    /// tunnel takes it for the beginning of the drain.
    pub(super) fn close(&self) {
        if self.phase.get() == Phase::Handshake {
            return;
        }
        if self.phase.get() == Phase::Waiting && self.opened.get().elapsed() < NEWBORN && !self.close.get() {
            return;
        }
        if !self.is_drained.replace(true) {
            self.drained.notify_waiters();
        }
        self.retire();
    }

    /// Comes back when the server drains.
    pub(super) async fn drained(&self) {
        if !self.is_drained.get() {
            self.drained.notified().await;
        }
    }

    /// Ends the connection with the requests that are on it.
    pub(crate) fn retire(&self) {
        if !self.close.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// The answer to the request that is served is 101: with its end the tunnel begins.
    pub(crate) fn offer(&self, offer: Offer) {
        *self.offer.borrow_mut() = Some(Box::new(offer));
    }

    /// The handshake is another's: no request comes, and nothing more is waited for.
    pub(super) fn on_passthrough(&self) {
        self.phase.set(Phase::Request);
        self.phase_timer.disarm();
    }

    /// A tunnel begins. Its client may be slow for as long as nothing at all may happen on the tunnel: what bounds a
    /// stuck answer in the middle of requests would end a chat whose reader has gone to sleep.
    fn on_tunnel(&self, idle: Option<Duration>) {
        self.write_timeout.set(idle.unwrap_or(FOR_EVER));
    }

    /// Sends on what a client uploads while it does not take the answer (hardening BE07).
    fn drive_upload(&self, cx: &mut Context<'_>) {
        let uploading = self.uploading.borrow().upgrade();
        if let Some(body) = uploading {
            body.borrow_mut().drive_upload(cx);
        }
    }

    pub(super) fn remember_waker(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
}

/// Serves a connection without TLS to its end. It is known to the worker until then.
pub(super) fn serve(
    worker: &Rc<Worker>,
    listener: &Arc<ListenerMetrics>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + use<> {
    // Not in the future: a task that was only spawned must be waited for, too.
    let mut open = Open::new(worker, listener, &stream, peer);
    async move {
        let Some(ahead) = open.hear_proxy(&stream).await else { return };
        let mut socket = Socket::plain(stream, ahead, Rc::clone(&open.downstream));
        let protocol = if open.worker.settings.h2c {
            opening::protocol(&mut socket, &open.downstream).await
        } else {
            Some(Protocol::Http1)
        };
        if let Some(protocol) = protocol {
            serve_http(open, socket, protocol).await;
        }
    }
}

/// Serves a connection with TLS to its end. It is known to the worker from before its handshake on, so that a drain
/// waits for it.
pub(super) fn serve_tls(
    worker: &Rc<Worker>,
    listener: &Arc<ListenerMetrics>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + use<> {
    let mut open = Open::new(worker, listener, &stream, peer);
    open.downstream.begin_handshake(worker.settings.handshake_timeout);
    async move {
        let Some(ahead) = open.hear_proxy(&stream).await else { return };
        let accepted = match handshake(&open, stream, ahead).await {
            Ok(Opened::Accepted(accepted)) => *accepted,
            Ok(Opened::Passed(passed)) => return passthrough::serve(&open, *passed).await,
            Err(result) => return open.listener.handshake_ended(result),
        };
        let result = if accepted.resumed { HandshakeResult::Resumed } else { HandshakeResult::Ok };
        open.listener.handshake_ended(result);
        open.downstream.end_handshake(accepted.session);
        let socket = Socket::tls(accepted.stream, Rc::clone(&open.downstream));
        serve_http(open, socket, accepted.protocol).await;
    }
}

/// Within its time. What it needs is freed with it, not with the connection.
async fn handshake(open: &Open, stream: TcpStream, ahead: BytesMut) -> Result<Opened, HandshakeResult> {
    let mut accepting = Box::pin(tls::accept(&open.worker, stream, ahead));
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| accepting.as_mut().poll(cx)));
        let Ok(polled) = polled else {
            open.worker.metrics.panicked();
            tracing::error!("a TLS handshake panicked; its connection is closed");
            return Poll::Ready(Err(HandshakeResult::Failed));
        };
        if polled.is_pending() && open.downstream.phase_timer.poll_expired(cx) {
            return Poll::Ready(Err(HandshakeResult::Timeout));
        }
        polled
    })
    .await
}

fn serve_http(open: Open, socket: Socket, protocol: Protocol) -> impl Future<Output = ()> {
    let (worker, downstream) = (Rc::clone(&open.worker), Rc::clone(&open.downstream));
    let reused = (protocol == Protocol::Http1).then(|| Rc::new(Stream::new(&downstream)));
    let service = service_fn(move |request| {
        let stream = reused.clone().unwrap_or_else(|| Rc::new(Stream::new(&downstream)));
        stream.on_request();
        pipeline::serve(Rc::clone(&worker), stream, request)
    });
    let http = match protocol {
        Protocol::Http1 => Http::One(open.worker.http1.serve_connection(socket, service)),
        Protocol::Http2 => {
            open.downstream.begin_http2();
            Http::Two(Box::new(open.worker.http2.serve_connection(socket, service)))
        }
    };
    let mut connection = Connection { http, open, closing: false };
    async move {
        let in_order = poll_fn(|cx| Pin::new(&mut connection).poll(cx)).await;
        let Connection { http, open, .. } = connection;
        // Taken in any case: it holds the connection that holds it.
        let offer = open.downstream.offer.take();
        if !in_order {
            return;
        }
        // Streams of HTTP/2 have their own ends.
        let Http::One(http) = http else { return };
        let Parts { mut io, read_buf, .. } = http.into_parts();
        match offer {
            Some(offer) => {
                open.downstream.on_tunnel(offer.idle);
                // Apart, for it is larger than what waits for its next request.
                let tunnel = Box::pin(offer.accept(&open.worker, TokioIo::new(io), &read_buf));
                drop(read_buf);
                tunnel::run(&open, tunnel).await;
            }
            // hyper leaves the end to others once a request on the connection has named another protocol. It does no
            // harm elsewhere: what is shut down stays so.
            None => drop(poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await),
        }
    }
}

/// A connection that counts as open, and that the worker knows.
pub(super) struct Open {
    pub(super) downstream: Rc<Downstream>,
    pub(super) worker: Rc<Worker>,
    listener: Arc<ListenerMetrics>,
    id: u64,
}

impl Open {
    fn new(
        worker: &Rc<Worker>,
        listener: &Arc<ListenerMetrics>,
        stream: &TcpStream,
        peer: SocketAddr,
    ) -> Self {
        let local = stream.local_addr().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let downstream = Rc::new(Downstream::new(peer, local, worker));
        listener.connection_opened();
        let id = worker.connections.borrow_mut().insert(Rc::clone(&downstream));
        Self { downstream, worker: Rc::clone(worker), listener: Arc::clone(listener), id }
    }

    /// Lets a load balancer say for whom it connects, where it must. What was read behind that is the client's. `None`:
    /// it did not say so as it should.
    async fn hear_proxy(&mut self, stream: &TcpStream) -> Option<BytesMut> {
        let downstream = &self.downstream;
        if !self.worker.settings.proxy_protocol.iter().any(|peers| peers.contains(&downstream.peer)) {
            return Some(BytesMut::new());
        }
        let (client, ahead) = match proxy_protocol::read(stream, downstream).await {
            Ok(header) => header,
            Err(Absent::Silent) => return None,
            Err(Absent::Malformed) => {
                self.listener.proxy_header_refused();
                return None;
            }
        };
        if let Client::Proxied { source, target } = client {
            // Nobody else holds the old one but the worker.
            let known = Downstream::new(source, target, &self.worker);
            if downstream.phase.get() == Phase::Handshake {
                known.begin_handshake(self.worker.settings.handshake_timeout);
            }
            self.downstream = Rc::new(known);
            self.worker.connections.borrow_mut().replace(self.id, Rc::clone(&self.downstream));
        }
        Some(ahead)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // An offer holds the connection that holds it.
        drop(self.downstream.offer.take());
        self.listener.connection_closed();
        self.worker.connections.borrow_mut().remove(self.id);
    }
}

/// HTTP on a connection, up to its end or a 101. True: it ended in order.
struct Connection<S>
where
    S: HttpService<Incoming>,
{
    http: Http<S>,
    open: Open,
    closing: bool,
}

/// The two kinds of connection.
enum Http<S>
where
    S: HttpService<Incoming>,
{
    One(http1::Connection<Socket, S>),
    Two(Box<http2::Connection<Socket, S, LocalExecutor>>),
}

impl<S> Http<S>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S::Future: 'static,
{
    /// Whether the connection ended in order. How else is in the records of its requests; nobody else wants to know.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::One(http) => Pin::new(http).poll(cx).map(|ended| ended.is_ok()),
            Self::Two(http) => Pin::new(http).poll(cx).map(|ended| ended.is_ok()),
        }
    }

    /// Takes no more requests: at once where none is on the connection, else after those that are.
    fn graceful_shutdown(&mut self) {
        match self {
            Self::One(http) => Pin::new(http).graceful_shutdown(),
            Self::Two(http) => Pin::new(&mut **http).graceful_shutdown(),
        }
    }
}

impl<S> Connection<S>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S::Future: 'static,
{
    fn begin_closing(&mut self) {
        self.closing = true;
        self.http.graceful_shutdown();
        let downstream = &self.open.downstream;
        // HTTP/2 waits for the client's word that it has heard.
        if downstream.is_http2() && downstream.phase.get() == Phase::Waiting {
            downstream.close.set(true);
            downstream.phase_timer.arm(GOODBYE);
        }
    }
}

impl<S> Future for Connection<S>
where
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S::Future: 'static,
{
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        if this.open.downstream.age_timer.get().is_some_and(|timer| timer.poll_expired(cx)) {
            this.open.downstream.close.set(true);
        }
        // hyper would drop a head that has begun to arrive; its answer will say `Connection: close`.
        if this.open.downstream.close.get()
            && !this.closing
            && this.open.downstream.phase.get() != Phase::Head
        {
            this.begin_closing();
        }
        // A panic costs its own connection and no other.
        let polled = catch_unwind(AssertUnwindSafe(|| this.http.poll(cx)));
        let Ok(polled) = polled else {
            this.open.worker.metrics.panicked();
            tracing::error!("serving a request panicked; its connection is closed");
            return Poll::Ready(false);
        };
        if let Poll::Ready(in_order) = polled {
            return Poll::Ready(in_order);
        }
        if this.open.downstream.phase_timer.poll_expired(cx) {
            // An idle one is ended as HTTP and TLS have it (RFC 8446 §6.1), if that takes no waiting.
            if !this.closing && this.open.downstream.phase.get() == Phase::Waiting {
                this.begin_closing();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(false);
        }
        this.open.downstream.drive_upload(cx);
        this.open.downstream.remember_waker(cx);
        Poll::Pending
    }
}
