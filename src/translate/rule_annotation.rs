//! Annotations of an Ingress that hold a field of a GatewayRoute's rule, for all of its paths. One that is refused leaves
//! the default in its place, but those that change or refuse requests fail closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::RouteRule;
use ir::{
    Action, ActiveHealth, CircuitBreaker, FailReason, IpAccess, LoadBalancing, PassiveHealth, PathMatch,
    PathRewrite, Retry, Route, RouteExtras, Timeouts,
};
use k8s_openapi::api::networking::v1::Ingress;

use crate::filter::{self, Filters};
use crate::notes::Notes;
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused, ReportLine};
use crate::rule_notes::RuleNotes;
use crate::{balance, gateway_route, grpc_web, health, upstream};

/// What follows of an annotation that only tunes.
const TUNED: &str = "the default holds";
/// What follows of one that must not be left out.
const CLOSED: &str = "the Ingress answers 500";
/// What the findings about a rule say follows.
const OF_RULE: &str = "the rule answers 500";
/// What a rule can do about a backend that does not speak HTTP/2, and what an Ingress can.
const HTTP2_REMEDIES: [(&str, &str); 2] = [
    (
        "write protocol GRPC or GRPCS at the backend",
        "write GRPC or GRPCS into the annotation gateway.baribhara.io/backend-protocol",
    ),
    (
        "set protocol: GRPC (or GRPCS) on the backendRef",
        "write GRPC or GRPCS into the annotation gateway.baribhara.io/backend-protocol",
    ),
];

/// The same for all paths of one Ingress.
#[derive(Debug)]
pub(crate) struct AnnotatedRule {
    /// An annotation that must not be left out is refused.
    is_refused: bool,
    filters: Filters,
    /// A path that is no prefix cannot be served with these filters.
    needs_prefix: bool,
    /// And whether they say `streamIdle`.
    timeouts: Option<(Timeouts, bool)>,
    retry: Retry,
    circuit_breaker: CircuitBreaker,
    passive_health: PassiveHealth,
    active_health: Option<Arc<ActiveHealth>>,
    /// `None`: other annotations say it.
    load_balancing: Option<LoadBalancing>,
    ip_access: IpAccess,
    request_body_bytes_max: Option<u64>,
    /// Of single paths, which many of them share.
    found: Vec<ReportLine>,
}

impl AnnotatedRule {
    pub(crate) fn read(ingress: &Ingress, reader: &mut Reader<'_>, lines: &mut Lines) -> Self {
        let none = BTreeMap::new();
        let annotations = ingress.metadata.annotations.as_ref().unwrap_or(&none);
        let root = Field::root("metadata");
        let notes = Notes { annotations, field: root.key("annotations") };
        let fields = Fields { notes, read: reader.rule_notes(lines.object()).map(Arc::as_ref) };
        let filters = fields.filters(reader, lines);
        let ip_access = fields.get(api::IP_ACCESS_ANNOTATION, CLOSED, lines, |rule, field, lines| {
            rule.ip_access.as_ref().map(|spec| gateway_route::ip_access(spec, field, lines)).transpose()
        });
        let body = fields.get(api::MAX_REQUEST_BODY_ANNOTATION, CLOSED, lines, |rule, _, _| {
            Ok(gateway_route::bytes_max(rule.max_request_body))
        });
        let is_refused = filters.is_err() || ip_access.is_err() || body.is_err();
        let filters = filters.unwrap_or_default();
        let health = fields.tuned(api::HEALTH_CHECK_ANNOTATION, lines, |rule, field, lines| {
            let check = rule.health_check.as_ref();
            Ok((health::passive_health(check), health::active_health(check, field, lines)?))
        });
        let (passive_health, active_health) = health.unwrap_or_default();
        let retry = fields.tuned(api::RETRY_ANNOTATION, lines, |rule, field, lines| {
            upstream::retry(rule.retry.as_ref(), field, lines)
        });
        let circuit_breaker = fields.tuned(api::CIRCUIT_BREAKER_ANNOTATION, lines, |rule, _, _| {
            Ok(rule.circuit_breaker.as_ref().map(upstream::circuit_breaker).unwrap_or_default())
        });
        Self {
            is_refused,
            needs_prefix: replaces_prefix(&filters),
            filters,
            timeouts: fields.timeouts(lines),
            retry: retry.unwrap_or_default(),
            circuit_breaker: circuit_breaker.unwrap_or_default(),
            passive_health,
            active_health,
            load_balancing: fields.load_balancing(lines),
            ip_access: ip_access.ok().flatten().flatten().unwrap_or_default(),
            request_body_bytes_max: body.ok().flatten().flatten(),
            found: Vec::new(),
        }
    }

