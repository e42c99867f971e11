//! Requirements on who may pass: `auth` of GatewayRoutes and AuthPolicies. What cannot be built fails closed.

use std::sync::Arc;

use api::AuthPolicy;
use http::header::AUTHORIZATION;
use ir::{
    Auth, AuthMode, Authorization, AuthorizationAction, AuthorizationRule, ClaimCondition, ClaimOperator,
    FailReason, JwtRequirement, TokenSource,
};

use crate::attach::{Effect, Target};
use crate::limit;
use crate::provider::{Providers, providers};
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::value;
use crate::{api_key, basic, external};

/// What an AuthPolicy is attached to.
pub(crate) fn targets(policy: &AuthPolicy) -> Vec<Target> {
    limit::target_list(&policy.spec.target_refs)
}

/// What an AuthPolicy does.
pub(crate) fn effect(policy: &AuthPolicy, reader: &mut Reader<'_>, lines: &mut Lines) -> Effect {
    let root = Field::root("spec");
    let providers = providers(&policy.spec.jwt_providers, root.key("jwtProviders"), reader, lines);
    match requirement(&policy.spec.auth, &providers, root.key("auth"), reader, lines) {
        Ok(Some(auth)) => Effect::Auth(Arc::new(auth)),
        Ok(None) => {
            let message = "a policy cannot be switched off by auth.disabled; its targets answer 500";
            let field = root.key("auth");
            lines.error(field.key("disabled"), message, "remove the policy or auth.disabled");
            Effect::Fail(FailReason::InvalidAuth)
        }
        Err(Refused) => Effect::Fail(FailReason::InvalidAuth),
    }
}

