//! RateLimitPolicies. One bad limit refuses its policy, and its targets fail closed: fewer limits than were asked for
//! would be open.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::{LimitKeyType, RateLimitPolicy, RateLimitPolicySpec, TargetKind};
use http::HeaderValue;
use ir::{
    Concurrency, CounterScope, FailReason, HeaderMatch, Kind, Limit, LimitAnswer, LimitBody, LimitCost,
    LimitHeaders, LimitKey, LimitMode, LimitPhase, LimitPolicy, LimitWhen, Match, OnMissing, Rate,
    RateCounting,
};

use crate::attach::{Effect, Target};
use crate::auth::claim_condition;
use crate::matches::{everything, path_match, value_match};
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::value;

/// How many rates a limit may have.
const RATES_MAX: usize = 4;
/// 31 days.
const PER_MAX: Duration = Duration::from_hours(744);
const PER_MIN: Duration = Duration::from_secs(1);
const DAY_S: u64 = 24 * 3600;
const QUEUE_MAX: u32 = 1000;
const QUEUE_TIMEOUT_MIN: Duration = Duration::from_millis(1);
const QUEUE_TIMEOUT_MAX: Duration = Duration::from_mins(1);
const REFUSED: &str = "the policy's targets answer 500";

/// What a RateLimitPolicy is attached to.
pub(crate) fn targets(policy: &RateLimitPolicy) -> Vec<Target> {
    target_list(&policy.spec.target_refs)
}

/// The targets of any policy.
pub(crate) fn target_list(refs: &[api::TargetRef]) -> Vec<Target> {
    let target = |target: &api::TargetRef| Target {
        kind: Some(match target.kind {
            TargetKind::GatewayRoute => Kind::GatewayRoute,
            TargetKind::Ingress => Kind::Ingress,
        }),
        name: target.name.clone(),
        section: target.section_name.as_deref().map(Arc::from),
    };
    refs.iter().map(target).collect()
}

/// What a RateLimitPolicy does. Needs no other object.
pub(crate) fn effect(policy: &RateLimitPolicy, _: &mut Reader<'_>, lines: &mut Lines) -> Effect {
    let answer = answer(&policy.spec.response, lines);
    match limits(&policy.spec, lines).and_then(|limits| Ok((limits, answer?))) {
        Ok((limits, answer)) => Effect::Limit(Arc::new(LimitPolicy {
            source: lines.object().clone(),
            counter_scope: match policy.spec.counter_scope {
                api::CounterScope::PerPolicy => CounterScope::Policy,
                api::CounterScope::PerTarget => CounterScope::Target,
                api::CounterScope::PerRule => CounterScope::Rule,
            },
            headers: match policy.spec.response.headers {
                api::LimitHeaders::Standard => LimitHeaders::Standard,
                api::LimitHeaders::Legacy => LimitHeaders::Legacy,
                api::LimitHeaders::None => LimitHeaders::None,
            },
            answer,
            limits,
        })),
        Err(Refused) => Effect::Fail(FailReason::InvalidLimit),
    }
}

/// Those that are asked; the others are looked at, too.
fn limits(spec: &RateLimitPolicySpec, lines: &mut Lines) -> Result<Vec<Limit>, Refused> {
    let root = Field::root("spec");
    let field = root.key("limits");
    if spec.limits.is_empty() {
        return Err(lines.error(field, "the policy has no limit; its targets answer 500", "add a limit"));
    }
    let mut names = HashSet::new();
    let limits = value::all(&spec.limits, field, |one, field| {
        if !names.insert(one.name.as_str()) {
            let message = format!("the limit '{}' stands twice; the policy's targets answer 500", one.name);
            return Err(lines.error(field.key("name"), message, "give it another name"));
        }
        limit(one, spec.mode, field, lines)
    });
    Ok(limits?.into_iter().flatten().collect())
}

