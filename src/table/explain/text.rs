//! Puts matches and their conditions into words. Must not compare anything, and must not print what may be secret.

use ir::{HostPattern, Match, PathMatch, ValueMatch};

use crate::condition::Failing;
use crate::head::RequestHead;

/// Headers whose wanted value may be a credential.
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token"];

pub(super) fn host_reason(route: &ir::Route) -> String {
    format!("host: takes {}", joined(route.hosts.iter().map(HostPattern::to_string)))
}

pub(super) fn path_reason(route: &ir::Route) -> String {
    format!("path: takes {}", joined(route.matches.iter().map(|matched| path_text(&matched.path))))
}

/// Begins with the kind and name of the condition. Names what is wanted, never what the request has: that may be
/// a credential. The method and the address are shown, they are in the request line of the explanation anyway.
pub(super) fn condition_reason(matched: &Match, failing: Failing, head: &RequestHead<'_>) -> String {
    match failing {
        Failing::Method => {
            format!(
                "method: {} is not {}",
                head.method,
                joined(matched.methods.iter().map(ToString::to_string))
            )
        }
        Failing::Header(place) => matched.headers.get(place).map_or_else(String::new, |header| {
            format!("header {}: must be {}", header.name, wanted(header.name.as_str(), &header.value))
        }),
        Failing::Query(place) => matched.query.get(place).map_or_else(String::new, |query| {
            format!("query {}: must be {}", query.name, wanted("", &query.value))
        }),
        Failing::Cookie(place) => matched.cookies.get(place).map_or_else(String::new, |cookie| {
            format!("cookie {}: must be {}", cookie.name, wanted("cookie", &cookie.value))
        }),
        Failing::Client => {
            format!("client address: {} is not in {}", head.client, joined(matched.client_cidrs.iter()))
        }
    }
}

/// A match in one line.
pub(super) fn match_text(matched: &Match) -> String {
    let mut text = format!("path {}", path_text(&matched.path));
    if !matched.methods.is_empty() {
        text.push_str(&format!(", method {}", joined(matched.methods.iter())));
    }
    for condition in conditions(matched) {
        text.push_str(", ");
        text.push_str(&condition);
    }
    text
}

pub(crate) fn path_text(path: &PathMatch) -> String {
    let (kind, value, case_sensitive) = match path {
        PathMatch::Exact { value, case_sensitive } => ("exactly", value, case_sensitive),
        PathMatch::Prefix { value, case_sensitive } => ("prefix", value, case_sensitive),
        PathMatch::Regex { pattern, case_sensitive } => ("regex", pattern, case_sensitive),
    };
    let case = if *case_sensitive { "" } else { " (any case)" };
    format!("{kind} {value}{case}")
}

/// Every condition beside path and method.
pub(crate) fn conditions(matched: &Match) -> Vec<String> {
    let headers = matched
        .headers
        .iter()
        .map(|header| format!("header {} {}", header.name, wanted(header.name.as_str(), &header.value)));
    let query =
        matched.query.iter().map(|query| format!("query {} {}", query.name, wanted("", &query.value)));
    let cookies = matched
        .cookies
        .iter()
        .map(|cookie| format!("cookie {} {}", cookie.name, wanted("cookie", &cookie.value)));
    let mut all: Vec<String> = headers.chain(query).chain(cookies).collect();
    if !matched.client_cidrs.is_empty() {
        all.push(format!("client address in {}", joined(matched.client_cidrs.iter())));
    }
    all
}

/// What a value must be. `header`: the name of the header that it comes from, or empty.
fn wanted(header: &str, value: &ValueMatch) -> String {
    let shown = |text: &str| {
        if SECRET_HEADERS.contains(&header) { "[redacted]".to_owned() } else { format!("{text:?}") }
    };
    match value {
        ValueMatch::Exact(text) => shown(text),
        ValueMatch::Prefix(text) => format!("prefix {}", shown(text)),
        ValueMatch::Regex(pattern) => format!("regex {}", shown(pattern)),
        ValueMatch::Present => "present".to_owned(),
        ValueMatch::Absent => "absent".to_owned(),
    }
}

fn joined<T: ToString>(parts: impl Iterator<Item = T>) -> String {
    parts.map(|part| part.to_string()).collect::<Vec<_>>().join(" or ")
}
