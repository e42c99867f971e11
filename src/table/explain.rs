//! Explains a decision: the winner with all that it does, and why every other route lost. Must not decide: winner,
//! order and conditions are those of [`Table::walk`], the same that [`Table::decide`] takes.

mod balance;
mod external;
mod extras;
mod health;
mod limit;
mod policy;
mod text;

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;
use std::ops::ControlFlow;

use hashbrown::HashMap;
use serde::Serialize;

use crate::condition::Failing;
use crate::head::RequestHead;
use crate::index::PathLevel;
use crate::passed::PassedThrough;
use crate::precedence;
use crate::route::{CompiledRoute, RouteSlot};
use crate::table::{Candidate, Place, Table};

pub use limit::LimitKeys;
pub(crate) use policy::protocol_text;
pub use policy::{BackendShare, Detail, Spoken, SpokenTls, Step};
pub(crate) use text::{conditions, path_text};

/// Why a request goes where it goes. Serialises as `explain -o json` shows it; `Display` is the text for people.
/// Names no secret: no value of the request's headers, no key, no body and no value of a header that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub request: ExplainedRequest,
    /// What becomes of the host's connections with TLS. Then the rest holds for requests without.
    #[serde(rename = "passedThrough", skip_serializing_if = "Option::is_none")]
    pub passed_through: Option<PassedThrough>,
    pub winner: Option<Winner>,
    /// Those that came nearest first.
    pub losers: Vec<Loser>,
}

/// The request as it was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedRequest {
    pub method: String,
    pub host: String,
    pub path: String,
    pub client: IpAddr,
}

/// The route that takes the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Winner {
    /// `namespace/name/rule`
    pub route: String,
    pub object: ir::ObjectRef,
    /// The match that took it.
    pub r#match: String,
    /// What is done to the request and its answer, in the order of the pipeline.
    pub filters: Vec<Step>,
    /// What may refuse the request, in the order of the pipeline.
    pub policies: Vec<Step>,
    /// What names the bucket of each limit.
    pub limit_keys: Vec<LimitKeys>,
    pub backends: Vec<BackendShare>,
}

/// A route that does not take the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loser {
    /// `namespace/name/rule`
    pub route: String,
    /// Begins with the first condition that does not hold (`host`, `path`, `method`, `header x-name`, `query name`,
    /// `cookie name`, `client address`), or with `beaten by`.
    pub reason: String,
}

/// How far a route came; the greatest came furthest.
#[derive(Clone, Copy, Debug)]
enum Progress<'t> {
    Host,
    Path,
    Condition(Candidate<'t>, Failing),
    All(Candidate<'t>),
}

impl Table {
    /// Explains what [`Self::decide`] does with this request.
    pub fn explain(&self, head: &RequestHead<'_>) -> Explanation {
        let winner = self.winner(head);
        // A preflight asks for another request: the others are judged by that one's method.
        let requested_method = head.preflight();
        let judged = &RequestHead { method: requested_method.as_ref().unwrap_or(head.method), ..*head };
        let reached = self.progress(judged);
        let mut losers: Vec<(u8, Loser)> = Vec::new();
        for route in self.compiled_routes() {
            if winner.is_some_and(|winner| winner.entry.route.slot() == route.slot()) {
                continue;
            }
            let progress = reached.get(&route.slot()).copied().unwrap_or(Progress::Host);
            let reason = progress.reason(route, judged, winner);
            losers.push((progress.rank(), Loser { route: route.label().to_string(), reason }));
        }
        // Stable: among equals the order of ids stays.
        losers.sort_by_key(|(rank, _)| Reverse(*rank));
        Explanation {
            request: ExplainedRequest {
                method: head.method.to_string(),
                host: head.host.to_owned(),
                path: head.path.to_owned(),
                client: head.client,
            },
            passed_through: self.passed_through(head.host),
            winner: winner.map(|winner| Winner::new(winner, head)),
            losers: losers.into_iter().map(|(_, loser)| loser).collect(),
        }
    }

    /// How far each route comes whose host fits.
    fn progress(&self, head: &RequestHead<'_>) -> HashMap<RouteSlot, Progress<'_>> {
        let mut reached = HashMap::new();
        let all: ControlFlow<()> = self.walk_hosts(head.host, |_, _, table| {
            for route in table.routes() {
                reached.insert(route.slot(), Progress::Path);
            }
            ControlFlow::Continue(())
        });
        debug_assert!(all.is_continue());
        let all: ControlFlow<()> = self.walk(head, |candidate| {
            if candidate.takes_path(head) {
                let now = match candidate.failing_condition(head, head.method) {
                    Some(failing) => Progress::Condition(candidate, failing),
                    None => Progress::All(candidate),
                };
                let best = reached.entry(candidate.entry.route.slot()).or_insert(Progress::Path);
                if now.is_further_than(best) {
                    *best = now;
                }
            }
            ControlFlow::Continue(())
        });
        debug_assert!(all.is_continue());
        reached
    }
}

impl<'t> Progress<'t> {
    fn rank(&self) -> u8 {
        match self {
            Self::Host => 0,
            Self::Path => 1,
            Self::Condition(..) => 2,
            Self::All(_) => 3,
        }
    }

    /// Of two conditions the later one; of equals the first that was found, which has precedence.
    fn is_further_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Condition(_, a), Self::Condition(_, b)) => a > b,
            _ => self.rank() > other.rank(),
        }
    }

    fn reason(&self, route: &CompiledRoute, head: &RequestHead<'_>, winner: Option<Candidate<'t>>) -> String {
        match self {
            Self::Host => text::host_reason(&route.source),
            Self::Path => text::path_reason(&route.source),
            Self::Condition(candidate, failing) => {
                let ranked = candidate.entry.route.ranked(candidate.entry.match_index);
                ranked
                    .map_or_else(String::new, |ranked| text::condition_reason(ranked.matched, *failing, head))
            }
            Self::All(candidate) => match winner {
                Some(winner) => {
                    format!("beaten by {}: {}", winner.entry.route.label(), why(winner, *candidate))
                }
                None => String::new(),
            },
        }
    }
}

