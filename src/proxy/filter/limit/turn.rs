//! Places of concurrency limits: who holds one gives it back when he is gone, and who waits for one gets it in his turn, on
//! whichever worker he is.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ir::{Limit, LimitMode};
use tokio::sync::oneshot;
use traffic::{ConcurrencyStore, Place};

use super::{Exceeded, LimitAsk, LimitNotes, RouteLimit, RouteLimits};
use crate::observe::LimitMetrics;

/// The places of one limit.
pub(super) type Places = ConcurrencyStore<Waker>;

/// Hands the place over to one that waits.
pub(crate) struct Waker(oneshot::Sender<Permit>);

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    places: Arc<Places>,
    fingerprint: u64,
    metrics: Arc<LimitMetrics>,
    /// Nobody took it: who drops it gives the place back himself.
    is_void: bool,
}

/// A request that waits for a place.
#[derive(Debug)]
pub(crate) struct Waiting {
    receiver: oneshot::Receiver<Permit>,
    places: Arc<Places>,
    fingerprint: u64,
    ticket: u64,
    timeout: Duration,
    metrics: Arc<LimitMetrics>,
}

/// Where among the limits of a route a request waits.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(super) position: usize,
    /// Where those stand that are asked then.
    pub(super) behind: Range<usize>,
    pub(super) waiting: Waiting,
}

impl RouteLimit {
    /// Takes a place, or one in the queue. A shadow limit takes one whether or not there is any.
    pub(super) fn take_place(
        &self,
        (limit, places): (&Limit, &Arc<Places>),
        fingerprint: u64,
        notes: &mut LimitNotes,
    ) -> Result<Option<Waiting>, Exceeded> {
        let permit = || Permit::new(places, fingerprint, &self.metrics);
        if limit.mode == LimitMode::Shadow {
            let is_free = places.take_any(fingerprint);
            if !is_free {
                self.metrics.shadowed.inc();
            }
            // No rate is watched, so that the time does not matter.
            self.learn(0, fingerprint, is_free);
            notes.hold(permit());
            return Ok(None);
        }
        let mut receiver = None;
        let place = places.take(fingerprint, || {
            let (sender, its_receiver) = oneshot::channel();
            receiver = Some(its_receiver);
            Waker(sender)
        });
        match (place, receiver) {
            (Place::Taken, _) => {
                notes.hold(permit());
                Ok(None)
            }
            (Place::Queued(ticket), Some(receiver)) => {
                self.metrics.queued.inc();
                Ok(Some(Waiting {
                    receiver,
                    places: Arc::clone(places),
                    fingerprint,
                    ticket,
                    timeout: limit
                        .concurrency
                        .map_or(Duration::ZERO, |concurrency| concurrency.queue_timeout),
                    metrics: Arc::clone(&self.metrics),
                }))
            }
            (Place::Full | Place::Queued(_), _) => {
                notes.come_back_soon(self.policy.headers);
                self.refuse(limit, notes).map(|()| None)
            }
        }
    }
}

impl Turn {
    /// Waits for the place, and then asks the limits behind it, at the time that `clock` then tells.
    pub(crate) async fn wait(
        self,
        limits: &RouteLimits,
        mut ask: LimitAsk<'_>,
        notes: &mut LimitNotes,
        clock: impl Fn() -> u64,
    ) -> Result<(), Exceeded> {
        let Self { mut position, mut behind, mut waiting } = self;
        loop {
            let Some((route_limit, limit)) =
                limits.all.get(position).and_then(|found| Some((found, found.limit()?)))
            else {
                return Ok(());
            };
            let permit = waiting.place().await;
            notes.has_waited = true;
            ask.now_ns = clock();
            let Some(permit) = permit else {
                limits.give_back(ask.now_ns, notes);
                notes.come_back_soon(route_limit.policy.headers);
                return route_limit.refuse(limit, notes);
            };
            notes.hold(permit);
            match limits.ask_from(behind, ask, notes)? {
                None => return Ok(()),
                Some(next) => Self { position, behind, waiting } = next,
            }
        }
    }
}

impl Permit {
    fn new(places: &Arc<Places>, fingerprint: u64, metrics: &Arc<LimitMetrics>) -> Self {
        metrics.in_flight.inc();
        Self { places: Arc::clone(places), fingerprint, metrics: Arc::clone(metrics), is_void: false }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if self.is_void {
            return;
        }
        // In a loop and not by dropping what could not be sent: a whole queue may be gone.
        while let Some(Waker(sender)) = self.places.give_back(self.fingerprint) {
            match sender.send(Self::new(&self.places, self.fingerprint, &self.metrics)) {
                Ok(()) => return,
                Err(mut permit) => permit.is_void = true,
            }
        }
    }
}

impl Waiting {
    /// `None`: not in time.
    async fn place(mut self) -> Option<Permit> {
        if let Ok(permit) = tokio::time::timeout(self.timeout, &mut self.receiver).await {
            return permit.ok();
        }
        self.places.leave(self.fingerprint, self.ticket);
        // It may have come in the last moment.
        self.receiver.try_recv().ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.metrics.queued.dec();
        // A place that is on its way comes back with the receiver.
        self.places.leave(self.fingerprint, self.ticket);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
