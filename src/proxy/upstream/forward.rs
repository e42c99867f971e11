//! Sends a request to an endpoint of its backend, and to another one where that is safe.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ir::{CircuitBreaker, LoadBalancing, PassiveHealth, Retry, RetryOn, Timeouts, UpstreamVersion};
use tokio::time;
use traffic::{AdaptivePermit, BreakerKind, BreakerPermit, InFlight, Outcome, TriedSet};

use super::backend::{Backend, Targets};
use super::balance::{self, Sticky};
use super::body::UpstreamBody;
use super::exchange::Exchange;
use super::h1::{ExchangeError, OutgoingHead, ResponseHead};
use super::h2::Link;
use super::pool::PoolKey;
use super::protocol::Protocol;
use super::switched::Switched;
use crate::body::{BodyError, RequestBody};
use crate::error::Reason;
use crate::filter::grpc;
use crate::observe::RouteMetrics;
use crate::server::Worker;

mod adaptive;
mod choice;
mod connection;
mod failure;

use failure::TryError;

/// Tries of one request at most, whatever is configured: never-sent tries included.
const TRIES_MAX: u32 = 16;
/// An endpoint that was silent for so long has had time enough to answer, whatever the rule gives.
const FAIR_TIME_MAX: Duration = Duration::from_secs(1);

/// A request that has passed all policies, and how its rule wants it sent.
#[derive(Debug)]
pub(crate) struct Forward<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) backend: &'a Arc<Backend>,
    pub(crate) protocol: &'a Arc<Protocol>,
    pub(crate) route_metrics: &'a RouteMetrics,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) host: &'a [u8],
    pub(crate) headers: &'a HeaderMap,
    /// The gateway's own fields as whole lines.
    pub(crate) own: &'a [u8],
    pub(crate) expects_continue: bool,
    /// The protocol to change to. Such a request is not sent twice.
    pub(crate) upgrade: Option<&'a str>,
    pub(crate) is_grpc: bool,
    pub(crate) started: Instant,
    pub(crate) timeouts: &'a Timeouts,
    /// The time for the whole request is shorter than the rule's, as its client wants it.
    pub(crate) is_hurried: bool,
    pub(crate) retry: &'a Retry,
    pub(crate) circuit_breaker: &'a CircuitBreaker,
    pub(crate) load_balancing: &'a LoadBalancing,
    /// The hash of what the policy looks at, if the request has it.
    pub(crate) hash_key: Option<u64>,
    /// Of a request that belongs to a session.
    pub(crate) sticky: Option<Sticky>,
    pub(crate) passive_health: Option<&'a PassiveHealth>,
}

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) head: ResponseHead,
    /// `None`: there is no body.
    pub(crate) body: Option<Rc<RefCell<UpstreamBody>>>,
    /// Only with 101.
    pub(crate) switched: Option<Box<Switched>>,
    /// See [`Target::tag`].
    pub(crate) endpoint_tag: u64,
}

/// How far a request came, for its record.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) tries: u32,
    /// With [`Reason::BreakerOpen`]: when it may be otherwise; 0: at any time.
    pub(crate) retry_after_s: u16,
    /// The time for the whole request was over.
    pub(crate) is_late: bool,
}

/// What a request holds of its backend until its answer ends.
#[derive(Debug)]
pub(crate) struct Held {
    key: PoolKey,
    _in_flight: InFlight,
    _request: Option<BreakerPermit>,
    _retry: Option<BreakerPermit>,
    _adaptive: Option<AdaptivePermit>,
}

impl Held {
    pub(super) fn key(&self) -> PoolKey {
        self.key
    }
}

