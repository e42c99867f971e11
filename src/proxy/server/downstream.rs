//! What is known about a client's connection beside the requests on it: who is there, its deadlines and its age. Reads
//! and writes nothing.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Weak;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::tls::Session;
use super::worker::Worker;
use crate::timer::Timer;
use crate::tunnel::Offer;
use crate::upstream::UpstreamBody;

/// How much of an answer may wait for a client that is slow to take it, beside one part of its body.
const UNFLUSHED_BYTES_MAX: usize = 64 << 10;
/// How long a new connection's first request is waited for while the server drains.
const NEWBORN: Duration = Duration::from_millis(500);
/// How long a client may take to hear that its HTTP/2 connection ends while no request is on it.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);
/// How long the next request is waited for with all that a request needs at hand. In tests every longer wait is one.
const REST_AFTER: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1000 });
/// Longer than any connection lasts, and short enough to be added to a clock.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What is known about a client's connection beside the requests on it.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// IPv4-mapped addresses are folded.
    pub(crate) peer: IpAddr,
    pub(crate) peer_text: String,
    pub(super) peer_port: u16,
    /// What the client connected to, folded as `peer` is; unspecified where that is not known.
    pub(super) local_ip: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) write_timer: Timer,
    pub(crate) write_timeout: Cell<Duration>,
    /// Bytes of answers that were handed to hyper and have not gone to the socket. Only HTTP/1.1: the windows of HTTP/2
    /// bound each stream.
    unflushed: Cell<usize>,
    /// The connection ends with an unread body, or speaks HTTP/2: what still comes is read away for a moment, or the reset
    /// that closing it brings could overtake the answer.
    pub(crate) lingers: Cell<bool>,
    /// An answer whose request is still being sent upstream while hyper does not ask for more of it. Only HTTP/1.1.
    pub(crate) uploading: RefCell<Weak<RefCell<UpstreamBody>>>,
    /// Set when the handshake is done; never for a connection without TLS.
    tls: OnceCell<Session>,
    protocol: Cell<Protocol>,
    /// Requests that are being served.
    requests: Cell<u32>,
    pub(super) phase: Cell<Phase>,
    pub(super) phase_timer: Timer,
    read_timeout: Duration,
    idle_timeout: Duration,
    /// When requests could first come.
    opened: Cell<Instant>,
    retire_at: Instant,
    /// Set when HTTP/2 begins: many requests are on it, so no answer of theirs need be waited for.
    pub(super) age_timer: OnceCell<Timer>,
    /// The next request has not been waited for long.
    rests_soon: Cell<bool>,
    pub(super) close: Cell<bool>,
    /// The server drains; who waits for that is told.
    is_drained: Cell<bool>,
    drained: Notify,
    waker: RefCell<Option<Waker>>,
    /// What becomes of the connection when its 101 has been sent.
    pub(super) offer: RefCell<Option<Box<Offer>>>,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// One request after the other (RFC 9112).
    Http1,
    /// Many at once (RFC 9113).
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// TLS is being agreed on.
    Handshake,
    /// Nothing of the next request has come.
    Waiting,
    /// A part of a head has come.
    Head,
    /// A request is being served.
    Request,
}

