//! Matches of a GatewayRoute's rule. A match whose path cannot be read is left out; a rule with anything that cannot be
//! read answers 500.

use api::{PathMatchType, RouteMatch, ValueMatchType};
use ir::{CookieMatch, HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};

use crate::expression::{Anchoring, REGEX_REMEDY, check_regex};
use crate::path::{PATH_REMEDY, canonical_path, canonical_prefix};
use crate::report::{Field, Lines, Refused};
use crate::value;

const PATH_UNREAD: &str = "this match is not served, and its rule answers 500 on the others";
const VALUE_UNREAD: &str = "the rule answers 500";

/// The matches of a rule that can be read.
pub(crate) struct Matches {
    pub(crate) matches: Vec<Match>,
    /// Whether all of them could be.
    pub(crate) sound: bool,
}

/// No match takes every path.
pub(crate) fn matches(specs: &[RouteMatch], field: Field<'_>, lines: &mut Lines) -> Matches {
    if specs.is_empty() {
        return Matches { matches: vec![everything()], sound: true };
    }
    let mut read = Matches { matches: Vec::with_capacity(specs.len()), sound: true };
    for (index, spec) in specs.iter().enumerate() {
        let one = one(spec, field.index(index), lines);
        read.sound &= one.sound;
        read.matches.extend(one.matched);
    }
    read
}

/// Takes every request.
pub(crate) fn everything() -> Match {
    Match {
        path: PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true },
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cidrs: Vec::new(),
    }
}

/// One match as far as it can be read.
struct One {
    /// `None`: not even its path can be read, so nothing is known of what it takes.
    matched: Option<Match>,
    sound: bool,
}

/// A condition that cannot be read is taken for one that holds: the match then takes more than it was meant to, and its
/// rule answers 500. Were it left out whole, its requests would slip past it to a weaker rule.
fn one(spec: &RouteMatch, field: Field<'_>, lines: &mut Lines) -> One {
    let mut sound = true;
    let path = match &spec.path {
        Some(path) => path_match(path, PATH_UNREAD, field.key("path"), lines),
        None => Ok(everything().path),
    };
    let mut matched = Match { methods: Vec::new(), ..everything() };
    for (index, header) in spec.headers.iter().enumerate() {
        let field = field.key("headers");
        let field = field.index(index);
        let name = value::header_name(&header.name, field.key("name"), lines);
        let value = value_match((header.kind, header.value.as_deref()), VALUE_UNREAD, field, lines);
        sound &= name.is_ok() && value.is_ok();
        let value = value.unwrap_or(ValueMatch::Present);
        matched.headers.extend(name.map(|name| HeaderMatch { name, value }));
    }
    for (index, param) in spec.query_params.iter().enumerate() {
        let field = field.key("queryParams");
        let value =
            value_match((param.kind, param.value.as_deref()), VALUE_UNREAD, field.index(index), lines);
        sound &= value.is_ok();
        let value = value.unwrap_or(ValueMatch::Present);
        matched.query.push(QueryMatch { name: param.name.clone(), value });
    }
    for (index, cookie) in spec.cookies.iter().enumerate() {
        let field = field.key("cookies");
        let value =
            value_match((cookie.kind, cookie.value.as_deref()), VALUE_UNREAD, field.index(index), lines);
        sound &= value.is_ok();
        let value = value.unwrap_or(ValueMatch::Present);
        matched.cookies.push(CookieMatch { name: cookie.name.clone(), value });
    }
    let methods = value::methods(&spec.methods, field.key("methods"), lines);
    let client_cidrs = value::networks(&spec.client_cidrs, field.key("clientCIDRs"), lines);
    sound &= methods.is_ok() && client_cidrs.is_ok() && path.is_ok();
    matched.methods = methods.unwrap_or_default();
    matched.client_cidrs = client_cidrs.unwrap_or_default();
    One { matched: path.ok().map(|path| Match { path, ..matched }), sound }
}

/// A path; `consequence` is what its being unreadable means.
pub(crate) fn path_match(
    spec: &api::PathMatch,
    consequence: &str,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<PathMatch, Refused> {
    let case_sensitive = spec.case_sensitive;
    let (matched, remedy) = match spec.kind {
        PathMatchType::Exact => (
            canonical_path(&spec.value)
                .map(|value| PathMatch::Exact { value, case_sensitive })
                .map_err(|error| error.to_string()),
            PATH_REMEDY,
        ),
        PathMatchType::PathPrefix => (
            canonical_prefix(&spec.value)
                .map(|value| PathMatch::Prefix { value, case_sensitive })
                .map_err(|error| error.to_string()),
            PATH_REMEDY,
        ),
        PathMatchType::RegularExpression => (
            check_regex(&spec.value, Anchoring::Whole)
                .map(|_| PathMatch::Regex { pattern: spec.value.clone(), case_sensitive }),
            REGEX_REMEDY,
        ),
    };
    matched.map_err(|message| lines.error(field.key("value"), format!("{message}; {consequence}"), remedy))
}

/// A comparison; `consequence` is what its being unreadable means.
pub(crate) fn value_match(
    (kind, value): (ValueMatchType, Option<&str>),
    consequence: &str,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<ValueMatch, Refused> {
    let mut needed = || {
        value.map(str::to_owned).ok_or_else(|| {
            let message = format!("the comparison needs a value; {consequence}");
            lines.error(field.key("value"), message, "add value")
        })
    };
    Ok(match kind {
        ValueMatchType::Exact => ValueMatch::Exact(needed()?),
        ValueMatchType::Prefix => ValueMatch::Prefix(needed()?),
        ValueMatchType::RegularExpression => {
            let pattern = needed()?;
            if let Err(message) = check_regex(&pattern, Anchoring::Whole) {
                let message = format!("{message}; {consequence}");
                return Err(lines.error(field.key("value"), message, REGEX_REMEDY));
            }
            ValueMatch::Regex(pattern)
        }
        ValueMatchType::Present => ValueMatch::Present,
        ValueMatchType::Absent => ValueMatch::Absent,
    })
}
