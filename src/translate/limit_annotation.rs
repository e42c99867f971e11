//! Limits that an Ingress asks for by annotations, each by the client's address. A word that is not understood fails closed:
//! fewer limits than were asked for would be open.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ir::{
    Action, Concurrency, CounterScope, FailReason, Limit, LimitCost, LimitHeaders, LimitKey, LimitMode,
    LimitPhase, LimitPolicy, LimitWhen, Rate, RateCounting, Route,
};
use k8s_openapi::api::networking::v1::Ingress;

use crate::matches::everything;
use crate::notes::Notes;
use crate::report::{Field, Lines, Refused};
use crate::value;

const REFUSED: &str = "the Ingress answers 500";
/// So many times the rate may pass at once where nothing is said; that of ingress-nginx.
const BURST_MULTIPLIER: u32 = 5;
const NUMBER_MAX: u32 = 1_000_000;
const MULTIPLIER_MAX: u32 = 1000;
const KEYS_MAX: u32 = 100_000;

/// The limits of one Ingress; `None`: it asks for none.
pub(crate) fn ingress_limits(
    ingress: &Ingress,
    lines: &mut Lines,
) -> Result<Option<Arc<LimitPolicy>>, Refused> {
    let Some(annotations) = &ingress.metadata.annotations else { return Ok(None) };
    let root = Field::root("metadata");
    let notes = Notes { annotations, field: root.key("annotations") };
    let connections = notes.number(api::LIMIT_CONNECTIONS_ANNOTATION, NUMBER_MAX, lines);
    let per_second = notes.number(api::LIMIT_RPS_ANNOTATION, NUMBER_MAX, lines);
    let per_minute = notes.number(api::LIMIT_RPM_ANNOTATION, NUMBER_MAX, lines);
    let multiplier = notes.number(api::LIMIT_BURST_MULTIPLIER_ANNOTATION, MULTIPLIER_MAX, lines);
    let except = notes.allowlist(lines);
    let (connections, per_second, per_minute) = (connections?, per_second?, per_minute?);
    let (multiplier, except) = (multiplier?.unwrap_or(BURST_MULTIPLIER), except?);
    let when =
        (!except.is_empty()).then(|| LimitWhen { matches: vec![everything()], except, claims: Vec::new() });
    let limit = |name: &str| Limit {
        name: name.into(),
        when: when.clone(),
        keys: vec![LimitKey::ClientIp {
            ipv4_prefix: api::LimitKey::IPV4_PREFIX_DEFAULT,
            ipv6_prefix: api::LimitKey::IPV6_PREFIX_DEFAULT,
        }],
        rates: Vec::new(),
        cost: LimitCost::default(),
        concurrency: None,
        keys_max: KEYS_MAX,
        mode: LimitMode::Enforce,
        phase: LimitPhase::PreAuth,
    };
    let rated = |name, requests: u32, per| {
        let burst = requests.saturating_mul(multiplier);
        Limit { rates: vec![Rate { requests, per, burst, counting: RateCounting::Gcra }], ..limit(name) }
    };
    let mut limits = Vec::new();
    limits.extend(connections.map(|max| Limit {
        concurrency: Some(Concurrency { max, queue: 0, queue_timeout: Duration::from_secs(1) }),
        ..limit("connections")
    }));
    limits.extend(per_second.map(|requests| rated("rps", requests, Duration::from_secs(1))));
    limits.extend(per_minute.map(|requests| rated("rpm", requests, Duration::from_mins(1))));
    Ok((!limits.is_empty()).then(|| {
        Arc::new(LimitPolicy {
            source: lines.object().clone(),
            counter_scope: CounterScope::Target,
            headers: LimitHeaders::Standard,
            answer: None,
            limits,
        })
    }))
}

/// Puts them on a route, before those of policies.
pub(crate) fn own(route: &mut Route, limits: &Result<Option<Arc<LimitPolicy>>, Refused>) {
    match limits {
        Ok(limits) => route.limits.splice(0..0, limits.clone()).for_each(drop),
        Err(Refused) if matches!(route.action, Action::Fail(_)) => {}
        Err(Refused) => route.action = Action::Fail(FailReason::InvalidLimit),
    }
}

impl Notes<'_> {
    fn number(&self, name: &str, max: u32, lines: &mut Lines) -> Result<Option<u32>, Refused> {
        let Some(text) = self.annotations.get(name) else { return Ok(None) };
        match text.trim().parse::<u32>() {
            Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => {
                let message = format!("'{text}' is no number from 1 to {max}; {REFUSED}");
                Err(lines.error(self.field.quoted(name), message, "write a number, or remove the annotation"))
            }
        }
    }

    fn allowlist(&self, lines: &mut Lines) -> Result<Vec<IpNet>, Refused> {
        let name = api::LIMIT_ALLOWLIST_ANNOTATION;
        let Some(text) = self.annotations.get(name) else { return Ok(Vec::new()) };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        value::networks(&parts, self.field.quoted(name), lines)
    }
}
