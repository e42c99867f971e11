//! The two ends of a tunnel and all that ends it: both directions over, an error, nothing for too long, a drain.
//! Generic over what the ends are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::copy::Direction;
use crate::timer::Timer;

/// How long the ends may take to say goodbye, and a socket to be closed in order.
const GOODBYE: Duration = Duration::from_secs(1);
/// What a goodbye takes, ticks of the timer among it.
const GOODBYE_AT_MOST: Duration = Duration::from_millis(1250);

/// "Going away" (RFC 6455 §7.4.1) in a Close frame without a mask.
const CLOSE_1001: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// How a tunnel is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TunnelOptions {
    /// The bytes are the frames of a WebSocket.
    pub(crate) is_websocket: bool,
    /// The longest time without a byte in either direction; `None`: for ever.
    pub(crate) idle: Option<Duration>,
    /// How long a drain may take.
    pub(crate) drain: Duration,
    /// Sets the moment within a drain, and the mask of a Close frame.
    pub(crate) random: u64,
}

/// Copies between a client and an upstream until both directions are over.
#[derive(Debug)]
pub(crate) struct Tunnel<C, U> {
    client: C,
    upstream: U,
    down: Direction,
    up: Direction,
    options: TunnelOptions,
    idle: Timer,
    ending: Ending,
}

/// How far the end of a tunnel is.
#[derive(Debug)]
enum Ending {
    None,
    /// The drain has begun, and this is the tunnel's moment in it.
    At(Timer),
    /// Both ends are told; the timer runs from when the client was.
    Goodbye(Timer),
    /// The ends are closed, the client's in order.
    Closing(Timer),
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// `ahead`: what the client and the upstream have said already.
    pub(crate) fn new(client: C, upstream: U, ahead: (BytesMut, BytesMut), options: TunnelOptions) -> Self {
        let (from_client, from_upstream) = ahead;
        let idle = Timer::new();
        if let Some(after) = options.idle {
            idle.arm(after);
        }
        Self {
            client,
            upstream,
            down: Direction::new(from_upstream, options.is_websocket),
            up: Direction::new(from_client, options.is_websocket),
            options,
            idle,
            ending: Ending::None,
        }
    }

    /// Bytes that have passed, from the client and to it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.up.bytes(), self.down.bytes())
    }

    /// The server drains: the tunnel ends at a moment of its own. Later calls do nothing.
    pub(crate) fn drain(&mut self) {
        if matches!(self.ending, Ending::None) {
            let timer = Timer::new();
            timer.arm(moment(self.options.drain, self.options.random));
            self.ending = Ending::At(timer);
        }
    }

    /// Ready when the tunnel has ended, however.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Ending::At(timer) = &self.ending
            && timer.poll_expired(cx)
        {
            self.leave();
        }
        if matches!(self.ending, Ending::Closing(_)) {
            return self.poll_close(cx);
        }
        let before = self.bytes();
        let down = self.down.poll(cx, &mut self.upstream, &mut self.client);
        let up = self.up.poll(cx, &mut self.client, &mut self.upstream);
        self.expect_the_end(down.is_ready() || up.is_ready());
        let over = match (down, up) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => true,
            (Poll::Pending, _) | (_, Poll::Pending) => false,
        };
        if let (Some(after), true) = (self.options.idle, before != self.bytes()) {
            self.idle.arm(after);
        }
        if over || self.idle.poll_expired(cx) || self.goodbye_is_over(cx) {
            self.close();
            return self.poll_close(cx);
        }
        Poll::Pending
    }

    /// Both ends of a WebSocket have said Close and one of them has closed: there is nothing for the other but to do so,
    /// too (RFC 6455 §7.1.1), and who does not is not waited for long.
    fn expect_the_end(&mut self, one_has_ended: bool) {
        let waits = matches!(self.ending, Ending::None | Ending::At(_));
        if one_has_ended && waits && self.down.is_closed() && self.up.is_closed() {
            let timer = Timer::new();
            timer.arm(GOODBYE);
            self.ending = Ending::Goodbye(timer);
        }
    }

    /// Says goodbye where the protocol has a word for it.
    fn leave(&mut self) {
        if !self.options.is_websocket {
            self.close();
            return;
        }
        self.down.say_farewell(CLOSE_1001.to_vec());
        self.up.say_farewell(masked_close(self.options.random));
        self.ending = Ending::Goodbye(Timer::new());
    }

    /// A client that was told has its time to answer. One to which a large frame is on its way is waited for: its
    /// bound is the end of the drain.
    fn goodbye_is_over(&self, cx: &mut Context<'_>) -> bool {
        let Ending::Goodbye(timer) = &self.ending else { return false };
        if self.down.has_ended() && !timer.is_armed() {
            timer.arm(GOODBYE);
        }
        timer.poll_expired(cx)
    }

    fn close(&mut self) {
        let timer = Timer::new();
        timer.arm(GOODBYE);
        self.ending = Ending::Closing(timer);
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let client = Pin::new(&mut self.client).poll_shutdown(cx);
        let upstream = Pin::new(&mut self.upstream).poll_shutdown(cx);
        let Ending::Closing(timer) = &self.ending else { return Poll::Ready(()) };
        if (client.is_ready() && upstream.is_ready()) || timer.poll_expired(cx) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The Close frame of a client, masked (RFC 6455 §5.3).
fn masked_close(random: u64) -> Vec<u8> {
    let [a, b, c, d, ..] = random.to_le_bytes();
    vec![0x88, 0x82, a, b, c, d, 0x03 ^ a, 0xe9 ^ b]
}

/// When a tunnel ends within a drain: in its second half, early enough for a goodbye, and not all at once, so that the
/// clients come back to the other replicas one by one.
fn moment(drain: Duration, random: u64) -> Duration {
    let (first, most) = (drain / 2, drain.mul_f64(0.9));
    let last = match drain.checked_sub(GOODBYE_AT_MOST) {
        Some(last) if last > first => last.min(most),
        Some(_) | None => most,
    };
    let share = f64::from(u16::try_from(random >> 48).unwrap_or(0)) / f64::from(u16::MAX);
    first + (last - first).mul_f64(share)
}

#[cfg(test)]
mod tests;
