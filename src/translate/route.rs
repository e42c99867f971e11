//! What routes of every kind of object have in common: identity, age and the defaults of what is not said.

use std::sync::Arc;

use ir::{
    Action, CircuitBreaker, HeaderEdits, HostPattern, IpAccess, LoadBalancing, Match, ObjectRef,
    PassiveHealth, Retry, Route, RouteId, Timeouts, Upgrades, WeightedBackend,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::passthrough::PassthroughClaim;
use crate::standing::Extent;
use crate::tls::TlsClaim;

/// What an Ingress or GatewayRoute becomes.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) routes: Vec<Route>,
    pub(crate) tls: Vec<TlsClaim>,
    pub(crate) passthrough: Option<PassthroughClaim>,
    pub(crate) extent: Extent,
}

/// Counts the rules of one object.
#[derive(Debug, Default)]
pub(crate) struct RuleCount {
    rules: usize,
    refused: usize,
}

/// The part of a route that is the same for all rules of one object.
#[derive(Debug)]
pub(crate) struct RouteSeed {
    object: ObjectRef,
    created: Option<i64>,
}

impl Built {
    /// Not even one route, for the object's own sake.
    pub(crate) const fn refused() -> Self {
        Self { routes: Vec::new(), tls: Vec::new(), passthrough: None, extent: Extent::Refused }
    }
}

impl RuleCount {
    /// Counts a rule as it is for its own sake, so before policies are put on it. `None`: it serves nothing.
    pub(crate) fn add(&mut self, route: Option<&Route>) {
        self.rules += 1;
        let served = route.is_some_and(|route| !matches!(route.action, Action::Fail(_)));
        self.refused += usize::from(!served);
    }

    pub(crate) const fn extent(&self) -> Extent {
        if self.rules > 0 && self.refused == self.rules { Extent::Refused } else { Extent::Served }
    }
}

impl RouteSeed {
    pub(crate) fn new(object: &ObjectRef, metadata: &ObjectMeta) -> Self {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
        Self { object: object.clone(), created }
    }

    pub(crate) const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// When the object was created, as routes hold it.
    pub(crate) const fn created(&self) -> Option<i64> {
        self.created
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
            tls: None,
            cors: None,
            ip_access: IpAccess::default(),
            request_body_bytes_max: None,
            limits: Vec::new(),
            auth: Vec::new(),
            identity_headers: Vec::new(),
            header_edits: HeaderEdits::default(),
            timeouts: Timeouts::default(),
            action: forward_plainly(Vec::new()),
            extras: None,
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
        active_health: None,
        upgrades: Upgrades::default(),
        grpc_web: false,
    }
}