    /// What the filters do beside sending requests to the backend.
    pub(crate) const fn extras(&self) -> &RouteExtras {
        &self.filters.extras
    }

    /// Puts all but [`Self::extras`] on a route that has its backend.
    pub(crate) fn finish(&mut self, route: &mut Route) {
        if matches!(route.action, Action::Fail(_)) {
            return;
        }
        let is_prefix = |path: &PathMatch| matches!(path, PathMatch::Prefix { .. });
        let fits = !self.needs_prefix || route.matches.iter().all(|one| is_prefix(&one.path));
        let mut found = Lines::new(route.id.object.clone());
        let root = Field::root("metadata");
        let annotations = root.key("annotations");
        if !fits {
            let message =
                "a prefix can only be replaced where a path is one; paths of the type Exact answer 500";
            let remedy = "write the type Prefix, or replace the path by ReplaceFullPath or ReplaceRegex";
            found.error(annotations.quoted(api::FILTERS_ANNOTATION), message, remedy);
        }
        if self.is_refused || !fits {
            route.action = Action::Fail(FailReason::InvalidRule);
        } else {
            self.fill(route, annotations, &mut found);
        }
        self.found.extend(found.into_vec());
    }

    /// Adds what was found about single paths.
    pub(crate) fn say(mut self, lines: &mut Lines) {
        self.found.sort_unstable();
        self.found.dedup();
        lines.append(self.found.into_iter());
    }

    fn fill(&self, route: &mut Route, annotations: Field<'_>, found: &mut Lines) {
        if let Some((timeouts, says_stream_idle)) = &self.timeouts {
            let stream_idle = route.timeouts.stream_idle;
            route.timeouts.clone_from(timeouts);
            if !says_stream_idle {
                route.timeouts.stream_idle = stream_idle;
            }
        }
        route.ip_access.clone_from(&self.ip_access);
        route.request_body_bytes_max = self.request_body_bytes_max;
        route.header_edits.clone_from(&self.filters.header_edits);
        route.cors.clone_from(&self.filters.cors);
        match (&self.filters.redirect, &self.filters.respond) {
            (Some(redirect), _) => route.action = Action::Redirect(redirect.clone()),
            (None, Some(response)) => route.action = Action::Respond(response.clone()),
            (None, None) => self.forward(&mut route.action, annotations, found),
        }
        if self.filters.grpc_web {
            let mut lines = Lines::new(found.object().clone());
            grpc_web::apply(route, annotations.quoted(api::FILTERS_ANNOTATION), &mut lines);
            found.append(said(lines, CLOSED));
        }
    }

    fn forward(&self, action: &mut Action, annotations: Field<'_>, found: &mut Lines) {
        let Action::Forward {
            backends,
            rewrite,
            retry,
            circuit_breaker,
            load_balancing,
            passive_health,
            active_health,
            upgrades: _,
            grpc_web: _,
        } = action
        else {
            return;
        };
        rewrite.clone_from(&self.filters.rewrite);
        retry.clone_from(&self.retry);
        circuit_breaker.clone_from(&self.circuit_breaker);
        *passive_health = Some(self.passive_health);
        if let Some(own) = &self.load_balancing {
            let affinity = load_balancing.affinity.take();
            *load_balancing = LoadBalancing { affinity, ..own.clone() };
        }
        if let Some(active) = &self.active_health {
            let field = annotations.quoted(api::HEALTH_CHECK_ANNOTATION);
            let mut lines = Lines::new(found.object().clone());
            let fits = health::fits_backends(active, backends, field, &mut lines);
            *active_health = fits.is_ok().then(|| Arc::clone(active));
            found.append(said(lines, "such a backend is not checked"));
        }
    }
}

/// The annotations of one Ingress, and what was read of them.
struct Fields<'a> {
    notes: Notes<'a>,
    /// `None`: there is none, or nobody read them.
    read: Option<&'a RuleNotes>,
}

