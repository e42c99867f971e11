//! The one wrapper around a client's socket: the write-stall deadline and the moment a request begins to arrive.
//! PROXY protocol, the head guard and the parking of idle connections have their place here.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Downstream;

/// A client's connection as hyper sees it.
#[derive(Debug)]
pub(crate) struct Socket {
    io: TokioIo<TcpStream>,
    downstream: Rc<Downstream>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, downstream: Rc<Downstream>) -> Self {
        Self { io: TokioIo::new(stream), downstream }
    }

    /// Arms the deadline while a write is stuck and takes it off when it moves.
    fn watch_write<T>(&self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let timer = &self.downstream.write_timer;
        if polled.is_ready() {
            if timer.is_armed() {
                timer.disarm();
            }
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
        Pin::new(&mut self.io).poll_shutdown(cx)
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
