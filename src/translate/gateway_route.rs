//! GatewayRoute into routes: one for each rule. A bad rule answers 500 and leaves its siblings as they are.

use std::collections::HashSet;

use api::{GatewayRoute, GatewayRouteSpec, RouteDefaults, RouteRule};
use ir::{Action, Auth, Cors, FailReason, HostPattern, IpAccess, Route, Timeouts};

use crate::affinity::{self, SealMaterial};
use crate::attach::{self, Attached};
use crate::provider::{Providers, providers};
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::route::{Built, RouteSeed, RuleCount};
use crate::tls::gateway_route_tls;
use crate::{auth, cors, filter, grpc_web, matches, passthrough, upstream, value};

/// The class that a GatewayRoute names.
pub(crate) fn class_of(route: &GatewayRoute) -> Option<&str> {
    route.spec.ingress_class_name.as_deref()
}

/// Whether a policy's `sectionName` names a rule.
pub(crate) fn has_rule(route: &GatewayRoute, section: &str) -> bool {
    route.spec.rules.iter().enumerate().any(|(index, rule)| rule_name(rule, index) == section)
}

/// All routes of a GatewayRoute.
pub(crate) fn gateway_routes(
    object: &GatewayRoute,
    attached: &[Attached],
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Built {
    let spec = &object.spec;
    let root = Field::root("spec");
    let Ok(hosts) = hosts(spec, root.key("hostnames"), lines) else { return Built::refused() };
    if passthrough::is_asked_for(spec) {
        return passthrough::gateway_route(object, hosts, attached, reader, lines);
    }
    let providers = providers(&spec.jwt_providers, root.key("jwtProviders"), reader, lines);
    let defaults = Defaults::read(spec.defaults.as_ref(), &providers, root.key("defaults"), reader, lines);
    let seed = RouteSeed::new(lines.object(), &object.metadata);
    let tls = gateway_route_tls(spec, &hosts, seed.created(), reader, lines);
    let (claim, route_tls) = tls.unzip();
    let has_sessions = spec.rules.iter().any(|rule| rule.affinity.is_some());
    let seal = has_sessions.then(|| SealMaterial::read(&object.metadata, reader, lines));
    let context = RuleContext { seed, hosts, providers, defaults, seal };
    let mut names = HashSet::new();
    let mut count = RuleCount::default();
    let mut routes = Vec::with_capacity(spec.rules.len());
    let rules = root.key("rules");
    if spec.rules.is_empty() {
        lines.warning(rules, "the GatewayRoute has no rule and serves nothing", "add a rule");
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        let field = rules.index(index);
        let rule = Rule { index, spec: rule, field };
        let Some(mut route) = context.route(&rule, reader, lines) else {
            count.add(None);
            continue;
        };
        let twice = !names.insert(route.id.rule.clone());
        if twice {
            let message = format!("the rule '{}' stands twice; this one answers 500", route.id.rule);
            lines.error(field.key("name"), message, "give it another name");
            route.action = Action::Fail(FailReason::InvalidRule);
        }
        count.add(Some(&route));
        route.tls.clone_from(&route_tls);
        attach::attach(&mut route, attached);
        if twice {
            route.id.rule = format!("{}#{index}", route.id.rule).into();
        }
        routes.push(route);
    }
    attach::share_identity_headers(&mut routes);
    Built { routes, tls: claim.into_iter().collect(), passthrough: None, extent: count.extent() }
}

/// One rule and where it stands.
struct Rule<'a> {
    index: usize,
    spec: &'a RouteRule,
    field: Field<'a>,
}

/// What is the same for all rules of one object.
struct RuleContext {
    seed: RouteSeed,
    hosts: Vec<HostPattern>,
    providers: Providers,
    defaults: Defaults,
    /// Where a rule has sessions.
    seal: Option<SealMaterial>,
}

/// What rules take that do not say it themselves. A bad part harms only the rules that take it.
struct Defaults {
    timeouts: Result<Timeouts, Refused>,
    cors: Result<Option<Cors>, Refused>,
    ip_access: Result<IpAccess, Refused>,
    auth: Result<Option<Auth>, Refused>,
    request_body_bytes_max: Option<u64>,
}

impl Defaults {
    fn read(
        spec: Option<&RouteDefaults>,
        providers: &Providers,
        field: Field<'_>,
        reader: &mut Reader<'_>,
        lines: &mut Lines,
    ) -> Self {
        let none = RouteDefaults::default();
        let spec = spec.unwrap_or(&none);
        Self {
            timeouts: upstream::timeouts(spec.timeouts.as_ref(), field.key("timeouts"), lines),
            cors: spec.cors.as_ref().map(|spec| cors::cors(spec, field.key("cors"), lines)).transpose(),
            ip_access: spec
                .ip_access
                .as_ref()
                .map_or(Ok(IpAccess::default()), |spec| ip_access(spec, field.key("ipAccess"), lines)),
            auth: match &spec.auth {
                Some(spec) => auth::requirement(spec, providers, field.key("auth"), reader, lines),
                None => Ok(None),
            },
            request_body_bytes_max: bytes_max(spec.max_request_body),
        }
    }
}

