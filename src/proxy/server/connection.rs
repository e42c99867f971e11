//! One client's connection from its first byte to its end: which HTTP it speaks, and what becomes of it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1::{self, Parts};
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::downstream::{Downstream, GOODBYE, Phase, Protocol};
use super::opening;
use super::passthrough;
use super::proxy_protocol::{self, Absent, Client};
use super::socket::Socket;
use super::stream::Stream;
use super::tls::{self, Opened};
use super::tunnel;
use super::worker::{LocalExecutor, Worker};
use crate::answer::AnswerBody;
use crate::observe::{HandshakeResult, ListenerMetrics};
use crate::pipeline;

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
    let http = match protocol {
        Protocol::Http1 => {
            let stream = Rc::new(Stream::new(&downstream));
            let service = service_fn(move |request| {
                stream.on_request();
                pipeline::serve(Rc::clone(&worker), Rc::clone(&stream), request)
            });
            Http::One(open.worker.http1.serve_connection(socket, service))
        }
        Protocol::Http2 => {
            open.downstream.begin_http2();
            // In a box, for it is handed on several times until it runs, and is large.
            let service = service_fn(move |request| {
                let stream = Rc::new(Stream::new(&downstream));
                stream.on_request();
                Box::pin(pipeline::serve(Rc::clone(&worker), stream, request))
            });
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
struct Connection<S1, S2>
where
    S1: HttpService<Incoming>,
    S2: HttpService<Incoming>,
{
    http: Http<S1, S2>,
    open: Open,
    closing: bool,
}

/// The two kinds of connection.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is that of HTTP/1.1, which most connections are"
)]
enum Http<S1, S2>
where
    S1: HttpService<Incoming>,
    S2: HttpService<Incoming>,
{
    One(http1::Connection<Socket, S1>),
    Two(Box<http2::Connection<Socket, S2, LocalExecutor>>),
}

impl<S1, S2> Http<S1, S2>
where
    S1: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S2: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S1::Future: 'static,
    S2::Future: 'static,
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

impl<S1, S2> Connection<S1, S2>
where
    S1: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S2: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S1::Future: 'static,
    S2::Future: 'static,
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

impl<S1, S2> Future for Connection<S1, S2>
where
    S1: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S2: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
    S1::Future: 'static,
    S2::Future: 'static,
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