fn limit(
    spec: &api::Limit,
    policy_mode: api::LimitMode,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Option<Limit>, Refused> {
    let when = spec.when.as_ref().map(|spec| when(spec, field.key("when"), lines)).transpose();
    let keys = value::all(&spec.keys, field.key("keys"), |spec, field| key(spec, field, lines));
    let rates_field = field.key("rates");
    let rates = value::all(&spec.rates, rates_field, |rate_spec, field| {
        rate(rate_spec, spec.algorithm, field, lines)
    });
    let concurrency = concurrency(spec, field, lines)?;
    if spec.rates.is_empty() == concurrency.is_none() || spec.rates.len() > RATES_MAX {
        let message = format!("a limit has 1 to {RATES_MAX} rates or concurrency; {REFUSED}");
        return Err(lines.error(rates_field, message, "write 1 to 4 rates, or concurrency and no rates"));
    }
    let (when, keys, rates) = (when?, keys?, rates?);
    let cost = cost(spec.cost.as_ref(), &rates, field.key("cost"), lines)?;
    let needs_identity = keys.iter().any(LimitKey::needs_identity)
        || when.as_ref().is_some_and(|when| !when.claims.is_empty());
    let phase = phase(spec.phase, needs_identity, field, lines)?;
    let mode = match (policy_mode, spec.mode.unwrap_or(policy_mode)) {
        (api::LimitMode::Disabled, _) | (_, api::LimitMode::Disabled) => return Ok(None),
        (_, api::LimitMode::Enforce) => LimitMode::Enforce,
        (_, api::LimitMode::Shadow) => LimitMode::Shadow,
    };
    let name = spec.name.as_str().into();
    let keys_max = spec.max_keys.max(1);
    Ok(Some(Limit { name, when, keys, rates, cost, concurrency, keys_max, mode, phase }))
}

/// `None`: as always.
fn answer(spec: &api::LimitResponse, lines: &mut Lines) -> Result<Option<Arc<LimitAnswer>>, Refused> {
    let (root, status) = (Field::root("spec"), spec.status_code);
    let field = root.key("response");
    if !(400..=599).contains(&status) {
        let message = format!("{status} is no status of a refusal; {REFUSED}");
        return Err(lines.error(field.key("statusCode"), message, "write 400 to 599"));
    }
    let body_field = field.key("body");
    let body = match &spec.body {
        None if status == 429 => return Ok(None),
        None => None,
        Some(api::LimitBody { content_type, text: Some(text) }) => {
            if HeaderValue::from_str(content_type).is_err() {
                let message = format!("the content type is no value of a header; {REFUSED}");
                return Err(lines.error(body_field.key("contentType"), message, "write one like text/plain"));
            }
            Some(LimitBody::Text { content_type: content_type.as_str().into(), text: text.as_str().into() })
        }
        Some(api::LimitBody { content_type, text: None }) => match content_type.as_str() {
            "application/problem+json" => Some(LimitBody::Problem { is_json: true }),
            "text/plain" => Some(LimitBody::Problem { is_json: false }),
            _ => {
                let message = format!("the gateway has no body of that type; {REFUSED}");
                let remedy = "add text, or write application/problem+json or text/plain";
                return Err(lines.error(body_field.key("contentType"), message, remedy));
            }
        },
    };
    Ok(Some(Arc::new(LimitAnswer { status, body })))
}

fn concurrency(
    spec: &api::Limit,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Option<Concurrency>, Refused> {
    let Some(api::Concurrency { max, queue, queue_timeout }) = &spec.concurrency else { return Ok(None) };
    let field = field.key("concurrency");
    if spec.cost.is_some() {
        let message = format!("a request in flight has no cost; {REFUSED}");
        return Err(lines.error(field, message, "remove cost or concurrency"));
    }
    if *max == 0 || *queue > QUEUE_MAX {
        let message = format!("so many cannot be in flight or wait; {REFUSED}");
        return Err(lines.error(field, message, "write a max of at least 1 and a queue of at most 1000"));
    }
    if !(QUEUE_TIMEOUT_MIN..=QUEUE_TIMEOUT_MAX).contains(&queue_timeout.get()) {
        let message = format!("nobody can wait for {queue_timeout}; {REFUSED}");
        return Err(lines.error(field.key("queueTimeout"), message, "write 1ms to 1m"));
    }
    Ok(Some(Concurrency { max: *max, queue: *queue, queue_timeout: queue_timeout.get() }))
}

fn cost(
    spec: Option<&api::LimitCost>,
    rates: &[Rate],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<LimitCost, Refused> {
    let Some(spec) = spec else { return Ok(LimitCost::default()) };
    let name = spec.response_header.as_deref();
    let response_header =
        name.map(|name| value::header_name(name, field.key("responseHeader"), lines)).transpose()?;
    if spec.request == 0 && response_header.is_none() {
        let message = format!("a request that costs nothing is not limited; {REFUSED}");
        return Err(lines.error(field.key("request"), message, "raise it or add responseHeader"));
    }
    let at_once = rates.iter().filter(|rate| rate.requests > 0).map(|rate| match rate.counting {
        RateCounting::Gcra => rate.burst,
        RateCounting::SlidingWindow | RateCounting::Calendar => rate.requests,
    });
    if at_once.min().is_some_and(|least| spec.request > least) {
        let message = format!("no request of this cost ever passes; {REFUSED}");
        let remedy = "lower it, or raise the burst or the requests of the rates";
        return Err(lines.error(field.key("request"), message, remedy));
    }
    Ok(LimitCost { request: spec.request, response_header })
}

fn phase(
    spec: api::LimitPhase,
    needs_identity: bool,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<LimitPhase, Refused> {
    match (spec, needs_identity) {
        (api::LimitPhase::PreAuth, true) => {
            let message = format!("claims and API keys are known after authentication only; {REFUSED}");
            Err(lines.error(field.key("phase"), message, "remove phase or write PostAuth"))
        }
        (api::LimitPhase::PostAuth, _) | (api::LimitPhase::Auto, true) => Ok(LimitPhase::PostAuth),
        (api::LimitPhase::PreAuth | api::LimitPhase::Auto, false) => Ok(LimitPhase::PreAuth),
    }
}

fn when(spec: &api::LimitWhen, field: Field<'_>, lines: &mut Lines) -> Result<LimitWhen, Refused> {
    let methods = value::methods(&spec.methods, field.key("methods"), lines);
    let paths =
        value::all(&spec.paths, field.key("paths"), |spec, field| path_match(spec, REFUSED, field, lines));
    let headers = value::all(&spec.headers, field.key("headers"), |spec, field| {
        let name = value::header_name(&spec.name, field.key("name"), lines);
        let value = value_match((spec.kind, spec.value.as_deref()), REFUSED, field, lines);
        Ok(HeaderMatch { name: name?, value: value? })
    });
    let client_cidrs = value::networks(&spec.client_cidrs, field.key("clientCIDRs"), lines);
    let except = value::networks(&spec.except_client_cidrs, field.key("exceptClientCIDRs"), lines);
    let claims =
        value::all(&spec.claims, field.key("claims"), |spec, field| claim_condition(spec, field, lines));
    let all = Match { methods: methods?, headers: headers?, client_cidrs: client_cidrs?, ..everything() };
    let mut matches: Vec<Match> = paths?.into_iter().map(|path| Match { path, ..all.clone() }).collect();
    if matches.is_empty() {
        matches.push(all);
    }
    Ok(LimitWhen { matches, except: except?, claims: claims? })
}

fn key(spec: &api::LimitKey, field: Field<'_>, lines: &mut Lines) -> Result<LimitKey, Refused> {
    let on_missing = |default| match spec.on_missing {
        None => default,
        Some(api::OnMissing::Skip) => OnMissing::Skip,
        Some(api::OnMissing::Shared) => OnMissing::Shared,
        Some(api::OnMissing::Reject) => OnMissing::Reject,
        Some(api::OnMissing::UseClientIp) => OnMissing::UseClientIp,
    };
    Ok(match spec.kind {
        LimitKeyType::ClientIp => {
            let ipv4_prefix = spec.ipv4_prefix.unwrap_or(api::LimitKey::IPV4_PREFIX_DEFAULT);
            let ipv6_prefix = spec.ipv6_prefix.unwrap_or(api::LimitKey::IPV6_PREFIX_DEFAULT);
            if ipv4_prefix > 32 || ipv6_prefix > 128 {
                let message = "a prefix is longer than its address; the policy's targets answer 500";
                return Err(lines.error(
                    field,
                    message,
                    "write ipv4Prefix up to 32 and ipv6Prefix up to 128",
                ));
            }
            LimitKey::ClientIp { ipv4_prefix, ipv6_prefix }
        }
        LimitKeyType::Header => {
            let name = value::header_name(name(spec, field, lines)?, field.key("name"), lines)?;
            LimitKey::Header { name, on_missing: on_missing(OnMissing::Shared) }
        }
        LimitKeyType::Cookie => LimitKey::Cookie {
            name: name(spec, field, lines)?.into(),
            on_missing: on_missing(OnMissing::Shared),
        },
        LimitKeyType::QueryParam => LimitKey::QueryParam {
            name: name(spec, field, lines)?.into(),
            on_missing: on_missing(OnMissing::Shared),
        },
        LimitKeyType::RouteRule => LimitKey::RouteRule,
        LimitKeyType::Path => LimitKey::Path,
        LimitKeyType::Host => LimitKey::Host,
        LimitKeyType::Method => LimitKey::Method,
        LimitKeyType::JwtClaim => {
            let Some(claim) = &spec.claim else {
                let message = "a JWTClaim key needs a claim; the policy's targets answer 500";
                return Err(lines.error(field.key("claim"), message, "add claim"));
            };
            value::claim_path(claim, field.key("claim"), lines)?;
            LimitKey::JwtClaim {
                provider: spec.provider.as_deref().map(Arc::from),
                claim: claim.as_str().into(),
                on_missing: on_missing(OnMissing::UseClientIp),
            }
        }
        LimitKeyType::ApiKeyClient => {
            LimitKey::ApiKeyClient { on_missing: on_missing(OnMissing::UseClientIp) }
        }
    })
}

fn name<'s>(spec: &'s api::LimitKey, field: Field<'_>, lines: &mut Lines) -> Result<&'s str, Refused> {
    spec.name.as_deref().ok_or_else(|| {
        let message = format!("a {:?} key needs a name; {REFUSED}", spec.kind);
        lines.error(field.key("name"), message, "add name")
    })
}

fn rate(
    spec: &api::Rate,
    algorithm: api::LimitAlgorithm,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Rate, Refused> {
    let per = spec.per.get();
    if !(PER_MIN..=PER_MAX).contains(&per) {
        let message = format!("a rate per {} cannot be kept; the policy's targets answer 500", spec.per);
        return Err(lines.error(field.key("per"), message, "write 1s to 744h"));
    }
    let counting = match (spec.calendar, algorithm) {
        (true, _) => RateCounting::Calendar,
        (false, api::LimitAlgorithm::SlidingWindow) => RateCounting::SlidingWindow,
        (false, api::LimitAlgorithm::Gcra) => RateCounting::Gcra,
    };
    if counting == RateCounting::Calendar && !is_of_calendar(per) {
        let message = format!("the calendar has no spans of {}; {REFUSED}", spec.per);
        let remedy = "write a per that divides a day into equal parts (1m, 1h, 24h …), or 168h for weeks";
        return Err(lines.error(field.key("per"), message, remedy));
    }
    if !counting.is_gcra() && spec.burst.is_some() {
        let message = format!("only a rate of GCRA has a burst; {REFUSED}");
        return Err(lines.error(field.key("burst"), message, "remove burst"));
    }
    // No request passes a rate of 0, so that its burst means nothing.
    let burst = spec.burst.unwrap_or(spec.requests.max(1));
    if burst == 0 {
        let message = "a burst that lets nothing through is no limit; the policy's targets answer 500";
        let remedy = "write at least 1, or requests: 0 to refuse every request";
        return Err(lines.error(field.key("burst"), message, remedy));
    }
    Ok(Rate { requests: spec.requests, per, burst, counting })
}

/// Whether spans of this length begin anew with each day, or with each week.
fn is_of_calendar(per: Duration) -> bool {
    let seconds = per.as_secs();
    per.subsec_nanos() == 0 && seconds > 0 && (DAY_S.is_multiple_of(seconds) || seconds == 7 * DAY_S)
}