/// Sends the request and its body, which is taken for it. The trail tells the endpoint and the number of tries, whatever
/// comes out.
pub(crate) async fn forward(
    ask: &Forward<'_>,
    body: &mut Option<RequestBody>,
    trail: &mut Trail,
) -> Result<Forwarded, Reason> {
    if ask.protocol.is_invalid() {
        return Err(Reason::UpstreamTlsInvalid);
    }
    let came = ask.came();
    if ask.is_over(came) {
        trail.is_late = true;
        return Err(TryError::OVER.reason());
    }
    let breaker = &ask.backend.breaker;
    let Some(request) = BreakerPermit::try_acquire(breaker, BreakerKind::Requests, ask.circuit_breaker)
    else {
        ask.backend.metrics.breaker_rejected(BreakerKind::Requests);
        return Err(Reason::BreakerOpen);
    };
    let adaptive = adaptive::permit(ask)?;
    // Last, as it may be one of few that are let through.
    let permit = ask.admitted(trail)?;
    ask.backend.budget.on_request(ask.worker.nanos(ask.started));
    let mut tries = Tries {
        ask,
        body,
        targets: ask.backend.targets(),
        request: Some(request),
        adaptive,
        retry: None,
        tried: TriedSet::default(),
        endpoints_tried: 0,
        began: came,
        timed_from: Cell::new(None),
        counted: 0,
        pause: Duration::ZERO,
        skip_pool: false,
        avoid: None,
    };
    // Over HTTP/2 the upstream may say that it did not process a request, whatever its method.
    if (tries.may_repeat() || ask.protocol.version == UpstreamVersion::Http2)
        && let Some(body) = tries.body
    {
        body.keep_for_replay();
    }
    loop {
        trail.tries += 1;
        let began = adaptive::began(ask);
        let error = match tries.once(trail).await {
            Ok(forwarded) => {
                adaptive::measure(ask, began, None);
                ask.ended(permit, || Some(ask.status(&forwarded.head) >= 500));
                return Ok(forwarded);
            }
            Err(error) => error,
        };
        adaptive::measure(ask, began, Some(error));
        // In a box, as it is seldom needed: what a request keeps for its whole life is kept small.
        if trail.tries >= TRIES_MAX || !Box::pin(tries.may_try_again(error)).await {
            trail.is_late = error.is_late();
            ask.ended(permit, || error.is_failure());
            return Err(error.reason());
        }
        ask.route_metrics.retried();
    }
}

/// The tries of one request.
struct Tries<'a> {
    ask: &'a Forward<'a>,
    /// Out of its place while it is being sent.
    body: &'a mut Option<RequestBody>,
    /// The same for all tries, so that a place in it means one endpoint.
    targets: Arc<Targets>,
    request: Option<BreakerPermit>,
    adaptive: Option<AdaptivePermit>,
    retry: Option<BreakerPermit>,
    tried: TriedSet,
    endpoints_tried: usize,
    /// When the try began, where that is measured; else when the request came.
    began: Instant,
    /// When the connection of the try began to be opened or, where there was one, the try was sent: until then it only
    /// waits for its turn.
    timed_from: Cell<Option<Instant>>,
    /// Retries that count against `attempts` and the budget.
    counted: u32,
    /// The wait before the next counted retry.
    pause: Duration,
    /// The last connection was stale: others may be too.
    skip_pool: bool,
    /// The shared connection that did not take the request.
    avoid: Option<Rc<Link>>,
}