impl Fields<'_> {
    /// What one annotation says; `so` follows where it is refused. `None`: it is not there.
    fn get<T>(
        &self,
        annotation: &'static str,
        so: &str,
        lines: &mut Lines,
        build: impl FnOnce(&RouteRule, Field<'_>, &mut Lines) -> Result<T, Refused>,
    ) -> Result<Option<T>, Refused> {
        let Some((_, field)) = self.notes.get(annotation) else { return Ok(None) };
        let Some(read) = self.read else {
            let message = format!("nobody read the annotation; {so}");
            return Err(lines.error(field, message, "report this as a defect"));
        };
        let mut refused = None;
        for note in read.refused.iter().filter(|note| note.annotation == annotation) {
            let message = format!("{}; {so}", note.message);
            refused = Some(lines.error(field.way(&note.field), message, &note.remedy));
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        let mut found = Lines::new(lines.object().clone());
        let built = build(&read.rule, field, &mut found);
        lines.append(said(found, so).map(|mut line| {
            // What is shared with others says what is wrong, and leaves to them what follows.
            if built.is_err() && line.fault == Some(Fault::Invalid) && !line.message.ends_with(so) {
                line.message = format!("{}; {so}", line.message);
            }
            line
        }));
        built.map(Some)
    }

    /// What one annotation says that only tunes. `None`: the default holds.
    fn tuned<T>(
        &self,
        annotation: &'static str,
        lines: &mut Lines,
        build: impl FnOnce(&RouteRule, Field<'_>, &mut Lines) -> Result<T, Refused>,
    ) -> Option<T> {
        self.get(annotation, TUNED, lines, build).ok().flatten()
    }

    /// A rule that answers by itself has no backends; an Ingress must name some, which are then not asked.
    fn filters(&self, reader: &mut Reader<'_>, lines: &mut Lines) -> Result<Filters, Refused> {
        let filters = self.get(api::FILTERS_ANNOTATION, CLOSED, lines, |rule, field, lines| {
            // Whether a prefix can be replaced is a question to each path.
            let filters = filter::filters(&rule.filters, &[], field, reader, lines)?;
            let answers_itself = filters.redirect.is_some() || filters.respond.is_some();
            if answers_itself && !filters.extras.is_empty() {
                let message =
                    "ErrorPages, RequestMirror and Fault have no effect: the Ingress answers by itself";
                lines.warning(field, message, "remove the filter");
            }
            Ok(filters)
        });
        filters.map(Option::unwrap_or_default)
    }

    /// And whether they say how long streams may be idle, so that the annotation for that has no effect.
    fn timeouts(&self, lines: &mut Lines) -> Option<(Timeouts, bool)> {
        let timeouts = self.tuned(api::TIMEOUTS_ANNOTATION, lines, |rule, field, lines| {
            let spec = rule.timeouts.as_ref();
            let says_stream_idle = spec.is_some_and(|spec| spec.stream_idle.is_some());
            Ok((upstream::timeouts(spec, field, lines)?, says_stream_idle))
        });
        if timeouts.as_ref().is_some_and(|(_, says_stream_idle)| *says_stream_idle) {
            let wins = "streamIdle of 'gateway.baribhara.io/timeouts'";
            self.overruled(api::STREAM_IDLE_TIMEOUT_ANNOTATION, wins, lines);
        }
        timeouts
    }

    fn load_balancing(&self, lines: &mut Lines) -> Option<LoadBalancing> {
        let built = self.get(api::LOAD_BALANCING_ANNOTATION, TUNED, lines, |rule, field, lines| {
            balance::load_balancing(rule.load_balancing.as_ref(), field, lines)
        });
        let load_balancing = built.unwrap_or_else(|Refused| Some(LoadBalancing::default()))?;
        for annotation in [api::LOAD_BALANCE_ANNOTATION, api::UPSTREAM_HASH_BY_ANNOTATION] {
            self.overruled(annotation, "'gateway.baribhara.io/load-balancing'", lines);
        }
        Some(load_balancing)
    }

    fn overruled(&self, annotation: &'static str, by: &str, lines: &mut Lines) {
        if let Some((_, field)) = self.notes.get(annotation) {
            lines.error(field, format!("{by} says it, too, and has the word"), "keep one of them");
        }
    }
}

fn replaces_prefix(filters: &Filters) -> bool {
    let is_prefix = |path: &PathRewrite| match path {
        PathRewrite::ReplacePrefixMatch(_) => true,
        PathRewrite::ReplaceFullPath(_) | PathRewrite::ReplaceRegex { .. } => false,
    };
    let rewrite = filters.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let redirect = filters.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    rewrite.into_iter().chain(redirect).any(is_prefix)
}

/// Findings about a rule as they are so of an Ingress.
fn said(found: Lines, so: &str) -> impl Iterator<Item = ReportLine> {
    found.into_vec().into_iter().map(move |mut line| {
        line.message = line.message.replace(OF_RULE, so);
        for (of_rule, of_ingress) in HTTP2_REMEDIES {
            line.remedy = line.remedy.replace(of_rule, of_ingress);
        }
        line
    })
}
