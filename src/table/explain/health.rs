//! How `explain` tells of the health of endpoints. Knows no endpoint.

use ir::{ActiveHealth, BreakerFailures, ObjectRef, PassiveHealth, Probe, SuccessRate};

use super::policy::{Detail, Step, duration};

/// When failures take an endpoint out.
pub(super) fn passive_step(health: &PassiveHealth, object: &ObjectRef) -> Step {
    let PassiveHealth {
        consecutive_5xx,
        consecutive_connect_failures,
        success_rate,
        eject_for,
        eject_for_max,
        max_ejected_percent,
        panic_percent,
    } = health;
    let rate = success_rate.as_ref().map(rate_text);
    let own = PassiveHealth::default();
    let longest = (*eject_for_max != own.eject_for_max).then(|| duration(*eject_for_max));
    let panic = (*panic_percent != own.panic_percent).then_some(u64::from(*panic_percent));
    Step::new("PassiveHealth", object)
        .with("consecutive5xx", Detail::Number((*consecutive_5xx).into()))
        .with("consecutiveConnectFailures", Detail::Number((*consecutive_connect_failures).into()))
        .text("successRate", rate)
        .with("ejectFor", Detail::Text(duration(*eject_for)))
        .text("maxEjectFor", longest)
        .with("maxEjectedPercent", Detail::Number((*max_ejected_percent).into()))
        .number("panicThreshold", panic)
}

/// How endpoints are checked. The values of headers are not told.
pub(super) fn active_step(health: &ActiveHealth, object: &ObjectRef) -> Step {
    let ActiveHealth { probe, port, interval, timeout, healthy, unhealthy } = health;
    let step = Step::new("ActiveHealth", object);
    let step = match probe {
        Probe::Tcp => step.with("type", Detail::Text("TCP".to_owned())),
        Probe::Http { path, host, headers, expected } => {
            let host = host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
            let expected = expected.iter().map(|(first, last)| format!("{first}-{last}"));
            step.with("type", Detail::Text("HTTP".to_owned()))
                .with("path", Detail::Text(path.clone()))
                .text("host", host)
                .list("headers", headers.iter().map(|(name, _)| name))
                .list("expected", expected)
        }
        Probe::Grpc { service } => step
            .with("type", Detail::Text("GRPC".to_owned()))
            .text("service", (!service.is_empty()).then(|| service.clone())),
    };
    step.number("port", port.map(u64::from))
        .with("interval", Detail::Text(duration(*interval)))
        .with("timeout", Detail::Text(duration(*timeout)))
        .with("healthy", Detail::Number((*healthy).into()))
        .with("unhealthy", Detail::Number((*unhealthy).into()))
}

fn rate_text(rate: &SuccessRate) -> String {
    let SuccessRate { minimum_percent, minimum_requests, interval } = rate;
    format!("{minimum_percent} % of at least {minimum_requests} in {}", duration(*interval))
}

/// What opens the breaker, for how long, and how it closes.
pub(super) fn failures_text(failures: &BreakerFailures) -> String {
    let BreakerFailures { consecutive, rate, open_for, probes } = failures;
    let row = (*consecutive > 0).then(|| format!("{consecutive} in a row"));
    let rate = rate.as_ref().map(|rate| format!("success under {}", rate_text(rate)));
    let causes: Vec<String> = row.into_iter().chain(rate).collect();
    format!("{}; open for {}, then {probes} probes", causes.join(" or "), duration(*open_for))
}
