//! Ingress (networking.k8s.io/v1) into routes: one for each path, and one for the default backend.

use std::sync::Arc;

use ir::{Action, BackendId, FailReason, HostPattern, Match, PathMatch, Route};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressRule};

use crate::annotation::IngressUpstream;
use crate::attach::{self, Attached};
use crate::backend::{self, PortRef};
use crate::external_annotation::ingress_auth;
use crate::ingress_extras::IngressExtras;
use crate::limit_annotation::{self, ingress_limits};
use crate::path::{PATH_REMEDY, PathError, canonical_path, canonical_prefix};
use crate::protocol::Offer;
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::route::{Built, RouteSeed, RuleCount, forward_plainly};
use crate::rule_annotation::AnnotatedRule;
use crate::standing::Extent;
use crate::tls::ingress_tls;

/// The rule name of the default backend.
const DEFAULT_RULE: &str = "default";

/// The class that an Ingress names: the field before the old annotation.
pub(crate) fn class_of(ingress: &Ingress) -> Option<&str> {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    named.or_else(|| {
        ingress
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(api::INGRESS_CLASS_ANNOTATION))
            .map(String::as_str)
    })
}

/// The names of the rules, which policies may target by `sectionName`.
pub(crate) fn has_rule(ingress: &Ingress, section: &str) -> bool {
    let Some(spec) = &ingress.spec else { return false };
    if section == DEFAULT_RULE {
        return spec.default_backend.is_some();
    }
    let paths: usize =
        spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref()).map(|http| http.paths.len()).sum();
    section.parse::<usize>().is_ok_and(|index| index < paths && index.to_string() == section)
}

/// All routes of an Ingress. A part that is wrong stands in `lines` and harms only its own route.
pub(crate) fn ingress_routes(
    ingress: &Ingress,
    attached: &[Attached],
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Built {
    let root = Field::root("spec");
    let Some(spec) = &ingress.spec else {
        lines.warning(root, "the Ingress has no spec and serves nothing", "add rules or a default backend");
        return Built { routes: Vec::new(), tls: Vec::new(), passthrough: None, extent: Extent::Served };
    };
    let seed = RouteSeed::new(lines.object(), &ingress.metadata);
    let mut annotated = AnnotatedRule::read(ingress, reader, lines);
    let mut upstream = IngressUpstream::read(ingress, reader, lines);
    let auth = ingress_auth(ingress, reader, lines);
    let extras = IngressExtras::read(ingress, annotated.extras(), reader, lines);
    let limits = ingress_limits(ingress, lines);
    let mut routes = Vec::new();
    let mut count = RuleCount::default();
    let mut flat_index = 0;
    let mut rule_hosts = Vec::new();
    for (rule_index, rule) in spec.rules.iter().flatten().enumerate() {
        let field = root.key("rules");
        let field = field.index(rule_index);
        let hosts = host_of(rule, field, lines);
        rule_hosts.extend(hosts.iter().flatten().cloned());
        let Some(http) = &rule.http else {
            pathless_rule(spec.default_backend.is_some(), field, lines);
            continue;
        };
        for (path_index, path) in http.paths.iter().enumerate() {
            let index = flat_index;
            flat_index += 1;
            let field = field.key("http");
            let field = field.key("paths");
            let field = field.index(path_index);
            // A path is not looked at under a host that is none.
            let matched = if hosts.is_ok() { path_match(path, field, lines) } else { Err(Refused) };
            let (Ok(hosts), Ok((path_match, sound))) = (&hosts, matched) else {
                count.add(None);
                continue;
            };
            let mut route = seed.route(index.to_string(), index, hosts.clone(), vec![path_only(path_match)]);
            let target = backend_target(&path.backend, field.key("backend"), reader, lines);
            forward(&mut route, target, &mut upstream, &mut annotated);
            if !sound {
                route.action = Action::Fail(FailReason::InvalidRule);
            }
            count.add(Some(&route));
            attach::attach(&mut route, attached);
            routes.push(route);
        }
    }
    if let Some(default) = &spec.default_backend {
        let everything = path_only(PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true });
        let mut route = seed.route(DEFAULT_RULE, flat_index, Vec::new(), vec![everything]);
        route.last_resort = true;
        let target = backend_target(default, root.key("defaultBackend"), reader, lines);
        forward(&mut route, target, &mut upstream, &mut annotated);
        count.add(Some(&route));
        attach::attach(&mut route, attached);
        routes.push(route);
    } else if routes.is_empty() {
        lines.warning(root, "the Ingress serves nothing", "add rules with paths, or a default backend");
    }
    annotated.say(lines);
    let tls = ingress_tls(ingress, seed.created(), &rule_hosts, reader, lines);
    for route in &mut routes {
        attach::own(route, &auth);
        limit_annotation::own(route, &limits);
        extras.finish(route);
        route.tls = tls.of_route(&route.hosts);
    }
    attach::share_identity_headers(&mut routes);
    Built { routes, tls: tls.claims, passthrough: None, extent: count.extent() }
}

