//! How a rule speaks with its backends: references, timeouts, retries, breaker, ejection.

use std::sync::Arc;
use std::time::Duration;

use api::{BackendRef, RouteRule};
use ir::{
    Action, AdaptiveLimit, BackendId, BackendTarget, CircuitBreaker, Retry, RetryOn, Rewrite, Timeouts,
    Upgrades, UpstreamProtocol, WeightedBackend,
};

use crate::address::{self, Leads};
use crate::backend::{self, PortRef};
use crate::protocol::{self, Offer};
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};
use crate::{balance, endpoint, health, value};

/// The largest weight of a backend (Gateway API BackendRef).
const WEIGHT_MAX: u32 = 1_000_000;
/// The most tries after the first.
const ATTEMPTS_MAX: u32 = 10;
/// The most protocols that a rule may let clients change to.
const UPGRADES_MAX: usize = 8;

/// The forwarding of a rule.
pub(crate) fn forward(
    rule: &RouteRule,
    rewrite: Option<Rewrite>,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Action, Refused> {
    let backends = backends(&rule.backend_refs, field.key("backendRefs"), reader, lines);
    let retry = retry(rule.retry.as_ref(), field.key("retry"), lines)?;
    let circuit_breaker = rule.circuit_breaker.as_ref().map(circuit_breaker).unwrap_or_default();
    let load_balancing =
        balance::load_balancing(rule.load_balancing.as_ref(), field.key("loadBalancing"), lines)?;
    let check = rule.health_check.as_ref();
    let check_field = field.key("healthCheck");
    let passive_health = Some(health::passive_health(check));
    let active_health = health::active_health(check, check_field, lines)?;
    if let Some(active) = &active_health {
        health::fits_backends(active, &backends, check_field, lines)?;
    }
    let upgrades = match &rule.upgrades {
        Some(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            upgrades(&names, field.key("upgrades"), "the rule answers 500", lines)?
        }
        None => Upgrades::default(),
    };
    Ok(Action::Forward {
        backends,
        rewrite,
        retry,
        circuit_breaker,
        load_balancing,
        passive_health,
        active_health,
        upgrades,
        grpc_web: false,
    })
}

/// A rule's timeouts, or the defaults of the route, or our own.
pub(crate) fn timeouts(
    spec: Option<&api::Timeouts>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Timeouts, Refused> {
    let own = Timeouts::default();
    let Some(spec) = spec else { return Ok(own) };
    // Zero means no bound (Gateway API GEP-1742).
    let bound = |value: api::Duration| Some(value.get()).filter(|value| !value.is_zero());
    let connect = spec.connect.map_or(own.connect, api::Duration::get);
    if connect.is_zero() {
        let message = "a connection cannot be made in no time; the rule answers 500";
        return Err(lines.error(field.key("connect"), message, "write at least 1ms"));
    }
    let timeouts = Timeouts {
        connect,
        request: spec.request.map_or(own.request, bound),
        per_try: spec.per_try.map_or(own.per_try, bound),
        idle: spec.idle.map_or(own.idle, bound),
        stream_idle: spec.stream_idle.map_or(own.stream_idle, bound),
    };
    if let (Some(per_try), Some(request)) = (timeouts.per_try, timeouts.request)
        && per_try > request
    {
        let message = "perTry is longer than request, which ends the request first";
        lines.warning(field.key("perTry"), message, "make perTry at most as long as request");
    }
    Ok(timeouts)
}

/// Protocols that clients may change to. `so` is what follows where they cannot be read.
pub(crate) fn upgrades(
    names: &[&str],
    field: Field<'_>,
    so: &str,
    lines: &mut Lines,
) -> Result<Upgrades, Refused> {
    if names.len() > UPGRADES_MAX {
        let message = format!("there are more than {UPGRADES_MAX} protocols; {so}");
        return Err(lines.error(field, message, "name fewer"));
    }
    let mut refused = None;
    for (index, name) in names.iter().enumerate() {
        if name.eq_ignore_ascii_case("h2c") {
            // RFC 9113 §3.1 took it away; what it brought was a way past the checks of proxies (hardening SM).
            let message = "h2c is no upgrade any more (RFC 9113 §3.1); it is left out";
            lines.error(
                field.index(index),
                message,
                "write protocol: H2C at the backend for HTTP/2 towards it",
            );
        } else if !is_protocol_name(name) {
            let message = format!("'{name}' is no name of a protocol; {so}");
            refused = Some(lines.error(field.index(index), message, "write a name like websocket"));
        }
    }
    refused.map_or_else(|| Ok(Upgrades::new(names.iter().copied())), Err)
}

/// A token, or two with a slash between (RFC 9110 §7.8).
fn is_protocol_name(name: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let (protocol, version) = name.split_once('/').unwrap_or((name, "1"));
    is_token(protocol) && is_token(version)
}

fn backends(
    refs: &[BackendRef],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Vec<WeightedBackend> {
    let mut backends = Vec::with_capacity(refs.len());
    for (index, backend) in refs.iter().enumerate() {
        let field = field.index(index);
        let weight = weight(backend, field, lines);
        let (target, protocol) = target(backend, field, reader, lines);
        backends.push(WeightedBackend { target, weight, protocol });
    }
    if refs.is_empty() {
        let remedy = "add backendRefs, or a RequestRedirect or DirectResponse filter";
        lines.warning(field, "the rule has no backend; its requests are answered 500", remedy);
    } else if backends.iter().all(|backend| backend.weight == 0) {
        lines.warning(field, "all weights are 0; the rule's requests are answered 500", "give one a weight");
    }
    backends
}

/// The share of a backend.
pub(crate) fn weight(backend: &BackendRef, field: Field<'_>, lines: &mut Lines) -> u32 {
    let weight = backend.weight.min(WEIGHT_MAX);
    if weight != backend.weight {
        lines.warning(field.key("weight"), "the weight is taken as 1000000", "write 0 to 1000000");
    }
    weight
}

/// Where the reference leads and how that is spoken to. Missing where either cannot be had.
pub(crate) fn target(
    backend: &BackendRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> (BackendTarget, UpstreamProtocol) {
    let found = place(backend, field, reader, lines);
    let spoken = spoken(backend, field, reader, lines);
    match (found, spoken) {
        (Ok((id, offer)), Ok(demand)) => {
            let protocol = protocol::protocol(backend.protocol, demand.as_ref(), &offer);
            (BackendTarget::Backend(id), protocol)
        }
        (Ok((id, _)), Err(Refused)) | (Err(id), _) => {
            (BackendTarget::Missing(id), UpstreamProtocol::default())
        }
    }
}

/// TLS as the reference asks for it; `None`: it does not.
fn spoken(
    backend: &BackendRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Option<protocol::TlsDemand>, Refused> {
    if backend.proxy_protocol.is_some() {
        let message = format!(
            "a connection to the backend is shared by clients, so that none of them could be named; {}",
            protocol::NO_TLS
        );
        let remedy = "remove proxyProtocol, or set spec.tls.mode to Passthrough";
        return Err(lines.error(field.key("proxyProtocol"), message, remedy));
    }
    let Some(tls) = &backend.tls else { return Ok(None) };
    if backend.protocol.is_some_and(|protocol| !protocol::has_tls(protocol)) {
        let message = format!("the protocol has no TLS, and tls is set; {}", protocol::NO_TLS);
        return Err(lines.error(field.key("tls"), message, "write protocol HTTPS or GRPCS, or remove tls"));
    }
    protocol::tls_demand(tls, field.key("tls"), reader, lines).map(Some)
}

pub(crate) fn place(
    backend: &BackendRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<(BackendId, Offer), BackendId> {
    if let Some(host) = &backend.address {
        return address(host, backend, field, reader, lines);
    }
    let own: Arc<str> = Arc::clone(&lines.object().namespace);
    let name = backend.name.as_deref().unwrap_or_default();
    let missing =
        |namespace: Arc<str>| Err(BackendId::Service { namespace, name: name.into(), port: backend.port });
    if name.is_empty() {
        let message =
            "the reference names neither a Service nor an address; its share of requests is answered 500";
        lines.error(field, message, "add name");
        return missing(own);
    }
    let namespace: Arc<str> = match backend.namespace.as_deref().filter(|namespace| **namespace != *own) {
        Some(other) if reader.permits_service(lines.object(), other, name) => other.into(),
        Some(other) => {
            let message = format!(
                "the Service '{other}/{name}' is of another namespace, and nothing there grants this reference; its \
                 share of requests is answered 500"
            );
            let remedy = format!(
                "add a ReferenceGrant to the namespace '{other}', or name a Service of the route's own namespace"
            );
            lines.fault(Fault::RefNotPermitted, field.key("namespace"), message, &remedy);
            return missing(other.into());
        }
        None => own,
    };
    let resolved = backend::service_target(&namespace, name, PortRef::Number(backend.port), reader);
    backend::resolved(resolved, field, lines)
}

fn address(
    host: &str,
    backend: &BackendRef,
    field: Field<'_>,
    reader: &Reader<'_>,
    lines: &mut Lines,
) -> Result<(BackendId, Offer), BackendId> {
    let ip = host.parse::<std::net::IpAddr>();
    let text = match &ip {
        Ok(address) => address.to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    };
    let id = BackendId::Address { host: text.as_str().into(), port: backend.port };
    let leads = address::external_leads(&text, reader.settings());
    let refused = match leads {
        Leads::Anywhere => None,
        Leads::Home(home) => Some(format!("the reference leads to '{text}', {}", home.meaning())),
        Leads::Outside => Some("addresses are not allowed in a cluster".to_owned()),
    };
    if let Some(what) = refused {
        let message = format!("{what}; the reference's share of requests is answered 500");
        let remedy = endpoint::remedy(leads);
        lines.fault(Fault::AddressNotPermitted, field.key("address"), message, remedy);
        return Err(id);
    }
    let sound = backend.port != 0 && (ip.is_ok() || ir::HostName::parse(&text).is_ok());
    if !sound {
        let message = format!(
            "'{host}' with port {} is no address; its share of requests is answered 500",
            backend.port
        );
        lines.error(field.key("address"), message, "write an IP address or a host name, and a port");
        return Err(id);
    }
    let offer = Offer { protocol: api::BackendProtocol::Http, server_name: text.into() };
    Ok((id, offer))
}

/// When a request is tried again.
pub(crate) fn retry(
    spec: Option<&api::Retry>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Retry, Refused> {
    let Some(spec) = spec else { return Ok(Retry::default()) };
    let on = value::all(&spec.on, field.key("on"), |text, field| {
        retry_on(text).ok_or_else(|| {
            let remedy = "write ConnectFailure, Reset, a status like 503 or a range like 500-599";
            lines.error(field, format!("'{text}' is nothing to retry on; the rule answers 500"), remedy)
        })
    });
    let methods = value::methods(&spec.methods, field.key("methods"), lines);
    if spec.attempts > ATTEMPTS_MAX {
        let message = format!("attempts is taken as {ATTEMPTS_MAX}");
        lines.warning(field.key("attempts"), message, "write 0 to 10");
    }
    let (base, max) = (spec.backoff.base.get(), spec.backoff.max.get());
    Ok(Retry {
        attempts: spec.attempts.min(ATTEMPTS_MAX),
        on: on?,
        methods: methods?,
        backoff_base: base.min(max),
        backoff_max: max.min(Duration::from_mins(1)),
        budget_percent: spec.budget_percent.min(100),
        different_endpoint: spec.different_endpoint,
    })
}

fn retry_on(text: &str) -> Option<RetryOn> {
    match text {
        "ConnectFailure" => return Some(RetryOn::ConnectFailure),
        "Reset" => return Some(RetryOn::Reset),
        _ => {}
    }
    let (first, last) = value::status_range(text, 400)?;
    Some(RetryOn::Status { first, last })
}

pub(crate) fn circuit_breaker(spec: &api::CircuitBreaker) -> CircuitBreaker {
    CircuitBreaker {
        max_connections: spec.max_connections,
        max_pending_requests: spec.max_pending_requests,
        max_requests: spec.max_requests,
        max_retries: spec.max_retries,
        adaptive: spec.adaptive.as_ref().map(|spec| {
            let min = spec.min_requests.max(1);
            AdaptiveLimit { min, max: spec.max_requests.max(min) }
        }),
        failures: spec.failures.as_ref().map(health::breaker_failures),
    }
}
