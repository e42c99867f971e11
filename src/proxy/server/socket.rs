//! The one wrapper around a client's socket: the write-stall deadline and the moment a request begins to arrive.
//! PROXY protocol, the head guard and the parking of idle connections have their place here.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Downstream;

/// A client's connection as hyper sees it.
#[derive(Debug)]
pub(crate) struct Socket {
    io: TokioIo<TcpStream>,
    downstream: Rc<Downstream>,
    /// Nothing more is written.
    shut: bool,
}

/// How long a client that was refused in the middle of its body may go on sending it.
const LINGER: Duration = Duration::from_secs(2);
/// Reads of a lingering connection before others have a turn.
const LINGER_READS: usize = 16;

impl Socket {
    pub(crate) fn new(stream: TcpStream, downstream: Rc<Downstream>) -> Self {
        Self { io: TokioIo::new(stream), downstream, shut: false }
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
        if !timer.is_armed() {
            timer.arm(self.downstream.write_timeout);
        }
        if timer.poll_expired(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl Socket {
    /// Reads away what the client still sends, until it closes or the time is over: closing a socket with unread
    /// bytes resets it, and the reset could reach the client before the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scrap = [0u8; 8192];
        for _ in 0..LINGER_READS {
            if self.downstream.write_timer.poll_expired(cx) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.io.inner().poll_read_ready(cx))?;
            match self.io.inner().try_read(&mut scrap) {
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
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            self.downstream.on_read();
        }
        polled
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch_write(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.shut = true;
            self.downstream.write_timer.arm(LINGER);
        }
        if !self.downstream.lingers.get() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch_write(cx, polled)
    }
}