impl RuleContext {
    /// `None`: nothing is known of what the rule takes, so that it cannot even answer 500.
    fn route(&self, rule: &Rule<'_>, reader: &mut Reader<'_>, lines: &mut Lines) -> Option<Route> {
        let Rule { index, spec, field } = *rule;
        let matches = matches::matches(&spec.matches, field.key("matches"), lines);
        if matches.matches.is_empty() {
            let message = "the rule has no match that can be served, so it serves nothing";
            lines.error(field.key("matches"), message, "correct a match");
            return None;
        }
        let mut route = self.seed.route(rule_name(spec, index), index, self.hosts.clone(), matches.matches);
        let auth = match &spec.auth {
            Some(spec) => auth::requirement(spec, &self.providers, field.key("auth"), reader, lines),
            None => self.defaults.auth.clone(),
        };
        let built = self.fill(&mut route, rule, reader, lines);
        match auth {
            Ok(auth) => route.auth.extend(auth),
            Err(Refused) => route.action = Action::Fail(FailReason::InvalidAuth),
        }
        if built.is_err() || !matches.sound {
            route.action = Action::Fail(FailReason::InvalidRule);
        }
        Some(route)
    }

    /// Everything but `auth`.
    fn fill(
        &self,
        route: &mut Route,
        rule: &Rule<'_>,
        reader: &mut Reader<'_>,
        lines: &mut Lines,
    ) -> Result<(), Refused> {
        let field = rule.field;
        let rule = rule.spec;
        let filters = filter::filters(&rule.filters, &route.matches, field.key("filters"), reader, lines);
        let timeouts = match &rule.timeouts {
            Some(spec) => upstream::timeouts(Some(spec), field.key("timeouts"), lines),
            None => self.defaults.timeouts.clone(),
        };
        let ip_access = match &rule.ip_access {
            Some(spec) => ip_access(spec, field.key("ipAccess"), lines),
            None => self.defaults.ip_access.clone(),
        };
        route.request_body_bytes_max = match rule.max_request_body {
            Some(quantity) => bytes_max(Some(quantity)),
            None => self.defaults.request_body_bytes_max,
        };
        // The filters say whether a rule needs backends, so a rule whose filters are bad says nothing of them.
        let filters = filters?;
        let answers_itself = filters.redirect.is_some() || filters.respond.is_some();
        if answers_itself && !rule.backend_refs.is_empty() {
            let message = "the rule answers by itself and has backends at once; it answers 500";
            return Err(lines.error(field.key("backendRefs"), message, "remove backendRefs or the filter"));
        }
        route.action = match (filters.redirect, filters.respond) {
            (Some(redirect), _) => Action::Redirect(redirect),
            (None, Some(response)) => Action::Respond(response),
            (None, None) => upstream::forward(rule, filters.rewrite, field, reader, lines)?,
        };
        if let (Action::Forward { load_balancing, .. }, Some(seal)) = (&mut route.action, &self.seal) {
            let affinity = affinity::affinity(rule, (&route.id, seal), field, lines)?;
            load_balancing.affinity = affinity.map(Box::new);
        }
        route.header_edits = filters.header_edits;
        route.cors = match filters.cors {
            Some(cors) => Some(cors),
            None => self.defaults.cors.clone()?,
        };
        if filters.grpc_web {
            grpc_web::apply(route, field.key("filters"), lines);
        }
        if !filters.extras.is_empty() {
            if let Action::Forward { .. } = route.action {
                route.extras = Some(Box::new(filters.extras));
            } else {
                let message =
                    "ErrorPages, RequestMirror and Fault have no effect: the rule answers by itself";
                lines.warning(field.key("filters"), message, "remove the filter");
            }
        }
        route.ip_access = ip_access?;
        route.timeouts = timeouts?;
        Ok(())
    }
}

/// The rule's name, or its index where it has none.
pub(crate) fn rule_name(rule: &RouteRule, index: usize) -> String {
    if rule.name.is_empty() { index.to_string() } else { rule.name.clone() }
}

/// A bad host is left out. Where all are bad nothing is served: no host at all would mean every host.
fn hosts(spec: &GatewayRouteSpec, field: Field<'_>, lines: &mut Lines) -> Result<Vec<HostPattern>, Refused> {
    let mut hosts = Vec::with_capacity(spec.hostnames.len());
    for (index, text) in spec.hostnames.iter().enumerate() {
        match HostPattern::parse(text, false) {
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => hosts.push(host),
            Err(error) => {
                let message = format!("'{text}' is no host: {error}; it is not served");
                lines.error(
                    field.index(index),
                    message,
                    "write a name like shop.example.com or *.example.com",
                );
            }
        }
    }
    if hosts.is_empty() && !spec.hostnames.is_empty() {
        return Err(lines.error(field, "no host is left, so that nothing is served", "correct a host name"));
    }
    Ok(hosts)
}

/// Which client addresses may pass.
pub(crate) fn ip_access(
    spec: &api::IpAccess,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<IpAccess, Refused> {
    let allow = value::networks(&spec.allow, field.key("allow"), lines);
    let deny = value::networks(&spec.deny, field.key("deny"), lines);
    Ok(IpAccess { allow: allow?, deny: deny? })
}

/// Zero means unlimited.
pub(crate) fn bytes_max(quantity: Option<api::ByteQuantity>) -> Option<u64> {
    quantity.map(api::ByteQuantity::bytes).filter(|bytes| *bytes != 0)
}
