//! The one wrapper around a client's socket: the first bytes, the write-stall deadline and the moment a request begins
//! to arrive. PROXY protocol, the head guard and the parking of idle connections have their place here.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Downstream;
use super::tls::Wire;

/// A client's connection as hyper sees it.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
    downstream: Rc<Downstream>,
    /// What was read while there was no hyper, and it has not seen.
    ahead: BytesMut,
    /// Nothing more is written.
    shut: bool,
}

#[derive(Debug)]
enum Io {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<Wire>>>),
}

/// As much as hyper reads at first.
const AHEAD_BYTES: usize = 8 << 10;
/// How long a client that was refused in the middle of its body may go on sending it.
const LINGER: Duration = Duration::from_secs(2);
/// Reads of a lingering connection before others have a turn.
const LINGER_READS: usize = 16;

impl Socket {
    /// `ahead` was read from the stream already.
    pub(super) fn plain(stream: TcpStream, ahead: BytesMut, downstream: Rc<Downstream>) -> Self {
        Self { io: Io::Plain(TokioIo::new(stream)), downstream, ahead, shut: false }
    }

    pub(super) fn tls(stream: TlsStream<Wire>, downstream: Rc<Downstream>) -> Self {
        Self { io: Io::Tls(Box::new(TokioIo::new(stream))), downstream, ahead: BytesMut::new(), shut: false }
    }

    /// Reads something that stays to be read.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut part = [MaybeUninit::uninit(); AHEAD_BYTES];
        let mut part = ReadBuf::uninit(&mut part);
        ready!(match &mut self.io {
            Io::Plain(io) => Pin::new(io.inner_mut()).poll_read(cx, &mut part),
            Io::Tls(io) => Pin::new(io.inner_mut()).poll_read(cx, &mut part),
        })?;
        self.ahead.extend_from_slice(part.filled());
        Poll::Ready(Ok(part.filled().len()))
    }

    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Bytes that hyper has read and not used stay to be read.
    pub(super) fn give_back(&mut self, bytes: &[u8]) {
        let after = std::mem::replace(&mut self.ahead, BytesMut::from(bytes));
        self.ahead.extend_from_slice(&after);
    }

    fn read_ahead(&mut self, mut buffer: ReadBufCursor<'_>) {
        let taken = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..taken).unwrap_or_default());
        self.ahead.advance(taken);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        self.downstream.on_read();
    }

    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(io) => io.inner(),
            Io::Tls(io) => &io.inner().get_ref().0.tcp,
        }
    }

    /// Arms the deadline while a write is stuck and takes it off when it moves.
    fn watch_write(&self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let timer = &self.downstream.write_timer;
        if let Poll::Ready(written) = &polled {
            if timer.is_armed() {
                timer.disarm();
            }
            self.downstream.on_written(cx, *written.as_ref().unwrap_or(&0));
            return polled;
        }
        self.poll_stuck(cx)
    }

    /// The same for what leaves TLS: rustls takes bytes before the client does, so a write of it proves nothing, and a
    /// flush that is not done may have moved.
    fn watch_tls<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Io::Tls(io) = &mut self.io
            && std::mem::take(&mut io.inner_mut().get_mut().0.moved)
            && self.downstream.write_timer.is_armed()
        {
            self.downstream.write_timer.disarm();
        }
        if polled.is_pending() { self.poll_stuck(cx) } else { polled }
    }

    fn watch_tls_write(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.downstream.on_written(cx, *written);
        }
        self.watch_tls(cx, polled)
    }

    /// A write can't go on.
    fn poll_stuck<T>(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = &self.downstream.write_timer;
        if !timer.is_armed() {
            timer.arm(self.downstream.write_timeout.get());
        }
        if timer.poll_expired(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Reads away what the client still sends, until it closes or the time is over: closing a socket with unread
    /// bytes resets it, and the reset could reach the client before the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scrap = [0u8; 8192];
        for _ in 0..LINGER_READS {
            if self.downstream.write_timer.poll_expired(cx) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.tcp().poll_read_ready(cx))?;
            match self.tcp().try_read(&mut scrap) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // More is there, but others have a turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            self.read_ahead(buffer);
            return Poll::Ready(Ok(()));
        }
        let polled = match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            // An end without close_notify is an error here, which hyper takes for any other end: a request's own
            // framing tells whether it is whole (RFC 9112 §9.8).
            Io::Tls(io) => Pin::new(&mut **io).poll_read(cx, buffer),
        };
        if polled.is_ready() {
            self.downstream.on_read();
        }
        polled
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => {
                let polled = Pin::new(io).poll_write(cx, bytes);
                self.watch_write(cx, polled)
            }
            Io::Tls(io) => {
                let polled = Pin::new(&mut **io).poll_write(cx, bytes);
                self.watch_tls_write(cx, polled)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => {
                let polled = Pin::new(&mut **io).poll_flush(cx);
                self.watch_tls(cx, polled)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            let polled = match &mut self.io {
                Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
                // Sends close_notify first.
                Io::Tls(io) => {
                    let polled = Pin::new(&mut **io).poll_shutdown(cx);
                    self.watch_tls(cx, polled)
                }
            };
            ready!(polled)?;
            self.shut = true;
            self.downstream.write_timer.arm(LINGER);
        }
        if !self.downstream.lingers.get() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => {
                let polled = Pin::new(io).poll_write_vectored(cx, slices);
                self.watch_write(cx, polled)
            }
            Io::Tls(io) => {
                let polled = Pin::new(&mut **io).poll_write_vectored(cx, slices);
                self.watch_tls_write(cx, polled)
            }
        }
    }
}
