//! Finds a try its connection: one that is there, or a new one as far as the circuit breaker allows.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ir::{CircuitBreaker, UpstreamVersion};
use tokio::time;
use tracing::debug;
use traffic::{BreakerKind, BreakerPermit, Outcome};

use super::{Forward, Tries, TryError};
use crate::upstream::backend::{ConnectionPermit, Target};
use crate::upstream::connect::{ConnectError, connect, noticing, slow_after};
use crate::upstream::exchange::Exchange;
use crate::upstream::h1::{self, Wire, encode_head};
use crate::upstream::h2::{self, Claim, Link, OpenError};
use crate::upstream::pool::PoolKey;

/// Connections that a try waits for at most before it takes a place in a queue.
const ROUNDS_MAX: usize = 4;

/// A connection for a try.
pub(super) enum Connection {
    /// For this request alone.
    Own {
        wire: Wire,
        /// It was pooled.
        reused: bool,
    },
    /// A place on one that others use, too.
    Shared(Claim),
}

/// A connection that is there, or leave to open a new one.
enum Granted {
    Connection(Connection),
    New(ConnectionPermit),
}

impl Connection {
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Own { reused, .. } => *reused,
            Self::Shared(claim) => claim.reused,
        }
    }

    /// Whether a request can go on it now.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Own { .. } => true,
            Self::Shared(claim) => claim.is_open() && claim.has_room(),
        }
    }
}

