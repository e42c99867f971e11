//! What routes of every kind of object have in common: identity, age and the defaults of what is not said.

use std::sync::Arc;

use ir::{
    Action, CircuitBreaker, HeaderEdits, HostPattern, IpAccess, LoadBalancing, Match, ObjectRef,
    PassiveHealth, Retry, Route, RouteId, Timeouts, WeightedBackend,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The part of a route that is the same for all rules of one object.
#[derive(Debug)]
pub(crate) struct RouteSeed {
    object: ObjectRef,
    created: Option<i64>,
}

impl RouteSeed {
    pub(crate) fn new(object: &ObjectRef, metadata: &ObjectMeta) -> Self {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
        Self { object: object.clone(), created }
    }

    /// A route with the defaults of everything that a rule may leave out. It forwards to nothing yet.
    pub(crate) fn route(
        &self,
        rule: impl Into<Arc<str>>,
        rule_index: usize,
        hosts: Vec<HostPattern>,
        matches: Vec<Match>,
    ) -> Route {
        Route {
            id: RouteId { object: self.object.clone(), rule: rule.into() },
            created: self.created,
            rule_index: u32::try_from(rule_index).unwrap_or(u32::MAX),
            hosts,
            matches,
            last_resort: false,
            cors: None,
            ip_access: IpAccess::default(),
            request_body_bytes_max: None,
            limits: Vec::new(),
            auth: Vec::new(),
            header_edits: HeaderEdits::default(),
            timeouts: Timeouts::default(),
            action: forward_plainly(Vec::new()),
        }
    }
}

/// Forwards with the default retry, breaker, balancing and ejection.
pub(crate) fn forward_plainly(backends: Vec<WeightedBackend>) -> Action {
    Action::Forward {
        backends,
        rewrite: None,
        retry: Retry::default(),
        circuit_breaker: CircuitBreaker::default(),
        load_balancing: LoadBalancing::default(),
        passive_health: Some(PassiveHealth::default()),
    }
}