impl Tries<'_> {
    async fn once(&mut self, trail: &mut Trail) -> Result<Forwarded, TryError> {
        let ask = self.ask;
        self.timed_from.set(None);
        let targets = Arc::clone(&self.targets);
        let Some((index, target)) = self.pick(&targets) else { return Err(TryError::NoEndpoint) };
        trail.upstream = Some(Arc::clone(&target.label));
        let in_flight = InFlight::start(&target.state);
        let (mut exchange, reused) = {
            let connection = match self.check_out(target) {
                Some(connection) if connection.is_ready() => connection,
                // In a box for the same reason.
                found => match Box::pin(self.connection(target, found)).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        if let Some(outcome) = error.outcome() {
                            self.report(&targets, index, outcome);
                        }
                        return Err(error);
                    }
                },
            };
            self.in_time()?;
            let reused = connection.is_reused();
            (self.start(connection, target)?, reused)
        };
        let error = match self.await_head(&mut exchange).await {
            Some(Ok(head)) => {
                let failed = ask.status(&head) >= 500;
                self.report(&targets, index, if failed { Outcome::ServerError } else { Outcome::Success });
                if trail.tries >= TRIES_MAX || !self.is_worth_another_try(&head, &exchange) {
                    let is_stream = ask.is_grpc || is_event_stream(&head);
                    if is_stream {
                        exchange.set_idle_timeout(ask.timeouts.stream_idle);
                    }
                    // What may last for hours is no load that its latency tells of.
                    if is_stream || head.status == StatusCode::SWITCHING_PROTOCOLS {
                        self.adaptive = None;
                    }
                    let held = Held {
                        key: ask.pool_key(target),
                        _in_flight: in_flight,
                        _request: self.request.take(),
                        _retry: self.retry.take(),
                        _adaptive: self.adaptive.take(),
                    };
                    return Ok(self.forwarded(head, exchange, held, target.tag));
                }
                // The connection is good: the answer is not.
                self.avoid = None;
                TryError::Status
            }
            Some(Err(error)) => TryError::Exchange { error, reused },
            None if exchange.waits_for_client() => {
                TryError::Exchange { error: ExchangeError::Client(BodyError::Timeout), reused }
            }
            None => self.expired(&exchange),
        };
        if let Some(outcome) = error.outcome() {
            self.report(&targets, index, outcome);
        }
        *self.body = Some(exchange.into_body());
        Err(error)
    }

    /// The answer that is the client's.
    fn forwarded(&self, head: ResponseHead, exchange: Exchange, held: Held, endpoint_tag: u64) -> Forwarded {
        match (head.status, exchange) {
            (StatusCode::SWITCHING_PROTOCOLS, Exchange::H1(exchange)) => {
                let switched = Some(Box::new(Switched::new(exchange, held)));
                Forwarded { head, body: None, switched, endpoint_tag }
            }
            (_, exchange) => {
                let ask = self.ask;
                let body = UpstreamBody::new(exchange, held, ask.worker, ask.deadline(), head.framing);
                Forwarded { head, body, switched: None, endpoint_tag }
            }
        }
    }

    /// Nothing is sent when the time for it is over.
    fn in_time(&self) -> Result<(), TryError> {
        let timeouts = self.ask.timeouts;
        // Others need no clock.
        if timeouts.request.is_none() && timeouts.per_try.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        if self.ask.is_over(now) {
            return Err(TryError::OVER);
        }
        if self.ends(now).is_some_and(|ends| ends <= now) {
            return Err(TryError::OpenTimeout { says: None });
        }
        Ok(())
    }

    /// When the try must have the head of its answer, if that is bounded. The first call begins it.
    fn ends(&self, now: Instant) -> Option<Instant> {
        let began = self.timed_from.get().unwrap_or(now);
        self.timed_from.set(Some(began));
        self.ask.timeouts.per_try.map(|per_try| began + per_try)
    }

    /// `None`: the time for it is over.
    async fn await_head(&self, exchange: &mut Exchange) -> Option<Result<ResponseHead, ExchangeError>> {
        let head = poll_fn(|cx| exchange.poll_head(cx));
        match self.head_bound() {
            Some((ends, _)) => time::timeout_at(ends.into(), head).await.ok(),
            None => Some(head.await),
        }
    }

    /// Until when the try waits for the head of its answer, and what it means that it has not come.
    fn head_bound(&self) -> Option<(Instant, TryError)> {
        let (ask, began) = (self.ask, self.timed_from.get()?);
        let of_request = ask.deadline().map(|ends| {
            let says = ask.silence_says(ends.saturating_duration_since(began));
            (ends, TryError::RequestTimeout { says })
        });
        let of_try = self.ends(began).map(|ends| (ends, TryError::PerTryTimeout));
        [of_request, of_try].into_iter().flatten().min_by_key(|(ends, _)| *ends)
    }

    fn expired(&self, exchange: &Exchange) -> TryError {
        if let Some(began) = self.timed_from.get() {
            exchange.waited_in_vain(began);
        }
        self.head_bound().map_or(TryError::PerTryTimeout, |(_, error)| error)
    }

    /// Whether the method may be sent again after bytes of it were sent.
    fn may_repeat(&self) -> bool {
        self.ask.may_repeat()
    }

    /// Whether this answer is given up for another try. Takes the try from the budget if so.
    fn is_worth_another_try(&mut self, head: &ResponseHead, exchange: &Exchange) -> bool {
        let status = self.ask.status(head);
        let named = self
            .ask
            .retry
            .on
            .iter()
            .any(|on| matches!(*on, RetryOn::Status { first, last } if (first..=last).contains(&status)));
        named && self.may_repeat() && exchange.can_replay() && self.take_retry()
    }

    /// Takes one counted retry: bounded by `attempts`, the budget and the breaker.
    fn take_retry(&mut self) -> bool {
        let (ask, retry) = (self.ask, self.ask.retry);
        let random = ask.worker.random.next();
        self.pause = traffic::backoff(self.counted + 1, retry.backoff_base, retry.backoff_max, random);
        let in_time = ask.deadline().is_none_or(|deadline| Instant::now() + self.pause < deadline);
        if self.counted >= retry.attempts
            || !in_time
            || !ask.backend.budget.try_retry(ask.worker.nanos(Instant::now()), ask.retry.budget_percent)
        {
            return false;
        }
        self.retry = None;
        self.retry =
            BreakerPermit::try_acquire(&ask.backend.breaker, BreakerKind::Retries, ask.circuit_breaker);
        if self.retry.is_none() {
            ask.backend.metrics.breaker_rejected(BreakerKind::Retries);
            return false;
        }
        self.counted += 1;
        true
    }

    /// Settles whether there is another try, makes the body start over and waits the back-off.
    async fn may_try_again(&mut self, error: TryError) -> bool {
        let on = |what: RetryOn| self.ask.retry.on.contains(&what);
        let counted = match error {
            TryError::NoEndpoint | TryError::Breaker | TryError::RequestTimeout { .. } | TryError::Head => {
                return false;
            }
            TryError::Status => true,
            // Nothing was sent, so every other endpoint may be asked, whatever is configured.
            TryError::Connect | TryError::Tls | TryError::OpenTimeout { .. } => {
                let in_time = self.ask.deadline().is_none_or(|deadline| Instant::now() < deadline);
                let may_turn = !self.ask.sticky.is_some_and(|sticky| sticky.is_strict);
                if in_time && may_turn && self.endpoints_tried < self.targets.len() {
                    return self.rewind();
                }
                on(RetryOn::ConnectFailure) && self.take_retry()
            }
            // The first stale connection costs nothing; where one after the other is, something else is wrong.
            TryError::Exchange { error: ExchangeError::Closed { nothing_sent }, reused: true }
                if !self.skip_pool =>
            {
                self.skip_pool = true;
                return (nothing_sent || self.may_repeat()) && self.rewind();
            }
            TryError::Exchange { error: ExchangeError::Refused, reused: true } if !self.skip_pool => {
                self.skip_pool = true;
                return self.rewind();
            }
            TryError::Exchange { error: ExchangeError::Refused, .. } => {
                on(RetryOn::Reset) && self.take_retry()
            }
            TryError::Exchange { error: ExchangeError::Reset, .. } => {
                on(RetryOn::Reset) && self.may_repeat() && self.take_retry()
            }
            TryError::Exchange { error: ExchangeError::Closed { nothing_sent }, .. } => {
                on(RetryOn::Reset) && (nothing_sent || self.may_repeat()) && self.take_retry()
            }
            TryError::PerTryTimeout => on(RetryOn::Reset) && self.may_repeat() && self.take_retry(),
            TryError::Exchange { .. } => return false,
        };
        if !counted || !self.rewind() {
            return false;
        }
        time::sleep(self.pause).await;
        true
    }

    /// Makes the body start over, if it can.
    fn rewind(&mut self) -> bool {
        self.body.as_mut().is_some_and(RequestBody::rewind)
    }
}

