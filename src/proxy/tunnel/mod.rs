//! Tunnels: what a connection is after a client and an upstream have agreed on another protocol (RFC 9110 §7.8), and one
//! that is passed through. Copies bytes and understands none of them but the ends of WebSocket frames.

mod copy;
mod frames;
mod pair;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::pair::{Tunnel, TunnelOptions};
use crate::observe::Metrics;
use crate::record::Record;
use crate::server::Worker;
use crate::upstream::{Held, PassageHeld, Switched, Upgraded};

/// A tunnel whose client has not been told yet: its 101 is on the way.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) upstream: Box<Switched>,
    pub(crate) is_websocket: bool,
    /// The longest time without a byte in either direction; `None`: for ever.
    pub(crate) idle: Option<Duration>,
    /// Finished when the tunnel ends.
    pub(crate) record: Record,
}

/// A tunnel as its client's task runs it.
pub(crate) trait Drain: Future<Output = ()> {
    /// The server drains. Later calls do nothing.
    fn drain(self: Pin<&mut Self>);
}

/// A connection that is passed through as it is: no request began it.
#[derive(Debug)]
pub(crate) struct Passing<C> {
    tunnel: Tunnel<C, TcpStream>,
    _held: PassageHeld,
    _open: Open,
}

impl<C> Passing<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    /// `ahead`: what the endpoint is told before what the client says from now on. `idle`: as in [`Offer`].
    pub(crate) fn new(
        worker: &Rc<Worker>,
        ends: (C, TcpStream),
        ahead: BytesMut,
        held: PassageHeld,
        idle: Option<Duration>,
    ) -> Self {
        let options = TunnelOptions {
            is_websocket: false,
            idle,
            drain: worker.settings.drain,
            random: worker.random.next(),
        };
        let (client, endpoint) = ends;
        Self {
            tunnel: Tunnel::new(client, endpoint, (ahead, BytesMut::new()), options),
            _held: held,
            _open: Open::new(Arc::clone(&worker.metrics)),
        }
    }
}

impl<C> Drain for Passing<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    fn drain(mut self: Pin<&mut Self>) {
        self.tunnel.drain();
    }
}

impl<C> Future for Passing<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.tunnel.poll(cx)
    }
}

/// A tunnel as a part of its client's task.
#[derive(Debug)]
pub(crate) struct Running<C> {
    tunnel: Tunnel<C, Upgraded>,
    record: Record,
    _held: Held,
    _open: Open,
}

impl Offer {
    /// The client's part of the connection, and what it has said behind its request.
    pub(crate) fn accept<C>(self, worker: &Rc<Worker>, client: C, ahead: &Bytes) -> Running<C>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { upstream, is_websocket, idle, mut record } = self;
        let Switched { io, ahead: from_upstream, held } = *upstream;
        let options =
            TunnelOptions { is_websocket, idle, drain: worker.settings.drain, random: worker.random.next() };
        // Copied: they stand in buffers that may be as large as a head or a part of a body.
        let ahead = (BytesMut::from(&**ahead), BytesMut::from(&*from_upstream));
        // A tunnel may last for days. It must not keep the configuration of its first one.
        record.forget_generation();
        Running {
            tunnel: Tunnel::new(client, io, ahead, options),
            record,
            _held: held,
            _open: Open::new(Arc::clone(&worker.metrics)),
        }
    }
}

impl<C> Drain for Running<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    fn drain(mut self: Pin<&mut Self>) {
        self.tunnel.drain();
    }
}

impl<C> Future for Running<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.tunnel.poll(cx);
        let (bytes_in, bytes_out) = self.tunnel.bytes();
        self.record.on_tunnelled(bytes_in, bytes_out);
        polled
    }
}

/// Counts as an open tunnel.
#[derive(Debug)]
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.tunnel_opened();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.tunnel_closed();
    }
}
