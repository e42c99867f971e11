//! RateLimitPolicies. One bad limit refuses its policy, and its targets fail closed: fewer limits than were asked for
//! would be open.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::{LimitKeyType, RateLimitPolicy, RateLimitPolicySpec, TargetKind};
use ir::{
    CounterScope, FailReason, HeaderMatch, Kind, Limit, LimitHeaders, LimitKey, LimitMode, LimitPhase,
    LimitPolicy, LimitWhen, Match, OnMissing, Rate, RateCounting,
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
    match limits(&policy.spec, lines) {
        Ok(limits) => Effect::Limit(Arc::new(LimitPolicy {
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
    if spec.rates.is_empty() || spec.rates.len() > RATES_MAX {
        let message = format!("a limit has 1 to {RATES_MAX} rates; the policy's targets answer 500");
        return Err(lines.error(rates_field, message, "write 1 to 4 rates"));
    }
    let (when, keys, rates) = (when?, keys?, rates?);
    let needs_identity = keys.iter().any(LimitKey::needs_identity)
        || when.as_ref().is_some_and(|when| !when.claims.is_empty());
    let phase = phase(spec.phase, needs_identity, field, lines)?;
    let mode = match (policy_mode, spec.mode.unwrap_or(policy_mode)) {
        (api::LimitMode::Disabled, _) | (_, api::LimitMode::Disabled) => return Ok(None),
        (_, api::LimitMode::Enforce) => LimitMode::Enforce,
        (_, api::LimitMode::Shadow) => LimitMode::Shadow,
    };
    let name = spec.name.as_str().into();
    Ok(Some(Limit { name, when, keys, rates, keys_max: spec.max_keys.max(1), mode, phase }))
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
