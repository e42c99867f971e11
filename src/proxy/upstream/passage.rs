//! Finds an endpoint for a connection that is passed through as it is. Says nothing to it: what is said is the client's.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ir::Passthrough;
use tokio::net::TcpStream;
use tracing::debug;
use traffic::{BreakerKind, BreakerPermit, InFlight, Outcome, Pick, TriedSet};

use super::backend::{Backend, ConnectionPermit, Target, Targets};
use super::balance;
use super::connect::{dial, noticing};
use crate::server::Worker;

/// Endpoints that are asked for one connection at most.
const ENDPOINTS_MAX: usize = 16;

/// A connection that wants an endpoint.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) backend: &'a Arc<Backend>,
    pub(crate) config: &'a Passthrough,
    /// The client's.
    pub(crate) address_key: u64,
}

/// Why there is no endpoint for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassageError {
    NoEndpoint,
    Connect,
    Breaker,
}

/// What a connection holds of its backend for as long as it lives.
#[derive(Debug)]
pub(crate) struct PassageHeld {
    _in_flight: InFlight,
    _connection: ConnectionPermit,
    _request: BreakerPermit,
}

impl Passage<'_> {
    /// A new connection to an endpoint. As nothing was sent to those that could not be reached, another one is asked.
    pub(crate) async fn open(&self) -> Result<(TcpStream, PassageHeld), PassageError> {
        let (backend, limits) = (self.backend, &self.config.circuit_breaker);
        let refused = |kind| {
            backend.metrics.breaker_rejected(kind);
            PassageError::Breaker
        };
        let failures = limits.failures.as_ref();
        let now_ns = || self.worker.nanos(Instant::now());
        let request = BreakerPermit::try_acquire(&backend.breaker, BreakerKind::Requests, limits)
            .ok_or_else(|| refused(BreakerKind::Requests))?;
        let connection = self.permit().ok_or_else(|| refused(BreakerKind::Connections))?;
        // Last, as it may be one of few that are let through.
        let admit = |failures| backend.admit(now_ns(), failures).map_err(|_| PassageError::Breaker);
        let mut admitted = failures.map(admit).transpose()?;
        let mut ended = |failed| {
            if let (Some(failures), Some(permit)) = (failures, admitted.take()) {
                backend.request_ended(permit, now_ns(), failed, failures);
            }
        };
        let targets = backend.targets();
        let mut tried = TriedSet::default();
        let mut error = PassageError::NoEndpoint;
        for _ in 0..targets.len().min(ENDPOINTS_MAX) {
            let Some((index, target)) = self.pick(&targets, &tried) else { break };
            tried.insert(index);
            let began = Instant::now();
            let in_flight = InFlight::start(&target.state);
            let slow = || {
                if let Some(health) = &self.config.passive_health {
                    backend.outlier.on_slow_connect(&target.state, self.worker.nanos(Instant::now()), health);
                }
            };
            let connect = self.config.connect;
            match noticing(dial(target, connect), connect, slow).await {
                Ok(tcp) => {
                    self.report(&targets, index, (began, Outcome::Success));
                    ended(false);
                    let held =
                        PassageHeld { _in_flight: in_flight, _connection: connection, _request: request };
                    return Ok((tcp, held));
                }
                Err(failure) => {
                    debug!(endpoint = %target.endpoint, error = %failure, "connecting failed");
                    backend.metrics.connect_failed();
                    self.report(&targets, index, (began, Outcome::ConnectFailure));
                    error = PassageError::Connect;
                }
            }
        }
        if error == PassageError::Connect {
            ended(true);
        }
        Err(error)
    }

    /// Takes one of the backend's connections. Where the rule's bound is reached, an idle one of this worker's makes room.
    /// Nobody waits: the client has its own idea of how long a handshake may take.
    fn permit(&self) -> Option<ConnectionPermit> {
        let acquire = || ConnectionPermit::try_acquire(self.backend, &self.config.circuit_breaker);
        acquire().or_else(|| {
            let evicted = self.worker.pools.borrow_mut().evict_one(self.backend.key);
            if evicted { acquire() } else { None }
        })
    }

    fn pick<'t>(&self, targets: &'t Targets, tried: &TriedSet) -> Option<(usize, &'t Target)> {
        let pick = Pick {
            choice: balance::choice(self.backend, &self.config.load_balancing, Some(self.address_key)),
            random: self.worker.random.next(),
            now_ns: self.worker.nanos(Instant::now()),
            tried,
            outlier: &self.backend.outlier,
            lineup: &targets.lineup,
            slow_start_ns: balance::slow_start_ns(&self.config.load_balancing),
            prefers_local: balance::prefers_local(&self.config.load_balancing),
            panic_percent: balance::panic_percent(self.config.passive_health.as_ref()),
        };
        let index = traffic::pick(targets, &pick)?;
        targets.get(index).map(|target| (index, target))
    }

    fn report(&self, targets: &[Target], index: usize, (began, outcome): (Instant, Outcome)) {
        let now = Instant::now();
        let now_ns = self.worker.nanos(now);
        if let (true, Some(target)) = (balance::is_measured(&self.config.load_balancing), targets.get(index))
        {
            balance::measure(target, now_ns, now - began, outcome);
        }
        let Some(health) = &self.config.passive_health else { return };
        if self.backend.outlier.on_result(targets, index, (now_ns, outcome), health) {
            self.backend.ejected(targets, index);
        }
    }
}