impl Tries<'_> {
    /// A connection that stands, where `found` is not one.
    pub(super) async fn connection(
        &self,
        target: &Target,
        mut found: Option<Connection>,
    ) -> Result<Connection, TryError> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            let granted = match found.take() {
                Some(connection) => Granted::Connection(connection),
                None => self.connection_permit(target).await?,
            };
            let connection = match granted {
                Granted::Connection(Connection::Shared(claim)) => self.opened(claim).await?,
                Granted::Connection(connection) => return Ok(connection),
                Granted::New(permit) => self.open(target, permit).await?,
            };
            match connection {
                // It takes fewer requests than came while it was opened.
                Connection::Shared(claim) if rounds < ROUNDS_MAX && !claim.has_room() => {
                    drop(claim);
                    found = self.check_out(target);
                }
                connection @ (Connection::Own { .. } | Connection::Shared(_)) => return Ok(connection),
            }
        }
    }

    /// Sends the head.
    pub(super) fn start(&mut self, connection: Connection, target: &Target) -> Result<Exchange, TryError> {
        let ask = self.ask;
        // A try that fails gives it back.
        let Some(body) = self.body.take() else { return Err(TryError::Head) };
        match connection {
            Connection::Own { mut wire, .. } => {
                wire.write.clear();
                encode_head(&ask.outgoing(&body), &mut wire.write);
                let (method, expects) = (ask.method.clone(), ask.expects_continue);
                let mut exchange = h1::Exchange::new(wire, body, method, expects, ask.timeouts.idle);
                if let Some(protocol) = ask.upgrade {
                    exchange.asks_for(protocol);
                }
                Ok(Exchange::H1(exchange))
            }
            Connection::Shared(claim) => {
                let scheme = ask.protocol.scheme();
                let Some(request) = h2::request(&ask.outgoing(&body), scheme, &target.label) else {
                    *self.body = Some(body);
                    return Err(TryError::Head);
                };
                let reused = claim.reused;
                self.avoid = Some(Rc::clone(claim.link()));
                match h2::Exchange::new(claim, request, body, ask.timeouts.idle) {
                    Ok(exchange) => Ok(Exchange::H2(Box::new(exchange))),
                    Err((error, body)) => {
                        *self.body = Some(body);
                        Err(TryError::Exchange { error, reused })
                    }
                }
            }
        }
    }

    /// One that is there and may be used.
    pub(super) fn check_out(&self, target: &Target) -> Option<Connection> {
        let ask = self.ask;
        match ask.protocol.version {
            UpstreamVersion::Http1 if self.skip_pool => None,
            UpstreamVersion::Http1 => {
                ask.check_out(target).map(|wire| Connection::Own { wire, reused: true })
            }
            UpstreamVersion::Http2 => self.claim(target, self.avoid.as_ref()),
        }
    }

    /// A place on a shared connection.
    fn claim(&self, target: &Target, avoid: Option<&Rc<Link>>) -> Option<Connection> {
        let mut pools = self.ask.worker.pools.borrow_mut();
        pools.claim(self.ask.pool_key(target), avoid).map(Connection::Shared)
    }

    async fn open(&self, target: &Target, permit: ConnectionPermit) -> Result<Connection, TryError> {
        let ask = self.ask;
        match ask.protocol.version {
            UpstreamVersion::Http1 => {
                let (timeout, late) = self.time_to_open();
                match self.noticing(target, connect(target, ask.protocol, timeout)).await {
                    Ok(io) => Ok(Connection::Own { wire: Wire::new(io, permit), reused: false }),
                    Err(failure) => {
                        debug!(endpoint = %target.endpoint, error = %failure, "connecting failed");
                        ask.backend.metrics.connect_failed();
                        Err(match failure {
                            ConnectError::Tcp(_) | ConnectError::LeadsHome(..) => TryError::Connect,
                            ConnectError::Tls(_) | ConnectError::Invalid => TryError::Tls,
                            ConnectError::TimedOut => late,
                        })
                    }
                }
            }
            UpstreamVersion::Http2 => {
                let link = Link::open(target, ask.protocol, permit, ask.timeouts.connect);
                let claim = link.claim(None);
                ask.worker.pools.borrow_mut().share(ask.pool_key(target), link);
                // A new one has room.
                self.noticing(target, self.opened(claim.ok_or(TryError::Connect)?)).await
            }
        }
    }

    /// Waits for a new connection to the endpoint, which is in doubt when that takes long.
    async fn noticing<T>(&self, target: &Target, opening: impl Future<Output = T>) -> T {
        let ask = self.ask;
        let slow = || {
            if let Some(health) = ask.passive_health {
                let now_ns = ask.worker.nanos(Instant::now());
                ask.backend.outlier.on_slow_connect(&target.state, now_ns, health);
            }
        };
        noticing(opening, ask.timeouts.connect, slow).await
    }

    async fn opened(&self, claim: Claim) -> Result<Connection, TryError> {
        let (timeout, late) = self.time_to_open();
        match time::timeout(timeout, claim.opened()).await {
            Ok(Ok(())) => Ok(Connection::Shared(claim)),
            Ok(Err(OpenError::Connect | OpenError::TimedOut)) => Err(TryError::Connect),
            Ok(Err(OpenError::Tls)) => Err(TryError::Tls),
            Err(_) => Err(late),
        }
    }

    /// The tightest of three bounds and what it means; that of the connection itself wins a tie, then that of the try, since
    /// it may be tried elsewhere.
    fn time_to_open(&self) -> (Duration, TryError) {
        let (ask, now) = (self.ask, Instant::now());
        let left = |ends: Instant| {
            let left = ends.saturating_duration_since(now);
            (left, ask.no_connection_says(left))
        };
        let of_try = self.ends(now).map(left);
        let of_request = ask.deadline().map(left);
        [
            Some((ask.timeouts.connect, TryError::Connect)),
            of_try.map(|(left, says)| (left, TryError::OpenTimeout { says })),
            of_request.map(|(left, says)| (left, TryError::RequestTimeout { says })),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(timeout, _)| *timeout)
        .unwrap_or((ask.timeouts.connect, TryError::Connect))
    }

    /// Takes one of the backend's connections. Where the rule's bound is reached, an idle one makes room, of this worker
    /// at once and of another within a tick; else the request waits, if the rule lets requests wait.
    async fn connection_permit(&self, target: &Target) -> Result<Granted, TryError> {
        let (backend, limits) = (self.ask.backend, self.ask.circuit_breaker);
        let acquire = || ConnectionPermit::try_acquire(backend, limits);
        // A new one, or one that lies idle on this worker: for this endpoint, or to make room for it.
        let grant = || {
            if let Some(permit) = acquire() {
                return Some(Granted::New(permit));
            }
            // Where there can be no other one, that which refused the request before will do: it has room again.
            if let Some(connection) = self.check_out(target).or_else(|| self.claim(target, None)) {
                return Some(Granted::Connection(connection));
            }
            let evicted = self.ask.worker.pools.borrow_mut().evict_one(backend.key);
            if evicted { acquire().map(Granted::New) } else { None }
        };
        if let Some(granted) = grant() {
            return Ok(granted);
        }
        let used = |kind| backend.breaker.in_use(kind);
        // This request is one of those in flight, but uses no connection yet.
        let busy = used(BreakerKind::Requests).saturating_sub(used(BreakerKind::Pending) + 1);
        let unbounded = CircuitBreaker::default();
        let bounds = if used(BreakerKind::Connections) > busy { &unbounded } else { limits };
        let Some(_pending) = BreakerPermit::try_acquire(&backend.breaker, BreakerKind::Pending, bounds)
        else {
            backend.metrics.breaker_rejected(BreakerKind::Pending);
            return Err(TryError::Breaker);
        };
        let wait = async {
            loop {
                let mut freed = pin!(backend.freed.notified());
                // Registered before the counter is looked at again, or a release in between would be missed.
                freed.as_mut().enable();
                if let Some(granted) = grant() {
                    return granted;
                }
                freed.await;
            }
        };
        let deadline =
            self.ask.deadline().or_else(|| self.ask.timeouts.idle.map(|idle| Instant::now() + idle));
        match deadline {
            Some(deadline) => time::timeout_at(deadline.into(), wait).await.map_err(|_| TryError::OVER),
            None => Ok(wait.await),
        }
    }
}

impl Forward<'_> {
    /// What it says of an endpoint that a connection to it did not stand within `waited`. As long as raises a doubt is
    /// enough, and so is the whole time of a try; less may be owed to what the request waited for before.
    fn no_connection_says(&self, waited: Duration) -> Option<Outcome> {
        let slow = slow_after(self.timeouts.connect);
        let enough = self.timeouts.per_try.map_or(slow, |per_try| per_try.min(slow));
        (waited >= enough).then_some(Outcome::ConnectFailure)
    }

    pub(super) fn pool_key(&self, target: &Target) -> PoolKey {
        PoolKey { backend: self.backend.key, endpoint: target.key, protocol: self.protocol.key }
    }

    fn check_out(&self, target: &Target) -> Option<Wire> {
        let key = self.pool_key(target);
        let idle_for = self.worker.settings.upstream_idle;
        let mut pools = self.worker.pools.borrow_mut();
        let may_repeat = self.may_repeat();
        loop {
            let mut wire = pools.check_out(key, self.started, idle_for)?;
            if may_repeat || wire.is_open_now() {
                return Some(wire);
            }
        }
    }
}
