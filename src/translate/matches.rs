//! Matches of a GatewayRoute's rule. A match that cannot be read is left out, and its rule answers 500 on the others.

use api::{PathMatchType, RouteMatch, ValueMatchType};
use ir::{CookieMatch, HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch};

use crate::expression::{Anchoring, REGEX_REMEDY, check_regex};
use crate::path::{PATH_REMEDY, canonical_path, canonical_prefix};
use crate::report::{Field, Lines, Refused};
use crate::value;

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
        match one(spec, field.index(index), lines) {
            Ok(one) => read.matches.push(one),
            Err(Refused) => read.sound = false,
        }
    }
    read
}

fn everything() -> Match {
    Match {
        path: PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true },
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cidrs: Vec::new(),
    }
}

fn one(spec: &RouteMatch, field: Field<'_>, lines: &mut Lines) -> Result<Match, Refused> {
    let path = match &spec.path {
        Some(path) => path_match(path, field.key("path"), lines),
        None => Ok(everything().path),
    };
    let methods = value::methods(&spec.methods, field.key("methods"), lines);
    let headers = value::all(&spec.headers, field.key("headers"), |header, field| {
        let name = value::header_name(&header.name, field.key("name"), lines);
        let value = value_match(header.kind, header.value.as_deref(), field, lines);
        Ok(HeaderMatch { name: name?, value: value? })
    });
    let query = value::all(&spec.query_params, field.key("queryParams"), |param, field| {
        let value = value_match(param.kind, param.value.as_deref(), field, lines)?;
        Ok(QueryMatch { name: param.name.clone(), value })
    });
    let cookies = value::all(&spec.cookies, field.key("cookies"), |cookie, field| {
        let value = value_match(cookie.kind, cookie.value.as_deref(), field, lines)?;
        Ok(CookieMatch { name: cookie.name.clone(), value })
    });
    let client_cidrs = value::networks(&spec.client_cidrs, field.key("clientCIDRs"), lines);
    Ok(Match {
        path: path?,
        methods: methods?,
        headers: headers?,
        query: query?,
        cookies: cookies?,
        client_cidrs: client_cidrs?,
    })
}

fn path_match(spec: &api::PathMatch, field: Field<'_>, lines: &mut Lines) -> Result<PathMatch, Refused> {
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
    matched.map_err(|message| {
        lines.error(
            field.key("value"),
            format!("{message}; this match is not served, and its rule answers 500 on the others"),
            remedy,
        )
    })
}

fn value_match(
    kind: ValueMatchType,
    value: Option<&str>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<ValueMatch, Refused> {
    let mut needed = || {
        value.map(str::to_owned).ok_or_else(|| {
            lines.error(
                field.key("value"),
                "the comparison needs a value; this match is not served, and its rule answers 500 on the others",
                "add value",
            )
        })
    };
    Ok(match kind {
        ValueMatchType::Exact => ValueMatch::Exact(needed()?),
        ValueMatchType::Prefix => ValueMatch::Prefix(needed()?),
        ValueMatchType::RegularExpression => {
            let pattern = needed()?;
            if let Err(message) = check_regex(&pattern, Anchoring::Whole) {
                let message =
                    format!("{message}; this match is not served, and its rule answers 500 on the others");
                return Err(lines.error(field.key("value"), message, REGEX_REMEDY));
            }
            ValueMatch::Regex(pattern)
        }
        ValueMatchType::Present => ValueMatch::Present,
        ValueMatchType::Absent => ValueMatch::Absent,
    })
}
