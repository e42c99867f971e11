//! GatewayRoutes whose connections are passed through with their TLS as it is: what one asks for, and who has the word
//! where several speak of a host. What can't be held for such connections refuses them: nothing is left out in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{BackendRef, GatewayRoute, GatewayRouteSpec, ProxyProtocol, RouteRule, TlsMode, TlsVersion};
use ir::{
    BackendTarget, BalancePolicy, HashOn, HostPattern, LoadBalancing, ObjectRef, Passthrough,
    PassthroughBackend, ProxyVersion, RouteId, Timeouts, Tls,
};

use crate::attach::Attached;
use crate::gateway_route::rule_name;
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused, ReportLine};
use crate::route::{Built, RouteSeed};
use crate::standing::Extent;
use crate::tls::TlsClaim;
use crate::{balance, health, upstream};

/// What follows where something is wrong with the object.
const SO: &str = "its connections are refused";
/// What the findings of other rules say of requests, and what is so of connections.
const MEANINGS: [(&str, &str); 3] = [
    ("share of requests is answered 500", "share of connections is refused"),
    ("its requests are answered 500", SO),
    ("the rule answers 500", SO),
];

/// What one object asks for these hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassthroughClaim {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) passthrough: Arc<Passthrough>,
    /// As in [`ir::Route`].
    pub(crate) created: Option<i64>,
}

/// All hosts whose connections are passed through.
pub(crate) type PassedHosts = BTreeMap<HostPattern, Arc<Passthrough>>;

pub(crate) fn is_asked_for(spec: &GatewayRouteSpec) -> bool {
    spec.tls.as_ref().is_some_and(|tls| match tls.mode {
        TlsMode::Passthrough => true,
        TlsMode::Terminate => false,
    })
}

/// What a GatewayRoute of this kind becomes. It has no routes, for no request of it is seen. One that is refused has its
/// hosts all the same, and no backends for them: else their clients could come to somebody else.
pub(crate) fn gateway_route(
    object: &GatewayRoute,
    hosts: Vec<HostPattern>,
    attached: &[Attached],
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Built {
    let seed = RouteSeed::new(lines.object(), &object.metadata);
    let root = Field::root("spec");
    if hosts.is_empty() {
        let message = "connections are passed through by the host that clients ask for, and the route names none, so \
                       that nothing is served";
        lines.error(root.key("hostnames"), message, "name hosts");
        return Built::refused();
    }
    let mut found = Lines::new(lines.object().clone());
    let allowed = allowed(&object.spec, !attached.is_empty(), &mut found);
    let passthrough = passthrough(&object.spec, &seed, reader, &mut found);
    lines.append(found.into_vec().into_iter().map(of_connections));
    let (passthrough, extent) = match (passthrough, allowed) {
        (Ok(passthrough), Ok(())) => (passthrough, Extent::Served),
        (Ok(passthrough), Err(Refused)) => {
            (Passthrough { backends: Vec::new(), ..passthrough }, Extent::Refused)
        }
        (Err(Refused), _) => {
            let id = RouteId { object: lines.object().clone(), rule: "0".into() };
            (refusing(id), Extent::Refused)
        }
    };
    let claim = PassthroughClaim { hosts, passthrough: Arc::new(passthrough), created: seed.created() };
    Built { routes: Vec::new(), tls: Vec::new(), passthrough: Some(claim), extent }
}

fn refusing(id: RouteId) -> Passthrough {
    let Timeouts { connect, stream_idle, .. } = Timeouts::default();
    Passthrough {
        id,
        backends: Vec::new(),
        connect,
        stream_idle,
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: LoadBalancing::default(),
        passive_health: None,
    }
}

fn of_connections(mut line: ReportLine) -> ReportLine {
    for (of_requests, of_connections) in MEANINGS {
        line.message = line.message.replace(of_requests, of_connections);
    }
    line
}

/// Refuses what can't be held for connections of which nothing is seen.
fn allowed(spec: &GatewayRouteSpec, has_policies: bool, lines: &mut Lines) -> Result<(), Refused> {
    let root = Field::root("spec");
    let mut all = Ok(());
    let mut refuse = |field: Field<'_>, what: &str, remedy: &str, lines: &mut Lines| {
        all = Err(lines.error(field, format!("{what}; {SO}"), remedy));
    };
    let field = root.key("tls");
    if has_policies {
        let what = "policies target the route, and no request of connections that are passed through is seen that \
                    they could hold for";
        refuse(field.key("mode"), what, "remove the policies, or mode", lines);
    }
    if let Some(tls) = &spec.tls {
        let what = "the backend serves TLS, so that this can't hold";
        for (name, is_set) in [
            ("secretRef", tls.secret_ref.is_some()),
            ("minVersion", tls.min_version != TlsVersion::default()),
            ("redirectHTTP", tls.redirect_http.is_some()),
            ("hsts", tls.hsts.is_some()),
            ("clientAuth", tls.client_auth.is_some()),
        ] {
            if is_set {
                refuse(field.key(name), what, "remove it, or mode", lines);
            }
        }
    }
    let what = "no request of connections that are passed through is seen, so that this can't hold";
    if let Some(defaults) = &spec.defaults {
        let field = root.key("defaults");
        for (name, is_set) in [
            ("cors", defaults.cors.is_some()),
            ("ipAccess", defaults.ip_access.is_some()),
            ("auth", defaults.auth.is_some()),
            ("maxRequestBody", defaults.max_request_body.is_some()),
        ] {
            if is_set {
                refuse(field.key(name), what, "remove it", lines);
            }
        }
    }
    let rules = root.key("rules");
    for (index, rule) in spec.rules.iter().enumerate() {
        let field = rules.index(index);
        for (name, is_set) in [
            ("matches", !rule.matches.is_empty()),
            ("filters", !rule.filters.is_empty()),
            ("auth", rule.auth.is_some()),
            ("ipAccess", rule.ip_access.is_some()),
            ("maxRequestBody", rule.max_request_body.is_some()),
            ("retry", rule.retry.is_some()),
            ("affinity", rule.affinity.is_some()),
            ("upgrades", rule.upgrades.is_some()),
        ] {
            if is_set {
                refuse(field.key(name), what, "remove it", lines);
            }
        }
        if rule.health_check.as_ref().is_some_and(|check| check.active.is_some()) {
            let what = "endpoints of connections that are passed through are not checked";
            refuse(field.key("healthCheck").key("active"), what, "remove active", lines);
        }
    }
    all
}

