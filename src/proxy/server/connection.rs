//! One client's connection from its first byte to its end: which HTTP it speaks, and what becomes of it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
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
use super::tls::{self, Accepted, Opened};
use super::tunnel;
use super::worker::{LocalExecutor, Worker};
use crate::answer::AnswerBody;
use crate::observe::{HandshakeResult, ListenerMetrics};
use crate::pipeline;
use crate::tunnel::Offer;

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
        let (socket, protocol) = match handshake(&open, stream, ahead).await {
            Ok(Opened::Accepted(accepted)) => open.accepted(accepted),
            // In a box, like the handshake: what rests for hours is kept small.
            Ok(Opened::Passed(passed)) => return Box::pin(passthrough::serve(&open, *passed)).await,
            Err(result) => return open.listener.handshake_ended(result),
        };
        serve_http(open, socket, protocol).await;
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
            Http::One(Box::new(open.worker.http1.serve_connection(socket, service)))
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
    let mut connection = Connection { http: Some(http), open, closing: false };
    async move {
        let in_order = poll_fn(|cx| connection.poll(cx)).await;
        // Taken in any case: it holds the connection that holds it.
        let offer = connection.open.downstream.offer.take();
        if in_order {
            connection.end(offer).await;
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
        worker.metrics.overload.connection_opened();
        let id = worker.connections.borrow_mut().insert(Rc::clone(&downstream));
        Self { downstream, worker: Rc::clone(worker), listener: Arc::clone(listener), id }
    }

    /// The handshake is done.
    fn accepted(&self, accepted: Box<Accepted>) -> (Socket, Protocol) {
        let result = if accepted.resumed { HandshakeResult::Resumed } else { HandshakeResult::Ok };
        self.listener.handshake_ended(result);
        self.downstream.end_handshake(accepted.session);
        (Socket::tls(accepted.stream, Rc::clone(&self.downstream)), accepted.protocol)
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
        self.worker.metrics.overload.connection_closed();
        self.worker.connections.borrow_mut().remove(self.id);
    }
}

/// HTTP on a connection, up to its end or a 101.
struct Connection<S1, S2>
where
    S1: HttpService<Incoming>,
    S2: HttpService<Incoming>,
{
    /// `None` only while it changes.
    http: Option<Http<S1, S2>>,
    open: Open,
    closing: bool,
}

/// What stands between a socket and the requests on it. In boxes, for most connections rest most of the time.
enum Http<S1, S2>
where
    S1: HttpService<Incoming>,
    S2: HttpService<Incoming>,
{
    One(Box<http1::Connection<Socket, S1>>),
    Two(Box<http2::Connection<Socket, S2, LocalExecutor>>),
    /// Between two requests of HTTP/1.1 that are far apart: hyper would keep some 20 KiB for the next one.
    Resting {
        socket: Socket,
        service: S1,
    },
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
            Self::One(http) => Pin::new(&mut **http).poll(cx).map(|ended| ended.is_ok()),
            Self::Two(http) => Pin::new(&mut **http).poll(cx).map(|ended| ended.is_ok()),
            Self::Resting { .. } => Poll::Ready(true),
        }
    }

    /// Takes no more requests: at once where none is on the connection, else after those that are.
    fn graceful_shutdown(&mut self) {
        match self {
            Self::One(http) => Pin::new(&mut **http).graceful_shutdown(),
            Self::Two(http) => Pin::new(&mut **http).graceful_shutdown(),
            Self::Resting { .. } => {}
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
    /// Whether it ended in order.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(Http::Resting { .. }) = &self.http {
            let in_order = ready!(self.poll_rest(cx));
            if let Some(Http::Resting { .. }) = &self.http {
                return Poll::Ready(in_order);
            }
        }
        if self.open.downstream.age_timer.get().is_some_and(|timer| timer.poll_expired(cx)) {
            self.open.downstream.close.set(true);
        }
        // hyper would drop a head that has begun to arrive; its answer will say `Connection: close`.
        if self.open.downstream.close.get()
            && !self.closing
            && self.open.downstream.phase.get() != Phase::Head
        {
            self.begin_closing();
        }
        let Some(http) = &mut self.http else { return Poll::Ready(false) };
        // A panic costs its own connection and no other.
        let polled = catch_unwind(AssertUnwindSafe(|| http.poll(cx)));
        let Ok(polled) = polled else {
            self.open.worker.metrics.panicked();
            tracing::error!("serving a request panicked; its connection is closed");
            return Poll::Ready(false);
        };
        if let Poll::Ready(in_order) = polled {
            return Poll::Ready(in_order);
        }
        if self.open.downstream.phase_timer.poll_expired(cx) {
            if self.open.downstream.begin_rest() {
                self.rest();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // An idle one is ended as HTTP and TLS have it (RFC 8446 §6.1), if that takes no waiting.
            if !self.closing && self.open.downstream.phase.get() == Phase::Waiting {
                self.begin_closing();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(false);
        }
        self.open.downstream.drive_upload(cx);
        self.open.downstream.remember_waker(cx);
        Poll::Pending
    }

    fn begin_closing(&mut self) {
        self.closing = true;
        if let Some(http) = &mut self.http {
            http.graceful_shutdown();
        }
        let downstream = &self.open.downstream;
        // HTTP/2 waits for the client's word that it has heard.
        if downstream.is_http2() && downstream.phase.get() == Phase::Waiting {
            downstream.close.set(true);
            downstream.phase_timer.arm(GOODBYE);
        }
    }

    /// Lets go of what is kept for the next request, which has been waited for some time. An answer that its client has
    /// not taken stays.
    fn rest(&mut self) {
        if self.closing || self.open.downstream.write_timer.is_armed() {
            return;
        }
        self.http = match self.http.take() {
            Some(Http::One(http)) => {
                let Parts { io: mut socket, read_buf, service, .. } = http.into_parts();
                socket.give_back(&read_buf);
                Some(Http::Resting { socket, service })
            }
            other => other,
        };
    }

    /// Waits for the next request while resting. `Ready` where there is another state or the connection ends.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Http::Resting { socket, .. }) = &mut self.http else { return Poll::Ready(true) };
        let downstream = &self.open.downstream;
        if socket.ahead().is_empty() {
            match socket.poll_ahead(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(true),
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if downstream.close.get() || downstream.phase_timer.poll_expired(cx) {
                        return Poll::Ready(true);
                    }
                    downstream.remember_waker(cx);
                    return Poll::Pending;
                }
            }
        }
        downstream.on_read();
        self.http = match self.http.take() {
            Some(Http::Resting { socket, service }) => {
                let http = self.open.worker.http1.serve_connection(socket, service);
                Some(Http::One(Box::new(http)))
            }
            other => other,
        };
        Poll::Ready(true)
    }

    /// What comes after HTTP: a tunnel, if one is on offer, or the end of the socket.
    async fn end(self, offer: Option<Box<Offer>>) {
        let Self { http, open, .. } = self;
        let (mut io, read_buf) = match http {
            Some(Http::One(http)) => {
                let Parts { io, read_buf, .. } = http.into_parts();
                (io, read_buf)
            }
            Some(Http::Resting { socket, .. }) => (socket, Bytes::new()),
            // Streams of HTTP/2 have their own ends.
            Some(Http::Two(_)) | None => return,
        };
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
