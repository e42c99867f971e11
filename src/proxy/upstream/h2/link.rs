//! One connection, shared by requests of its worker: opened once for whoever wants it meanwhile, driven by its own task,
//! gone with the last who holds it. Knows no request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time;
use tracing::debug;

use crate::upstream::backend::{Backend, ConnectionPermit, Target};
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::io::Io;
use crate::upstream::protocol::Protocol;

/// Streams on one connection at most, whatever the peer would take.
const STREAMS_MAX: usize = 100;
/// How much of one answer the peer may send before the client has taken it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// As much as all streams together may send: clients that do not take their answers hold up nobody else's.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * 100;
/// How much of one request may wait for the socket.
const SEND_BYTES_MAX: usize = 64 << 10;
/// The largest head of an answer (hardening BE08).
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Streams that the peer may get wrong before the connection is given up (h2 counts them).
const ERRORS_MAX: usize = 256;
/// How long a peer that is asked for something may be wholly silent, where requests give it less time than `idle`.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a connection that nobody holds any more may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection that requests share.
#[derive(Debug)]
pub(crate) struct Link {
    state: RefCell<State>,
    /// Requests that hold a place.
    streams: Cell<usize>,
    /// A place was taken before.
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Counts up when anything comes from the peer.
    heard: Rc<Cell<u64>>,
    /// What had been heard when a request was sent that then waited in vain, and since when there is silence.
    silence: Cell<Option<(u64, Instant)>>,
    changed: Notify,
    backend: Arc<Backend>,
    /// Tells the task, by its end, that nobody holds the link any more.
    _held: oneshot::Sender<Infallible>,
}

#[derive(Debug)]
enum State {
    Opening,
    Open(SendRequest<Bytes>),
    Failed(OpenError),
    /// It takes no new requests; running ones may go on.
    Ended,
}

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Connect,
    Tls,
    TimedOut,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(super) link: Rc<Link>,
    /// Requests were sent on the connection before.
    pub(crate) reused: bool,
    /// How many were taken before and not given back.
    place: usize,
}

impl Link {
    /// Opens a connection within `timeout`: it stands when the peer has said how many requests it takes. It goes on also where the one who asked for it goes away.
    pub(crate) fn open(
        target: &Target,
        protocol: &Arc<Protocol>,
        permit: ConnectionPermit,
        timeout: Duration,
    ) -> Rc<Self> {
        let (held, released) = oneshot::channel();
        let link = Rc::new(Self {
            state: RefCell::new(State::Opening),
            streams: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            heard: Rc::default(),
            silence: Cell::new(None),
            changed: Notify::new(),
            backend: permit.backend(),
            _held: held,
        });
        let task = Task {
            link: Rc::downgrade(&link),
            target: target.clone(),
            protocol: Arc::clone(protocol),
            heard: Rc::clone(&link.heard),
            _permit: permit,
        };
        tokio::task::spawn_local(task.run(timeout, released));
        link
    }

    /// How many requests the peer takes at once. `None`: that can't be known yet, or does not matter any more.
    pub(crate) fn streams_max(&self) -> Option<usize> {
        match &*self.state.borrow() {
            State::Open(sender) => Some(sender.current_max_send_streams()),
            State::Opening | State::Failed(_) | State::Ended => None,
        }
    }

    /// A place, unless the connection takes no more. One that is being opened gives places, too: as many as its peer
    /// takes on other connections.
    pub(crate) fn claim(self: &Rc<Self>, streams_max: Option<usize>) -> Option<Claim> {
        let place = self.streams.get();
        // One may always wait for what the peer will take, or there would be connection after connection.
        let streams_max = streams_max.unwrap_or(STREAMS_MAX).clamp(1, STREAMS_MAX);
        if self.has_ended() || place >= streams_max {
            return None;
        }
        self.streams.set(place + 1);
        Some(Claim { link: Rc::clone(self), reused: self.served.replace(true), place })
    }

    /// Takes no new requests from now on.
    pub(super) fn retire(&self) {
        self.set(State::Ended);
    }

    /// A request that was sent at `began`, when so much had been heard, got no answer in its time. Where nothing at all has
    /// come since, the peer may be gone without a word: then others shall not wait for it, too. What is short for one request
    /// is long enough for several.
    pub(super) fn waited_in_vain(&self, heard: u64, began: Instant) {
        if heard != self.heard() {
            return;
        }
        let since = match self.silence.get() {
            Some((then, since)) if then == heard => since.min(began),
            Some(_) | None => began,
        };
        self.silence.set(Some((heard, since)));
        if since.elapsed() >= SILENCE_MAX {
            self.retire();
        }
    }

    fn set(&self, state: State) {
        let before = self.state.replace(state);
        self.changed.notify_waiters();
        // Outside the borrow: it may be the last handle of the connection.
        drop(before);
    }

