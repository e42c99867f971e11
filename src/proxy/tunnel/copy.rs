//! One direction of a tunnel: copies what one end says to the other, keeps its end apart from that of the other
//! direction, and ends a WebSocket between two frames. Knows nothing of time.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::frames::Frames;

/// What one direction holds at most, beside what was read ahead before it began.
const BUFFER_BYTES: usize = 16 << 10;
/// Steps, each a read or a write, before others have a turn.
const STEPS_MAX: usize = 16;

/// The way from one end of a tunnel to the other.
#[derive(Debug)]
pub(super) struct Direction {
    /// Read and not yet written. Nothing is allocated while nothing comes.
    buffer: BytesMut,
    stage: Stage,
    unflushed: bool,
    /// Only for a WebSocket.
    frames: Option<Frames>,
    /// What is said to the receiving end before this direction ends.
    farewell: Option<Vec<u8>>,
    /// Passed on so far.
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copying,
    /// The one end has ended, so the other is told.
    Ending,
    /// The farewell is being written.
    Farewell,
    /// The farewell was said. What still comes is thrown away, up to the Close of the end that it comes from.
    Discarding,
    Done,
}

impl Direction {
    /// Begins with what has been read already.
    pub(super) fn new(ahead: BytesMut, is_websocket: bool) -> Self {
        Self {
            buffer: ahead,
            stage: Stage::Copying,
            unflushed: false,
            frames: is_websocket.then(Frames::new),
            farewell: None,
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends with a Close frame for the receiving end as soon as one fits in.
    pub(super) fn say_farewell(&mut self, close_frame: Vec<u8>) {
        self.farewell = Some(close_frame);
    }

    /// The WebSocket's Close has passed this way.
    pub(super) fn is_closed(&self) -> bool {
        self.frames.is_some_and(|frames| frames.closed())
    }

    /// The receiving end gets nothing more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Discarding | Stage::Done)
    }

    /// Copies as much as goes now. Ready when the direction has ended in order.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..STEPS_MAX {
            match self.stage {
                Stage::Copying if self.may_say_farewell() => self.begin_farewell(),
                Stage::Copying if self.buffer.is_empty() => match self.poll_fill(cx, from)? {
                    Poll::Ready(0) => self.stage = Stage::Ending,
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        ready!(self.poll_flush(cx, to))?;
                        return Poll::Pending;
                    }
                },
                Stage::Copying => ready!(self.poll_write(cx, to))?,
                Stage::Ending => {
                    // That an end which is gone can't be told so is nothing new: the other direction sees it, too.
                    drop(ready!(Pin::new(&mut *to).poll_shutdown(cx)));
                    self.stage = Stage::Done;
                }
                Stage::Farewell if self.buffer.is_empty() => {
                    ready!(self.poll_flush(cx, to))?;
                    self.stage = Stage::Discarding;
                }
                Stage::Farewell => ready!(self.poll_write(cx, to))?,
                Stage::Discarding if self.frames.is_none_or(|frames| frames.closed()) => {
                    self.stage = Stage::Done;
                }
                Stage::Discarding => {
                    if ready!(self.poll_fill(cx, from))? == 0 {
                        self.stage = Stage::Done;
                    }
                    self.discard();
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Only between two frames.
    fn may_say_farewell(&self) -> bool {
        self.farewell.is_some() && self.frames.is_some_and(|frames| frames.at_boundary())
    }

    fn begin_farewell(&mut self) {
        let farewell = self.farewell.take().unwrap_or_default();
        // The sender has said Close itself: nothing may follow that.
        let closed = self.frames.is_some_and(|frames| frames.closed());
        self.discard();
        if closed {
            self.stage = Stage::Discarding;
        } else {
            self.buffer.extend_from_slice(&farewell);
            self.stage = Stage::Farewell;
        }
    }

    fn discard(&mut self) {
        if let Some(frames) = &mut self.frames {
            frames.pass(&self.buffer);
        }
        self.buffer.clear();
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.buffer.reserve(BUFFER_BYTES);
        // What was read ahead may have left a larger one.
        let mut buffer = (&mut self.buffer).limit(BUFFER_BYTES);
        let polled = pin!(from.read_buf(&mut buffer)).poll(cx);
        if polled.is_pending() {
            // Ten thousand tunnels on which nothing happens cost no buffers.
            self.buffer = BytesMut::new();
        }
        polled
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        let ready_to_go = match &self.frames {
            // Up to where the farewell fits in.
            Some(frames) if self.farewell.is_some() => frames.until_boundary(&self.buffer),
            Some(_) | None => self.buffer.len(),
        };
        let bytes = self.buffer.get(..ready_to_go).unwrap_or_default();
        let written = ready!(Pin::new(to).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if self.stage == Stage::Copying {
            if let Some(frames) = &mut self.frames {
                frames.pass(self.buffer.get(..written).unwrap_or_default());
            }
            self.bytes += u64::try_from(written).unwrap_or(0);
        }
        self.buffer.advance(written);
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