/// What put the winner before another match that takes the request too.
fn why(winner: Candidate<'_>, loser: Candidate<'_>) -> &'static str {
    let (Place { last_resort, host, path }, other) = (winner.place, loser.place);
    if last_resort != other.last_resort {
        return "not a last resort";
    }
    if host != other.host {
        return "more specific host";
    }
    if path != other.path {
        return match path {
            PathLevel::Exact => "exact path",
            PathLevel::Prefix(_) if other.path == PathLevel::Regex => "prefix before regular expression",
            PathLevel::Prefix(_) => "longer prefix",
            PathLevel::Regex => "regular expression",
        };
    }
    match (
        winner.entry.route.ranked(winner.entry.match_index),
        loser.entry.route.ranked(loser.entry.match_index),
    ) {
        (Some(winner), Some(loser)) => precedence::compare(winner, loser).1.as_str(),
        (None, _) | (_, None) => "order",
    }
}

impl Winner {
    fn new(candidate: Candidate<'_>, head: &RequestHead<'_>) -> Self {
        let compiled = &candidate.entry.route;
        let route = &compiled.route;
        let ranked = compiled.ranked(candidate.entry.match_index);
        Self {
            route: compiled.label().to_string(),
            object: route.id.object.clone(),
            r#match: ranked.map_or_else(String::new, |ranked| text::match_text(ranked.matched)),
            filters: policy::filters(compiled),
            policies: policy::policies(route, head),
            limit_keys: limit::limit_keys(route, head),
            backends: policy::backends(route),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExplainedRequest { method, host, path, client } = &self.request;
        writeln!(f, "{method} {host}{path} from {client}")?;
        if let Some(passed) = &self.passed_through {
            writeln!(f, "{passed}\nwithout TLS:")?;
        }
        match &self.winner {
            Some(winner) => winner.fmt(f)?,
            None => writeln!(f, "\nno route takes this request: 404")?,
        }
        if !self.losers.is_empty() {
            writeln!(f, "\nother routes:")?;
        }
        for Loser { route, reason } in &self.losers {
            writeln!(f, "  {route}\n    {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Winner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nroute {} ({})", self.route, self.object)?;
        writeln!(f, "  match: {}", self.r#match)?;
        for (title, steps) in [("policies", &self.policies), ("filters", &self.filters)] {
            if !steps.is_empty() {
                writeln!(f, "  {title}, in order:")?;
            }
            for step in steps {
                writeln!(f, "    {step}")?;
            }
        }
        if !self.limit_keys.is_empty() {
            writeln!(f, "  limit keys:")?;
        }
        for keys in &self.limit_keys {
            writeln!(f, "    {keys}")?;
        }
        if !self.backends.is_empty() {
            writeln!(f, "  backends:")?;
        }
        for backend in &self.backends {
            writeln!(f, "    {backend}")?;
        }
        Ok(())
    }
}