fn pathless_rule(has_default: bool, field: Field<'_>, lines: &mut Lines) {
    if has_default {
        lines.info(field, "the rule has no paths: its host is left to the default backend");
    } else {
        lines.warning(
            field,
            "the rule has no paths and there is no default backend: it serves nothing",
            "add paths",
        );
    }
}

/// No host takes every host. A star stands for exactly one label.
fn host_of(rule: &IngressRule, field: Field<'_>, lines: &mut Lines) -> Result<Vec<HostPattern>, Refused> {
    let host = rule.host.as_deref().unwrap_or_default();
    if host.is_empty() {
        return Ok(Vec::new());
    }
    HostPattern::parse(host, true).map(|pattern| vec![pattern]).map_err(|error| {
        let message = format!("'{host}' is no host: {error}; the rule is not served");
        lines.error(field.key("host"), message, "write a name like shop.example.com or *.example.com")
    })
}

/// The second value is false where the path is known but its kind is not: such a route answers 500.
fn path_match(
    path: &HTTPIngressPath,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<(PathMatch, bool), Refused> {
    let text = path.path.as_deref().filter(|text| !text.is_empty()).unwrap_or("/");
    let refuse = |error: PathError, lines: &mut Lines| {
        lines.error(field.key("path"), format!("{error}; the path is not served"), PATH_REMEDY)
    };
    let prefix = |lines: &mut Lines| match canonical_prefix(text) {
        Ok(value) => Ok(PathMatch::Prefix { value, case_sensitive: true }),
        Err(error) => Err(refuse(error, lines)),
    };
    match path.path_type.as_str() {
        "Exact" => match canonical_path(text) {
            Ok(value) => Ok((PathMatch::Exact { value, case_sensitive: true }, true)),
            Err(error) => Err(refuse(error, lines)),
        },
        "Prefix" => Ok((prefix(lines)?, true)),
        "ImplementationSpecific" => {
            if text.contains(['*', '(', '[', '^', '$', '|']) {
                let remedy = "use a GatewayRoute with a path of type RegularExpression";
                lines.warning(
                    field.key("path"),
                    "the path looks like a pattern but is taken literally",
                    remedy,
                );
            }
            Ok((prefix(lines)?, true))
        }
        other => {
            let message = format!("'{other}' is no path type; the path answers 500");
            lines.error(field.key("pathType"), message, "write Exact, Prefix or ImplementationSpecific");
            Ok((prefix(lines)?, false))
        }
    }
}

fn path_only(path: PathMatch) -> Match {
    Match {
        path,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cidrs: Vec::new(),
    }
}

type Target = Result<(BackendId, Offer), BackendId>;

/// Sends the route's requests to the only backend, as annotations say.
fn forward(
    route: &mut Route,
    target: Result<Target, Refused>,
    upstream: &mut IngressUpstream,
    annotated: &mut AnnotatedRule,
) {
    route.action = match target {
        Ok(target) => forward_plainly(vec![upstream.backend(target)]),
        Err(Refused) => Action::Fail(FailReason::InvalidRule),
    };
    upstream.finish(route);
    annotated.finish(route);
}

fn backend_target(
    backend: &IngressBackend,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Target, Refused> {
    let Some(service) = &backend.service else {
        let message = if backend.resource.is_some() {
            "resource backends are not supported; requests are answered 500"
        } else {
            "the backend names no Service; requests are answered 500"
        };
        return Err(lines.error(field, message, "name a Service and its port"));
    };
    let field = field.key("service");
    let port = service.port.as_ref();
    let name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
    let number = port.and_then(|port| port.number).filter(|number| *number != 0);
    let port = match (name, number) {
        (Some(name), _) => PortRef::Name(name),
        (None, Some(number)) => match u16::try_from(number) {
            Ok(number) => PortRef::Number(number),
            Err(_) => {
                let message = format!("{number} is no port; requests are answered 500");
                return Err(lines.error(field.key("port"), message, "write a number from 1 to 65535"));
            }
        },
        (None, None) => {
            let message = "the backend names no port; requests are answered 500";
            return Err(lines.error(
                field.key("port"),
                message,
                "write the number or the name of a Service port",
            ));
        }
    };
    let namespace: Arc<str> = Arc::clone(&lines.object().namespace);
    let target = backend::service_target(&namespace, &service.name, port, reader);
    Ok(backend::resolved(target, field, lines))
}
