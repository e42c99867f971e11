//! Finds an endpoint for a connection that is passed through as it is. Says nothing to it: what is said is the client's.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ir::Passthrough;
use tokio::net::TcpStream;
use tracing::{debug, info};
use traffic::{BreakerKind, BreakerPermit, InFlight, Outcome, Pick, TriedSet};

use super::backend::{Backend, ConnectionPermit, Target};
use super::connect::dial;
use crate::server::Worker;

/// Endpoints that are asked for one connection at most.
const ENDPOINTS_MAX: usize = 16;

/// A connection that wants an endpoint.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) backend: &'a Arc<Backend>,
    pub(crate) config: &'a Passthrough,
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
        let request = BreakerPermit::try_acquire(&backend.breaker, BreakerKind::Requests, limits)
            .ok_or_else(|| refused(BreakerKind::Requests))?;
        let connection = self.permit().ok_or_else(|| refused(BreakerKind::Connections))?;
        let targets = backend.targets();
        let mut tried = TriedSet::default();
        let mut error = PassageError::NoEndpoint;
        for _ in 0..targets.len().min(ENDPOINTS_MAX) {
            let Some((index, target)) = self.pick(&targets, &tried) else { break };
            tried.insert(index);
            let in_flight = InFlight::start(&target.state);
            match dial(target, self.config.connect).await {
                Ok(tcp) => {
                    self.report(&targets, index, Outcome::Success);
                    let held =
                        PassageHeld { _in_flight: in_flight, _connection: connection, _request: request };
                    return Ok((tcp, held));
                }
                Err(failure) => {
                    debug!(endpoint = %target.endpoint, error = %failure, "connecting failed");
                    backend.metrics.connect_failed();
                    self.report(&targets, index, Outcome::ConnectFailure);
                    error = PassageError::Connect;
                }
            }
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

    fn pick<'t>(&self, targets: &'t [Target], tried: &TriedSet) -> Option<(usize, &'t Target)> {
        let pick = Pick {
            policy: self.config.load_balancing,
            turn: self.backend.next_turn(),
            random: self.worker.random.next(),
            now_ns: self.worker.nanos(Instant::now()),
            tried,
            outlier: &self.backend.outlier,
        };
        let index = traffic::pick(targets, &pick)?;
        targets.get(index).map(|target| (index, target))
    }

    fn report(&self, targets: &[Target], index: usize, outcome: Outcome) {
        let Some(health) = &self.config.passive_health else { return };
        let now_ns = self.worker.nanos(Instant::now());
        if self.backend.outlier.on_result(targets, index, (now_ns, outcome), health) {
            self.backend.metrics.ejected();
            info!(endpoint = %targets.get(index).map_or("", |target| &target.label), "endpoint ejected");
        }
    }
}