/// An answer that goes on as long as there is something to tell.
fn is_event_stream(head: &ResponseHead) -> bool {
    let media_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let end = memchr::memchr(b';', media_type).unwrap_or(media_type.len());
    let (essence, _) = media_type.split_at(end);
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

impl Forward<'_> {
    /// The answer's status as retries and health see it: gRPC says in another place that it is not to be had.
    fn status(&self, head: &ResponseHead) -> u16 {
        if self.is_grpc && grpc::is_unavailable(&head.headers) {
            return StatusCode::SERVICE_UNAVAILABLE.as_u16();
        }
        head.status.as_u16()
    }

    /// When the whole request must be over.
    fn deadline(&self) -> Option<Instant> {
        self.timeouts.request.map(|timeout| self.started + timeout)
    }

    /// When the request came here: as good as its start, and the clock is read where that matters, for it may have waited
    /// for a turn, a decision or a fault.
    fn came(&self) -> Instant {
        let matters = self.timeouts.request.is_some() || balance::is_measured(self.load_balancing);
        if matters { Instant::now() } else { self.started }
    }

    /// Whether the time for the whole request is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// What it says of an endpoint that it has not answered within `had`, when the time of the request was over. Nothing
    /// where the client chose that time, or where most of it was used up before: fair is half of the rule's own, or a
    /// second.
    fn silence_says(&self, had: Duration) -> Option<Outcome> {
        let fair = (self.timeouts.request? / 2).min(FAIR_TIME_MAX);
        (!self.is_hurried && had >= fair).then_some(Outcome::NoAnswer)
    }

    fn may_repeat(&self) -> bool {
        self.upgrade.is_none() && self.retry.methods.contains(self.method)
    }

    fn outgoing(&self, body: &RequestBody) -> OutgoingHead<'_> {
        OutgoingHead {
            method: self.method,
            path: self.path,
            query: self.query,
            host: self.host,
            headers: self.headers,
            own: self.own,
            framing: body.framing(),
            upgrade: self.upgrade,
        }
    }
}