/// One `auth`. `None`: it is disabled.
pub(crate) fn requirement(
    spec: &api::Auth,
    providers: &Providers,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Option<Auth>, Refused> {
    if spec.disabled {
        if spec.jwt.is_some()
            || spec.api_key.is_some()
            || spec.basic.is_some()
            || spec.external.is_some()
            || spec.authorization.is_some()
        {
            let message = "auth is disabled and has requirements at once; it fails closed";
            return Err(lines.error(field.key("disabled"), message, "remove disabled or the requirements"));
        }
        return Ok(None);
    }
    let jwt =
        spec.jwt.as_ref().map(|spec| jwt_requirement(spec, providers, field.key("jwt"), lines)).transpose();
    let keys = spec.api_key.as_ref();
    let keys = keys.map(|spec| api_key::api_keys(spec, field.key("apiKey"), reader, lines)).transpose();
    let basic =
        spec.basic.as_ref().map(|spec| basic::basic(spec, field.key("basic"), reader, lines)).transpose();
    let external = spec.external.as_ref();
    let external =
        external.map(|spec| external::external(spec, field.key("external"), reader, lines)).transpose();
    let authorization = spec
        .authorization
        .as_ref()
        .map(|spec| authorization(spec, providers, field.key("authorization"), lines))
        .transpose();
    let mode = match spec.mode {
        api::AuthMode::All => AuthMode::All,
        api::AuthMode::Any => AuthMode::Any,
    };
    let auth = Auth {
        source: lines.object().clone(),
        mode,
        jwt: jwt?,
        api_key: keys?,
        basic: basic?,
        external: external?,
        authorization: authorization?,
    };
    let methods = [auth.jwt.is_some(), auth.api_key.is_some(), auth.basic.is_some(), auth.external.is_some()];
    if auth.authorization.is_none() && !methods.contains(&true) {
        let message = "auth requires nothing; it fails closed";
        return Err(lines.error(
            field,
            message,
            "add jwt, apiKey, basic, external or authorization, or write disabled: true",
        ));
    }
    if mode == AuthMode::Any && auth.jwt.as_ref().is_some_and(|jwt| jwt.optional) {
        let message = "with mode Any an optional token would let everybody pass; it fails closed";
        return Err(lines.error(field.key("mode"), message, "remove jwt.optional or write mode: All"));
    }
    share_no_header(&auth, field, lines);
    Ok(Some(auth))
}

/// A request has one Authorization header.
fn share_no_header(auth: &Auth, field: Field<'_>, lines: &mut Lines) {
    let is_authorization =
        |source: &TokenSource| matches!(source, TokenSource::Header { name, .. } if *name == AUTHORIZATION);
    let only_there = |jwt: &JwtRequirement| {
        jwt.providers.iter().all(|provider| provider.from.iter().all(is_authorization))
    };
    if auth.mode == AuthMode::All
        && auth.basic.is_some()
        && auth.jwt.as_ref().is_some_and(|jwt| !jwt.optional && only_there(jwt))
    {
        let message =
            "token and password are both needed, and both stand in the Authorization header: nobody passes";
        lines.warning(field.key("mode"), message, "write mode: Any, or take the token from another place");
    }
}

/// A name that no provider has refuses the requirement. A provider that has the name but cannot be used is left out
/// as long as another one is left.
fn jwt_requirement(
    spec: &api::JwtAuth,
    providers: &Providers,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<JwtRequirement, Refused> {
    let field = field.key("providers");
    let found = value::all(&spec.providers, field, |name, field| {
        providers.get(name).ok_or_else(|| unknown_provider(name, field, lines))
    })?;
    let usable: Vec<_> = found.into_iter().flatten().collect();
    if usable.is_empty() {
        let message = "no provider can be used; what needs a token of them answers 500";
        return Err(lines.error(field, message, "correct a provider; its own line says what is wrong"));
    }
    Ok(JwtRequirement { providers: usable, optional: spec.optional })
}

fn unknown_provider(name: &str, field: Field<'_>, lines: &mut Lines) -> Refused {
    let message = format!("there is no provider '{name}' in this object; what needs it answers 500");
    lines.error(field, message, "add it to jwtProviders or correct the name")
}

fn authorization(
    spec: &api::Authorization,
    providers: &Providers,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Authorization, Refused> {
    let field = field.key("rules");
    if spec.rules.is_empty() {
        let message = "the list of authorization rules is empty; it fails closed";
        return Err(lines.error(field, message, "add a rule"));
    }
    let rules = value::all(&spec.rules, field, |rule, field| {
        let claims = value::all(&rule.claims, field.key("claims"), |claim, field| {
            condition(claim, providers, field, lines)
        });
        let methods = value::methods(&rule.methods, field.key("methods"), lines);
        let client_cidrs = value::networks(&rule.client_cidrs, field.key("clientCIDRs"), lines);
        Ok(AuthorizationRule {
            name: rule.name.as_str().into(),
            action: match rule.action {
                api::AuthorizationAction::Allow => AuthorizationAction::Allow,
                api::AuthorizationAction::Deny => AuthorizationAction::Deny,
            },
            claims: claims?,
            methods: methods?,
            client_cidrs: client_cidrs?,
            clients: rule.clients.clone(),
            users: rule.users.clone(),
        })
    })?;
    Ok(Authorization { rules })
}

fn condition(
    spec: &api::ClaimCondition,
    providers: &Providers,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<ClaimCondition, Refused> {
    if let Some(provider) = &spec.provider
        && providers.get(provider).is_none()
    {
        return Err(unknown_provider(provider, field.key("provider"), lines));
    }
    claim_condition(spec, field, lines)
}

/// What a claim must be, of whatever provider.
pub(crate) fn claim_condition(
    spec: &api::ClaimCondition,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<ClaimCondition, Refused> {
    let path = value::claim_path(&spec.claim, field.key("claim"), lines)?;
    let operator = match spec.operator {
        api::ClaimOperator::In => ClaimOperator::In,
        api::ClaimOperator::NotIn => ClaimOperator::NotIn,
        api::ClaimOperator::ContainsAny => ClaimOperator::ContainsAny,
        api::ClaimOperator::ContainsAll => ClaimOperator::ContainsAll,
        api::ClaimOperator::Exists => ClaimOperator::Exists,
    };
    // An empty list would make NotIn and ContainsAll hold for everybody.
    if (operator == ClaimOperator::Exists) != spec.values.is_empty() {
        let message = "Exists takes no values and every other operator needs some; it fails closed";
        return Err(lines.error(field.key("values"), message, "add or remove values"));
    }
    Ok(ClaimCondition {
        provider: spec.provider.as_deref().map(Arc::from),
        path,
        operator,
        values: spec.values.clone(),
    })
}
