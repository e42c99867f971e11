//! The table as a list, most specific first. Must not decide.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use ir::{Action, HostPattern, PathMatch};
use serde::Serialize;

use crate::explain::{conditions, path_text, protocol_text};
use crate::precedence::{self, Ranked};
use crate::table::Table;

/// One match of a route on one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// `*`: every host.
    pub host: String,
    /// Empty where connections are passed through, of which no request is seen.
    pub path: String,
    /// Empty: any.
    pub methods: Vec<String>,
    pub conditions: Vec<String>,
    /// Asked only when nothing else takes a request.
    pub last_resort: bool,
    /// `namespace/name/rule`
    pub route: String,
    pub object: ir::ObjectRef,
    /// `forward`, `redirect 301`, `respond 503`, `fail InvalidRule` or `passthrough`.
    pub action: String,
    /// With weights where there are several, and the protocol where it is not HTTP/1.1 without TLS.
    pub backends: Vec<String>,
}

impl Table {
    /// All routes, most specific first: each match once for each of its hosts, in the order in which a request
    /// that all of them fit would be asked. At the end the hosts whose connections are passed through.
    pub fn routes(&self) -> Vec<RouteRow> {
        let mut all: Vec<(Option<&HostPattern>, Ranked<'_>, &ir::Route)> = Vec::new();
        for compiled in self.compiled_routes() {
            for (matched, match_index) in compiled.source.matches.iter().zip(0..) {
                let ranked = Ranked { route: &compiled.source, matched, match_index };
                if compiled.source.hosts.is_empty() {
                    all.push((None, ranked, &compiled.route));
                }
                all.extend(compiled.source.hosts.iter().map(|host| (Some(host), ranked, &*compiled.route)));
            }
        }
        all.sort_by(|a, b| {
            let last_resort = a.2.last_resort.cmp(&b.2.last_resort);
            last_resort
                .then_with(|| compare_hosts(a.0, b.0))
                .then_with(|| compare_paths(&a.1.matched.path, &b.1.matched.path))
                .then_with(|| precedence::compare(a.1, b.1).0)
        });
        let rows = all.into_iter().map(|(host, ranked, route)| RouteRow::new(host, ranked, route));
        rows.chain(self.passed_rows()).collect()
    }
}

impl RouteRow {
    fn new(host: Option<&HostPattern>, ranked: Ranked<'_>, route: &ir::Route) -> Self {
        Self {
            host: host.map_or_else(|| "*".to_owned(), HostPattern::to_string),
            path: path_text(&ranked.matched.path),
            methods: ranked.matched.methods.iter().map(ToString::to_string).collect(),
            conditions: conditions(ranked.matched),
            last_resort: route.last_resort,
            route: route.id.label(),
            object: route.id.object.clone(),
            action: action_text(&route.action),
            backends: backends_text(&route.action),
        }
    }
}

impl fmt::Display for RouteRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if !self.methods.is_empty() {
            write!(f, " [{}]", self.methods.join(","))?;
        }
        for condition in &self.conditions {
            write!(f, " [{condition}]")?;
        }
        write!(f, " -> {} {}", self.route, self.action)?;
        if !self.backends.is_empty() {
            write!(f, " {}", self.backends.join(", "))?;
        }
        if self.last_resort { f.write_str(" (last resort)") } else { Ok(()) }
    }
}

fn action_text(action: &Action) -> String {
    match action {
        Action::Forward { .. } => "forward".to_owned(),
        Action::Redirect(redirect) => format!("redirect {}", redirect.status),
        Action::Respond(response) => format!("respond {}", response.status),
        Action::Fail(reason) => format!("fail {reason:?}"),
    }
}

fn backends_text(action: &Action) -> Vec<String> {
    let Action::Forward { backends, .. } = action else { return Vec::new() };
    let several = backends.len() > 1;
    let texts = backends.iter().map(|backend| {
        let name = match &backend.target {
            ir::BackendTarget::Backend(id) => id.to_string(),
            ir::BackendTarget::Missing(id) => format!("{id} (missing)"),
        };
        let name = if several { format!("{name}={}", backend.weight) } else { name };
        match protocol_text(&backend.protocol) {
            Some(protocol) => format!("{name} ({protocol})"),
            None => name,
        }
    });
    texts.collect()
}

/// Exact names by name, then wildcards by length, then every host.
fn compare_hosts(a: Option<&HostPattern>, b: Option<&HostPattern>) -> Ordering {
    let key = |host: Option<&'_ HostPattern>| match host {
        Some(HostPattern::Exact(_)) => (0, Reverse(0)),
        Some(HostPattern::Wildcard { suffix, .. }) => (1, Reverse(suffix.as_str().len())),
        None => (2, Reverse(0)),
    };
    let name = |host: Option<&HostPattern>| host.map(HostPattern::to_string);
    key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
}

/// Exact paths, then the longest prefix, then expressions. Different paths of one kind go by their text.
fn compare_paths(a: &PathMatch, b: &PathMatch) -> Ordering {
    let key = |path: &PathMatch| match path {
        PathMatch::Exact { value, .. } => (0, Reverse(0), value.clone()),
        PathMatch::Prefix { value, .. } => (1, Reverse(value.trim_end_matches('/').len()), value.clone()),
        PathMatch::Regex { .. } => (2, Reverse(0), String::new()),
    };
    key(a).cmp(&key(b))
}
