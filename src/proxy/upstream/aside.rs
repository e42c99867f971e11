//! Requests that the gateway makes beside a client's own: questions to a service that decides, for a page, and mirrors. They
//! go the way of all requests to backends, on terms of their own; no rule says more of them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use ir::{CircuitBreaker, LoadBalancing, PassiveHealth, Retry, Timeouts};

use super::forward::Forward;
use super::{Backend, Protocol};
use crate::observe::RouteMetrics;
use crate::server::Worker;

/// How such requests are sent: as those of a rule that says nothing, but for what is set.
#[derive(Debug, Default)]
pub(crate) struct AsideTerms {
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
    pub(crate) circuit_breaker: CircuitBreaker,
    pub(crate) load_balancing: LoadBalancing,
    pub(crate) passive_health: PassiveHealth,
}

/// One such request.
#[derive(Debug)]
pub(crate) struct Aside<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) upstream: (&'a Arc<Backend>, &'a Arc<Protocol>),
    pub(crate) route_metrics: &'a RouteMetrics,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) host: &'a [u8],
    pub(crate) headers: &'a HeaderMap,
    /// The gateway's own fields as whole lines.
    pub(crate) own: &'a [u8],
    pub(crate) started: Instant,
}

impl<'a> Aside<'a> {
    /// It changes no protocol, belongs to no session, and waits for no `100 Continue`.
    pub(crate) fn on(self, terms: &'a AsideTerms) -> Forward<'a> {
        let (backend, protocol) = self.upstream;
        Forward {
            worker: self.worker,
            backend,
            protocol,
            route_metrics: self.route_metrics,
            method: self.method,
            path: self.path,
            query: self.query,
            host: self.host,
            headers: self.headers,
            own: self.own,
            expects_continue: false,
            upgrade: None,
            is_grpc: false,
            started: self.started,
            timeouts: &terms.timeouts,
            is_hurried: false,
            retry: &terms.retry,
            circuit_breaker: &terms.circuit_breaker,
            load_balancing: &terms.load_balancing,
            hash_key: None,
            sticky: None,
            passive_health: Some(&terms.passive_health),
        }
    }
}
