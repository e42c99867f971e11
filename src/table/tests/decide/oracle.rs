//! The decision as the specification words it: a linear scan over all routes, all conditions and all ties. It
//! shares no code with the table.

use std::cmp::Reverse;

use regex::{Regex, RegexBuilder};

use crate::support::Ask;

/// Every match that takes the request, the one that wins first.
pub(crate) fn decide_all(config: &ir::Config, ask: &Ask) -> Vec<(ir::RouteId, usize)> {
    let mut taking = Vec::new();
    for route in config.routes.values() {
        let Some(host_rank) = host_rank(&route.hosts, &ask.host) else { continue };
        for (index, matched) in route.matches.iter().enumerate() {
            let Some(path_rank) = path_rank(&matched.path, &ask.path) else { continue };
            if !conditions_hold(matched, ask) {
                continue;
            }
            let specificity = (route.last_resort, Reverse(host_rank), Reverse(path_rank));
            let counts = (
                Reverse(!matched.methods.is_empty()),
                Reverse(matched.headers.len()),
                Reverse(matched.query.len()),
                Reverse(matched.cookies.len()),
                Reverse(!matched.client_cidrs.is_empty()),
            );
            let object = &route.id.object;
            let age = (
                route.created.unwrap_or(i64::MIN),
                format!("{}/{}", object.namespace, object.name),
                object.kind,
                route.rule_index,
                route.id.rule.clone(),
                index,
            );
            taking.push(((specificity, counts, age), (route.id.clone(), index)));
        }
    }
    taking.sort_by(|a, b| a.0.cmp(&b.0));
    taking.into_iter().map(|(_, found)| found).collect()
}

/// The best of the patterns: 0 for every host, the length of a wildcard's suffix, the most for an exact name.
fn host_rank(patterns: &[ir::HostPattern], host: &str) -> Option<usize> {
    if patterns.is_empty() {
        return Some(0);
    }
    let ranks = patterns.iter().filter_map(|pattern| match pattern {
        ir::HostPattern::Exact(name) => (name.as_str() == host).then_some(usize::MAX),
        ir::HostPattern::Wildcard { suffix, one_label } => {
            let labels = host.strip_suffix(&format!(".{suffix}"))?;
            let fits = if *one_label { !labels.contains('.') } else { true };
            (fits && !labels.is_empty()).then_some(suffix.as_str().len())
        }
    });
    ranks.max()
}

/// (kind, length): exact before the longest prefix before expressions.
fn path_rank(wanted: &ir::PathMatch, path: &str) -> Option<(u8, usize)> {
    let fold = |text: &str, case_sensitive: bool| {
        if case_sensitive { text.to_owned() } else { text.to_ascii_lowercase() }
    };
    match wanted {
        ir::PathMatch::Exact { value, case_sensitive } => {
            (fold(value, *case_sensitive) == fold(path, *case_sensitive)).then_some((2, 0))
        }
        ir::PathMatch::Prefix { value, case_sensitive } => {
            let value = fold(value, *case_sensitive);
            let elements = |text: &str| -> Vec<String> {
                text.split('/').filter(|element| !element.is_empty()).map(str::to_owned).collect()
            };
            let takes = elements(&fold(path, *case_sensitive)).starts_with(&elements(&value));
            takes.then_some((1, value.len()))
        }
        ir::PathMatch::Regex { pattern, case_sensitive } => {
            let regex =
                RegexBuilder::new(&format!("^(?:{pattern})$")).case_insensitive(!case_sensitive).build();
            regex.expect("a valid expression").is_match(path).then_some((0, 0))
        }
    }
}

fn conditions_hold(matched: &ir::Match, ask: &Ask) -> bool {
    let method = matched.methods.is_empty() || matched.methods.contains(&ask.method);
    let headers = matched.headers.iter().all(|wanted| {
        let values: Vec<&str> =
            ask.headers.get_all(&wanted.name).iter().map(|value| value.to_str().expect("text")).collect();
        value_holds(&wanted.value, (!values.is_empty()).then(|| values.join(",")))
    });
    let query = matched.query.iter().all(|wanted| {
        let pairs =
            ask.query.iter().flat_map(|query| query.split('&')).map(|pair| match pair.split_once('=') {
                Some((name, value)) => (decode(name), decode(value)),
                None => (decode(pair), String::new()),
            });
        let mut values = pairs.filter(|(name, _)| *name == wanted.name).map(|(_, value)| value);
        value_holds(&wanted.value, values.next())
    });
    let cookies = matched.cookies.iter().all(|wanted| {
        let lines = ask.headers.get_all("cookie").iter().map(|value| value.to_str().expect("text"));
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(name, _)| name.trim() == wanted.name).map(|(_, value)| value.trim());
        value_holds(&wanted.value, values.next().map(str::to_owned))
    });
    let client =
        matched.client_cidrs.is_empty() || matched.client_cidrs.iter().any(|net| net.contains(&ask.client));
    method && headers && query && cookies && client
}

fn value_holds(wanted: &ir::ValueMatch, value: Option<String>) -> bool {
    match wanted {
        ir::ValueMatch::Exact(text) => value.as_ref() == Some(text),
        ir::ValueMatch::Prefix(text) => value.is_some_and(|value| value.starts_with(text)),
        ir::ValueMatch::Regex(pattern) => {
            let regex = Regex::new(&format!("^(?:{pattern})$")).expect("a valid expression");
            value.is_some_and(|value| regex.is_match(&value))
        }
        ir::ValueMatch::Present => value.is_some(),
        ir::ValueMatch::Absent => value.is_none(),
    }
}

/// Only what the generators make: `+` and `%20`.
fn decode(text: &str) -> String {
    text.replace('+', " ").replace("%20", " ").replace("%61", "a")
}