    /// No request is on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    pub(crate) fn has_idled(&self, now: Instant, idle_for: Duration) -> bool {
        self.is_idle() && now.saturating_duration_since(self.idle_since.get()) >= idle_for
    }

    /// Whether it will never take a request again.
    pub(crate) fn has_ended(&self) -> bool {
        match &mut *self.state.borrow_mut() {
            State::Opening => false,
            State::Failed(_) | State::Ended => true,
            State::Open(sender) => {
                // Fails after a GOAWAY, and when the stream identifiers are used up.
                let polled = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
                matches!(polled, Poll::Ready(Err(_)))
            }
        }
    }

    /// Whether requests wait for a connection of this one's backend.
    pub(crate) fn is_wanted(&self) -> bool {
        self.backend.breaker.in_use(traffic::BreakerKind::Pending) > 0
    }

    /// How often anything has come from the peer.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }
}

impl Claim {
    /// Waits until the connection stands. The caller bounds the time.
    pub(crate) async fn opened(&self) -> Result<(), OpenError> {
        loop {
            let mut changed = pin!(self.link.changed.notified());
            // Registered before the state is looked at, or a change in between would be missed.
            changed.as_mut().enable();
            match &*self.link.state.borrow() {
                State::Opening => {}
                State::Failed(error) => return Err(*error),
                // Where it has ended meanwhile, the request finds out when it is sent.
                State::Open(_) | State::Ended => return Ok(()),
            }
            changed.await;
        }
    }

    /// Whether the connection need not be waited for any more.
    pub(crate) fn is_open(&self) -> bool {
        match &*self.link.state.borrow() {
            State::Open(_) => true,
            State::Opening | State::Failed(_) | State::Ended => false,
        }
    }

    /// Whether the peer takes as many requests as had been promised a place while that was not known.
    pub(crate) fn has_room(&self) -> bool {
        self.place < self.link.streams_max().unwrap_or(STREAMS_MAX).max(1)
    }

    /// `None`: the connection has ended.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        match &*self.link.state.borrow() {
            State::Open(sender) => Some(sender.clone()),
            State::Opening | State::Failed(_) | State::Ended => None,
        }
    }

    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.link
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let left = self.link.streams.get() - 1;
        self.link.streams.set(left);
        if left == 0 {
            self.link.idle_since.set(Instant::now());
        }
        if self.link.is_wanted() {
            self.link.backend.freed.notify_waiters();
        }
    }
}

/// What opens and drives a connection. Whatever becomes of it, the link learns of its end.
struct Task {
    /// Weak: the connection ends when nobody else holds it.
    link: Weak<Link>,
    target: Target,
    protocol: Arc<Protocol>,
    heard: Rc<Cell<u64>>,
    _permit: ConnectionPermit,
}

impl Task {
    async fn run(self, timeout: Duration, released: oneshot::Receiver<Infallible>) {
        let deadline = Instant::now() + timeout;
        let io = match connect(&self.target, &self.protocol, timeout).await {
            Ok(io) => Heard { io, count: Rc::clone(&self.heard) },
            Err(failure) => return self.fail(&failure),
        };
        let connection = match time::timeout_at(deadline.into(), self.shake_hands(io)).await {
            Ok(Ok((sender, connection))) => {
                let Some(link) = self.link.upgrade() else { return };
                link.set(State::Open(sender));
                connection
            }
            // A client certificate is refused only after the handshake (RFC 8446 §4.4.2).
            Ok(Err(failure)) if self.protocol.is_secure() => return self.fail(&ConnectError::Tls(failure)),
            Ok(Err(failure)) => return self.fail(&ConnectError::Tcp(failure)),
            Err(_) => return self.fail(&ConnectError::TimedOut),
        };
        let forsaken = async {
            // Ends with an error when the link is dropped; nothing is ever sent.
            drop(released.await);
            time::sleep(GOODBYE).await;
        };
        // Both may be dropped at any time: the connection is over either way.
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                debug!(endpoint = %self.target.endpoint, %error, "an HTTP/2 connection broke");
            },
            () = forsaken => {}
        }
    }

    /// Comes back when the peer's first bytes have come, which are its settings (RFC 9113 §3.4).
    async fn shake_hands(&self, io: Heard) -> io::Result<(SendRequest<Bytes>, Connection<Heard>)> {
        let into_io = |error: h2::Error| error.into_io().unwrap_or_else(|| io::ErrorKind::InvalidData.into());
        let (sender, mut connection) = builder().handshake(io).await.map_err(into_io)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(into_io(error))),
            Poll::Pending if self.heard.get() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok((sender, connection))
    }

    fn fail(&self, failure: &ConnectError) {
        debug!(endpoint = %self.target.endpoint, error = %failure, "connecting failed");
        let Some(link) = self.link.upgrade() else { return };
        link.backend.metrics.connect_failed();
        link.set(State::Failed(match failure {
            ConnectError::Tcp(_) | ConnectError::LeadsHome(..) => OpenError::Connect,
            ConnectError::Tls(_) | ConnectError::Invalid => OpenError::Tls,
            ConnectError::TimedOut => OpenError::TimedOut,
        }));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some(link) = self.link.upgrade() else { return };
        let failed = matches!(&*link.state.borrow(), State::Failed(_));
        if !failed {
            link.set(State::Ended);
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_max_send_streams(STREAMS_MAX)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .enable_push(false);
    builder
}

/// Counts reads: a connection that has been silent while a request waited in vain is taken for dead.
#[derive(Debug)]
struct Heard {
    io: Io,
    count: Rc<Cell<u64>>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            self.count.set(self.count.get().wrapping_add(1));
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