impl Downstream {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, worker: &Worker) -> Self {
        let settings = &worker.settings;
        // Up to a tenth is taken off, so that connections that were opened together do not all end together.
        let age = settings.connection_age_max;
        let jitter = age.mul_f64((worker.random.next() % 1024) as f64 / 10240.0);
        let downstream = Self {
            peer: peer.ip().to_canonical(),
            peer_text: peer.ip().to_canonical().to_string(),
            peer_port: peer.port(),
            local_ip: local.ip().to_canonical(),
            local_port: local.port(),
            write_timer: Timer::new(),
            write_timeout: Cell::new(settings.write_timeout),
            unflushed: Cell::new(0),
            lingers: Cell::new(false),
            uploading: RefCell::default(),
            tls: OnceCell::new(),
            protocol: Cell::new(Protocol::Http1),
            requests: Cell::new(0),
            phase: Cell::new(Phase::Waiting),
            phase_timer: Timer::new(),
            read_timeout: settings.read_timeout,
            idle_timeout: settings.idle_timeout,
            opened: Cell::new(Instant::now()),
            retire_at: Instant::now() + (age - jitter),
            age_timer: OnceCell::new(),
            rests_soon: Cell::new(false),
            close: Cell::new(false),
            is_drained: Cell::new(false),
            drained: Notify::new(),
            waker: RefCell::new(None),
            offer: RefCell::new(None),
        };
        // The first request must come as fast as any other; only later ones may be waited for.
        downstream.phase_timer.arm(settings.read_timeout);
        downstream
    }

    /// How TLS was agreed on; `None`: the connection is without.
    pub(crate) fn tls(&self) -> Option<&Session> {
        self.tls.get()
    }

    pub(super) fn begin_handshake(&self, timeout: Duration) {
        self.phase.set(Phase::Handshake);
        self.phase_timer.arm(timeout);
    }

    pub(super) fn end_handshake(&self, session: Session) {
        // Nothing else sets it.
        drop(self.tls.set(session));
        self.phase.set(Phase::Waiting);
        self.opened.set(Instant::now());
        self.phase_timer.arm(self.read_timeout);
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.protocol.get() == Protocol::Http2
    }

    /// The client has shown that it speaks HTTP/2: from now on it is idle between its requests.
    pub(super) fn begin_http2(&self) {
        self.protocol.set(Protocol::Http2);
        // Its client may be writing whenever it ends.
        self.lingers.set(true);
        let age_timer = self.age_timer.get_or_init(Timer::new);
        age_timer.arm(self.retire_at.saturating_duration_since(Instant::now()));
        self.phase.set(Phase::Waiting);
        self.phase_timer.arm(self.idle_timeout);
    }

    pub(super) fn on_read(&self) {
        // Frames of HTTP/2 that begin no request keep no connection.
        if self.phase.get() == Phase::Waiting && self.protocol.get() == Protocol::Http1 {
            self.phase.set(Phase::Head);
            self.phase_timer.arm(self.read_timeout);
        }
    }

    pub(super) fn on_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.phase.set(Phase::Request);
        self.phase_timer.disarm();
        self.unflushed.set(0);
    }

    pub(super) fn is_asked_to_close(&self) -> bool {
        self.close.get()
    }

    pub(super) fn poll_expired(&self, cx: &mut Context<'_>) -> bool {
        self.phase_timer.poll_expired(cx)
    }

    /// Whether another part of an answer may be handed to hyper, or enough bytes wait for the socket (hardening SL03).
    pub(crate) fn may_buffer_more(&self) -> bool {
        self.unflushed.get() < UNFLUSHED_BYTES_MAX
    }

    /// A part of an answer was handed to hyper.
    pub(crate) fn on_answer_part(&self, bytes: usize) {
        if self.protocol.get() == Protocol::Http1 {
            self.unflushed.set(self.unflushed.get() + bytes);
        }
    }

    /// Bytes have gone to the socket. hyper does not ask an answer for more after a flush, so it is woken where the
    /// answer had been held back.
    pub(super) fn on_written(&self, cx: &Context<'_>, written: usize) {
        let before = self.unflushed.get();
        let after = before.saturating_sub(written);
        self.unflushed.set(after);
        if before >= UNFLUSHED_BYTES_MAX && after < UNFLUSHED_BYTES_MAX {
            cx.waker().wake_by_ref();
        }
    }

    /// An answer was handed over whole. Where it was the only one, the connection waits for its next request.
    pub(crate) fn on_answered(&self) {
        let left = self.requests.get().saturating_sub(1);
        self.requests.set(left);
        if left == 0 {
            self.phase.set(Phase::Waiting);
            let rests = !self.is_http2() && self.idle_timeout > REST_AFTER;
            self.rests_soon.set(rests);
            let says_goodbye = self.is_http2() && self.close.get();
            self.phase_timer.arm(match (says_goodbye, rests) {
                (true, _) => GOODBYE,
                (false, true) => REST_AFTER,
                (false, false) => self.idle_timeout,
            });
        }
    }

    /// The phase is over. Whether only the wait for the next request has become long: then the rest of it begins.
    pub(super) fn begin_rest(&self) -> bool {
        if self.phase.get() != Phase::Waiting || !self.rests_soon.replace(false) {
            return false;
        }
        self.phase_timer.arm(self.idle_timeout.saturating_sub(REST_AFTER));
        true
    }

    /// Whether this connection should end with the answer to a request that came at `now`.
    pub(crate) fn is_retiring(&self, now: Instant) -> bool {
        now >= self.retire_at
    }

    /// Asks the connection to end: at once if it is idle, else with its current answer. A connection on which nothing
    /// has come yet gets a moment: its first request may be on the way. A handshake is let come to its end before. A
    /// tunnel takes it for the beginning of the drain.
    pub(super) fn close(&self) {
        if self.phase.get() == Phase::Handshake {
            return;
        }
        if self.phase.get() == Phase::Waiting && self.opened.get().elapsed() < NEWBORN && !self.close.get() {
            return;
        }
        if !self.is_drained.replace(true) {
            self.drained.notify_waiters();
        }
        self.retire();
    }

    /// Comes back when the server drains.
    pub(super) async fn drained(&self) {
        if !self.is_drained.get() {
            self.drained.notified().await;
        }
    }

    /// Ends the connection with the requests that are on it.
    pub(crate) fn retire(&self) {
        if !self.close.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// The answer to the request that is served is 101: with its end the tunnel begins.
    pub(crate) fn offer(&self, offer: Offer) {
        *self.offer.borrow_mut() = Some(Box::new(offer));
    }

    /// The handshake is another's: no request comes, and nothing more is waited for.
    pub(super) fn on_passthrough(&self) {
        self.phase.set(Phase::Request);
        self.phase_timer.disarm();
    }

    /// A tunnel begins. Its client may be slow for as long as nothing at all may happen on the tunnel: what bounds a
    /// stuck answer in the middle of requests would end a chat whose reader has gone to sleep.
    pub(super) fn on_tunnel(&self, idle: Option<Duration>) {
        self.write_timeout.set(idle.unwrap_or(FOR_EVER));
    }

    /// Sends on what a client uploads while it does not take the answer (hardening BE07).
    pub(super) fn drive_upload(&self, cx: &mut Context<'_>) {
        let uploading = self.uploading.borrow().upgrade();
        if let Some(body) = uploading {
            body.borrow_mut().drive_upload(cx);
        }
    }

    pub(super) fn remember_waker(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
}
