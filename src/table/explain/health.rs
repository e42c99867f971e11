//! How `explain` tells of the health of endpoints. Knows no endpoint.

use ir::{ObjectRef, PassiveHealth};

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
    let rate = success_rate.map(|rate| {
        let (percent, requests) = (rate.minimum_percent, rate.minimum_requests);
        format!("{percent} % of at least {requests} in {}", duration(rate.interval))
    });
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
