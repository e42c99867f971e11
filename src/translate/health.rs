//! The health of endpoints: when failures take one out, and how each is checked.

use std::sync::Arc;
use std::time::Duration;

use api::{ActiveCheckType, ActiveHealthCheck, HealthCheck};
use http::HeaderValue;
use ir::{
    ActiveHealth, BreakerFailures, PassiveHealth, Probe, SuccessRate, UpstreamVersion, WeightedBackend,
};

use crate::report::{Field, Lines, Refused};
use crate::value;

/// The shortest ejection.
const EJECT_FOR_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// What passes where nothing else is said.
const EXPECTED: (u16, u16) = (200, 299);

/// When failures take an endpoint out.
pub(crate) fn passive_health(check: Option<&HealthCheck>) -> PassiveHealth {
    let own = PassiveHealth::default();
    let Some(check) = check else { return own };
    let panic_percent = check.panic_threshold.map_or(own.panic_percent, |percent| percent.min(100));
    let Some(spec) = &check.passive else { return PassiveHealth { panic_percent, ..own } };
    let eject_for = spec.eject_for.get().max(EJECT_FOR_MIN);
    let eject_for_max = spec.max_eject_for.map_or(own.eject_for_max, api::Duration::get).max(eject_for);
    PassiveHealth {
        consecutive_5xx: spec.consecutive_5xx,
        consecutive_connect_failures: spec.consecutive_connect_failures,
        success_rate: spec.success_rate.as_ref().map(success_rate),
        eject_for,
        eject_for_max,
        max_ejected_percent: spec.max_ejected_percent.min(100),
        panic_percent,
    }
}

fn success_rate(spec: &api::SuccessRate) -> SuccessRate {
    SuccessRate {
        minimum_percent: spec.minimum_percent.clamp(1, 100),
        minimum_requests: spec.minimum_requests.max(1),
        interval: spec.interval.get().max(Duration::from_secs(1)),
    }
}

/// What opens the breaker.
pub(crate) fn breaker_failures(spec: &api::BreakerFailures) -> BreakerFailures {
    BreakerFailures {
        consecutive: spec.consecutive.unwrap_or(0),
        rate: spec.success_rate.as_ref().map(success_rate),
        open_for: spec.open_for.get().max(INTERVAL_MIN),
        probes: spec.probes.max(1),
    }
}

/// How endpoints are checked, if they are. `field`: that of the health check.
pub(crate) fn active_health(
    check: Option<&HealthCheck>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Option<Arc<ActiveHealth>>, Refused> {
    let Some(spec) = check.and_then(|check| check.active.as_ref()) else { return Ok(None) };
    let field = field.key("active");
    let probe = match spec.r#type {
        ActiveCheckType::Http => http_probe(spec, field, lines)?,
        ActiveCheckType::Tcp => Probe::Tcp,
        ActiveCheckType::Grpc => Probe::Grpc { service: spec.service.clone().unwrap_or_default() },
    };
    let interval = spec.interval.get().max(INTERVAL_MIN);
    let timeout = spec.timeout.get().clamp(Duration::from_millis(1), TIMEOUT_MAX);
    let (healthy, unhealthy) = (spec.healthy.max(1), spec.unhealthy.max(1));
    let port = spec.port.filter(|port| *port != 0);
    Ok(Some(Arc::new(ActiveHealth { probe, port, interval, timeout, healthy, unhealthy })))
}

/// Whether these backends can be asked in the way of the check. `field`: that of the health check.
pub(crate) fn fits_backends(
    active: &ActiveHealth,
    backends: &[WeightedBackend],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<(), Refused> {
    let needs_http2 = match active.probe {
        Probe::Grpc { .. } => true,
        Probe::Http { .. } | Probe::Tcp => false,
    };
    let is_http1 = |backend: &WeightedBackend| backend.protocol.version == UpstreamVersion::Http1;
    if !needs_http2 || !backends.iter().any(is_http1) {
        return Ok(());
    }
    let message = "the type GRPC needs HTTP/2, and a backend is spoken to in HTTP/1.1; the rule answers 500";
    let remedy = "write protocol GRPC or GRPCS at the backend, or another type";
    Err(lines.error(field.key("active").key("type"), message, remedy))
}

fn http_probe(spec: &ActiveHealthCheck, field: Field<'_>, lines: &mut Lines) -> Result<Probe, Refused> {
    let path = spec.path.clone().unwrap_or_else(|| "/".to_owned());
    let is_sound = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_sound {
        let message = "the path can't be asked for; the rule answers 500";
        return Err(lines.error(field.key("path"), message, "begin with / and escape blanks and '#'"));
    }
    let host = match &spec.host {
        Some(host) => Some(value::header_value(host, field.key("host"), lines)?),
        None => None,
    };
    let headers = value::all(&spec.headers, field.key("headers"), |header, field| {
        let name = value::own_header_name(&header.name, field.key("name"), lines)?;
        let value: HeaderValue = value::header_value(&header.value, field.key("value"), lines)?;
        Ok((name, value))
    })?;
    let expected = value::all(&spec.expected, field.key("expected"), |text, field| {
        value::status_range(text, 200).ok_or_else(|| {
            let message = format!("'{text}' is no status that an answer could have; the rule answers 500");
            lines.error(field, message, "write a status like 204 or a range like 200-299")
        })
    })?;
    let expected = if expected.is_empty() { vec![EXPECTED] } else { expected };
    Ok(Probe::Http { path, host, headers, expected })
}
