//! The way of a connection from its first byte to the end of its TLS handshake. Knows no HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::HandshakeKind;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::downstream::Protocol;
use super::passthrough::{Passed, refuse};
use super::worker::Worker;
use crate::observe::HandshakeResult;
use crate::tls::{Client, Selected};

/// How much of a first message is kept for whom the connection may be passed through to. Above what rustls takes for one,
/// the headers of its records among it (64 KiB).
const HEARD_BYTES_MAX: usize = 128 << 10;

/// A client's TCP connection below TLS. It remembers that bytes went out: rustls has a buffer between, so that what TLS
/// says of a write tells nothing about the client.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) tcp: TcpStream,
    /// What was read already.
    ahead: BytesMut,
    /// All that rustls has read, while the connection may still be passed through.
    heard: Option<BytesMut>,
    /// Since the last look.
    pub(super) moved: bool,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = if self.ahead.is_empty() {
            Pin::new(&mut self.tcp).poll_read(cx, buffer)
        } else {
            let taken = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(taken));
            Poll::Ready(Ok(()))
        };
        if self.heard.is_some() {
            self.hear(buffer.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl Wire {
    fn hear(&mut self, bytes: &[u8]) {
        let fits = |heard: &BytesMut| heard.len() + bytes.len() <= HEARD_BYTES_MAX;
        self.heard = self.heard.take().filter(fits);
        if let Some(heard) = &mut self.heard {
            heard.extend_from_slice(bytes);
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.moved |= polled.is_ready();
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.moved |= polled.is_ready();
        polled
    }
}

/// What a handshake agreed on.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the client asked for (RFC 6066 §3), folded. `None`: it named none, or none that could be one.
    pub(crate) server_name: Option<Box<str>>,
    /// What is proved of the client.
    pub(crate) client: Client,
}

/// What became of a client's first message.
#[derive(Debug)]
pub(super) enum Opened {
    Accepted(Box<Accepted>),
    /// The handshake is another's.
    Passed(Box<Passed>),
}

/// A handshake that came to its end.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TlsStream<Wire>,
    pub(super) session: Session,
    /// By ALPN (RFC 7301); HTTP/1.1 where the client offered nothing.
    pub(super) protocol: Protocol,
    pub(super) resumed: bool,
}

/// A fatal alert `unrecognized_name` as a record (RFC 8446 §5.1, §6.2). There are no keys yet to seal it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Leads a handshake by the generation that the worker has when the client's first message is whole. Its time is the
/// caller's to bound.
///
/// # Errors
/// Why there is no connection. The client has its alert, where there is one for it.
pub(super) async fn accept(
    worker: &Worker,
    tcp: TcpStream,
    ahead: BytesMut,
) -> Result<Opened, HandshakeResult> {
    // Only where a connection could be passed through.
    let heard = (!worker.generation().passthroughs.is_empty()).then(BytesMut::new);
    let wire = Wire { tcp, ahead, heard, moved: false };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), wire).await;
    let mut hello = hello.map_err(|_| HandshakeResult::Failed)?;
    let generation = worker.generation();
    let passed = generation.passthroughs.select(hello.client_hello().server_name()).map(Arc::clone);
    let heard = hello.io.heard.take();
    if let Some(host) = passed {
        let wire = hello.io;
        let Some(heard) = heard else {
            // It was too long, or no host was passed through yet when it began.
            refuse(wire).await;
            return Err(HandshakeResult::Failed);
        };
        return Ok(Opened::Passed(Box::new(Passed { wire, heard, host })));
    }
    let selected = generation.tls.select(hello.client_hello().server_name());
    // A slow handshake must not keep a generation.
    drop(generation);
    let Some(Selected { config, server_name, asks }) = selected else {
        // The client may have gone; it is refused either way.
        drop(hello.io.write_all(&UNRECOGNIZED_NAME).await);
        drop(hello.io.shutdown().await);
        return Err(HandshakeResult::NoCertificate);
    };
    let stream = hello.into_stream(config).await.map_err(|_| HandshakeResult::Failed)?;
    let connection = stream.get_ref().1;
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let protocol = if connection.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    let client = Client::new(asks.as_ref(), connection.peer_certificates(), resumed);
    let Some(client) = client else {
        let mut stream = stream;
        drop(stream.shutdown().await);
        return Err(HandshakeResult::Failed);
    };
    let session = Session { server_name, client };
    Ok(Opened::Accepted(Box::new(Accepted { stream, session, protocol, resumed })))
}