fn passthrough(
    spec: &GatewayRouteSpec,
    seed: &RouteSeed,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Passthrough, Refused> {
    let root = Field::root("spec");
    let rules = root.key("rules");
    let [rule] = &*spec.rules else {
        let message =
            format!("no request is seen that could choose between rules, so there must be one; {SO}");
        return Err(lines.error(rules, message, "keep one rule"));
    };
    let field = rules.index(0);
    let defaults = root.key("defaults");
    let timeouts = match (&rule.timeouts, &spec.defaults) {
        (Some(own), _) => timeouts(Some(own), field.key("timeouts"), lines),
        (None, Some(all)) => timeouts(all.timeouts.as_ref(), defaults.key("timeouts"), lines),
        (None, None) => Ok(Timeouts::default()),
    };
    let load_balancing = load_balancing(rule, field, lines);
    let backends = backends(rule, field.key("backendRefs"), reader, lines)?;
    let Timeouts { connect, stream_idle, .. } = timeouts?;
    Ok(Passthrough {
        id: RouteId { object: seed.object().clone(), rule: rule_name(rule, 0).into() },
        backends,
        connect,
        stream_idle,
        circuit_breaker: rule.circuit_breaker.as_ref().map(upstream::circuit_breaker).unwrap_or_default(),
        load_balancing: load_balancing?,
        passive_health: Some(health::passive_health(rule.health_check.as_ref())),
    })
}

/// Of a client nothing is known here but its address.
fn load_balancing(rule: &RouteRule, field: Field<'_>, lines: &mut Lines) -> Result<LoadBalancing, Refused> {
    let field = field.key("loadBalancing");
    let load_balancing = balance::load_balancing(rule.load_balancing.as_ref(), field, lines)?;
    match &load_balancing.policy {
        BalancePolicy::ConsistentHash(on) if *on != HashOn::SourceIp => {
            let message = format!(
                "no request of connections that are passed through is seen, only their client's address; {SO}"
            );
            Err(lines.error(field.key("hashOn"), message, "write type: SourceIP"))
        }
        BalancePolicy::RoundRobin
        | BalancePolicy::LeastRequest
        | BalancePolicy::Ewma
        | BalancePolicy::Random
        | BalancePolicy::ConsistentHash(_) => Ok(load_balancing),
    }
}

/// As of a rule for requests, of which some mean nothing here.
fn timeouts(spec: Option<&api::Timeouts>, field: Field<'_>, lines: &mut Lines) -> Result<Timeouts, Refused> {
    if let Some(spec) = spec {
        for (name, is_set) in [
            ("request", spec.request.is_some()),
            ("perTry", spec.per_try.is_some()),
            ("idle", spec.idle.is_some()),
        ] {
            if is_set {
                let message =
                    "no request of connections that are passed through is seen, so that this bounds nothing";
                lines.warning(field.key(name), message, "remove it; streamIdle ends idle connections");
            }
        }
    }
    upstream::timeouts(spec, field, lines)
}

fn backends(
    rule: &RouteRule,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<PassthroughBackend>, Refused> {
    let mut sound = Ok(());
    let mut backends = Vec::with_capacity(rule.backend_refs.len());
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let field = field.index(index);
        for (name, is_set) in [("protocol", backend.protocol.is_some()), ("tls", backend.tls.is_some())] {
            if is_set {
                let message =
                    format!("the client's own TLS goes to the backend, so that this can't hold; {SO}");
                sound = Err(lines.error(field.key(name), message, "remove it"));
            }
        }
        backends.push(backend_of(backend, field, reader, lines));
    }
    if backends.is_empty() {
        lines.warning(field, format!("the rule has no backend; {SO}"), "add backendRefs");
    } else if backends.iter().all(|backend| backend.weight == 0) {
        lines.warning(field, format!("all weights are 0; {SO}"), "give one a weight");
    }
    sound.map(|()| backends)
}

fn backend_of(
    backend: &BackendRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> PassthroughBackend {
    let weight = upstream::weight(backend, field, lines);
    let target = match upstream::place(backend, field, reader, lines) {
        Ok((id, _)) => BackendTarget::Backend(id),
        Err(id) => BackendTarget::Missing(id),
    };
    let proxy_protocol = backend.proxy_protocol.map(|version| match version {
        ProxyProtocol::V1 => ProxyVersion::V1,
        ProxyProtocol::V2 => ProxyVersion::V2,
    });
    PassthroughBackend { target, weight, proxy_protocol }
}

/// What an object does not get because an older one has it.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) line: ReportLine,
    /// Nothing of the object is left.
    pub(crate) whole: bool,
}

/// All claims together, with what is said of those that have no effect. The oldest object has the word of a host, and
/// where it passes the host through, it is taken out of `tls`.
pub(crate) fn merge(
    claims: &[Arc<PassthroughClaim>],
    served: &[Arc<TlsClaim>],
    tls: &mut Tls,
) -> (PassedHosts, Vec<Lost>) {
    let mut hosts = PassedHosts::new();
    let mut all_lost = Vec::new();
    let mut sorted: Vec<&PassthroughClaim> = claims.iter().map(Arc::as_ref).collect();
    sorted.sort_by_key(|claim| age(claim));
    for claim in sorted {
        let (ours, mut lost) = (age(claim), Vec::new());
        for (index, pattern) in claim.hosts.iter().enumerate() {
            let others = || served.iter().filter(|one| one.hosts.contains(pattern));
            let oldest = others().min_by_key(|one| (one.created, &one.host.source));
            let oldest = oldest.filter(|one| (one.created, &one.host.source) < ours);
            let message = match (hosts.get(pattern), oldest) {
                (Some(first), _) => {
                    format!("'{pattern}' is passed through as {} says, which is older", first.id.object)
                }
                (None, Some(first)) => {
                    let source = &first.host.source;
                    format!("'{pattern}' is served over TLS as {source} says, which is older")
                }
                (None, None) => {
                    tls.hosts.remove(pattern);
                    let message = format!("'{pattern}' is passed through as {} says, which is older", ours.1);
                    let line = |other: &Arc<TlsClaim>| lost_line(&other.host.source, &other.field, &message);
                    all_lost.extend(others().flat_map(line).map(|line| Lost { line, whole: false }));
                    hosts.insert(pattern.clone(), Arc::clone(&claim.passthrough));
                    continue;
                }
            };
            lost.extend(lost_line(ours.1, &format!("spec.hostnames[{index}]"), &message));
        }
        let whole = lost.len() == claim.hosts.len();
        all_lost.extend(lost.into_iter().map(|line| Lost { line, whole }));
    }
    (hosts, all_lost)
}

fn lost_line(object: &ObjectRef, field: &str, message: &str) -> Option<ReportLine> {
    let mut lines = Lines::new(object.clone());
    lines.error(Field::root(field), message, "take the host out of one of them");
    lines.into_vec().pop()
}

fn age(claim: &PassthroughClaim) -> (Option<i64>, &ObjectRef) {
    (claim.created, &claim.passthrough.id.object)
}
