//! Conditions of a match, compiled. Must not know hosts, precedence or other routes.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;
use regex::bytes::Regex;

use crate::head::RequestHead;
use crate::path::canonical;
use crate::pattern::{self, PathRegex};
use crate::values;

/// One `ir::Match`, ready to be compared.
#[derive(Debug)]
pub(crate) struct CompiledMatch {
    pub(crate) path: PathPattern,
    pub(crate) conditions: Conditions,
}

/// A path as the index of a host holds it.
#[derive(Debug)]
pub(crate) enum PathPattern {
    /// The key is canonical; in lower case where case does not matter.
    Exact {
        key: Arc<str>,
        case_sensitive: bool,
    },
    /// As for `Exact`, without a slash at the end: the root is empty.
    Prefix {
        key: Arc<str>,
        case_sensitive: bool,
    },
    Regex(PathRegex),
    /// Could not be compiled. It takes nothing: taking everything would harm other routes.
    Never,
}

/// All that must hold beside host and path.
#[derive(Debug)]
pub(crate) struct Conditions {
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, ValueTest)]>,
    query: Box<[(Box<str>, ValueTest)]>,
    cookies: Box<[(Box<str>, ValueTest)]>,
    client: Box<[IpNet]>,
}

/// The first condition that does not hold, in the order of precedence; the number is its place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failing {
    Method,
    Header(usize),
    Query(usize),
    Cookie(usize),
    Client,
}

#[derive(Debug)]
enum ValueTest {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
    Present,
    Absent,
}

impl CompiledMatch {
    /// Compiles one match; what is wrong with it goes to `problems`.
    pub(crate) fn new(matched: &ir::Match, problems: &mut Vec<String>) -> Self {
        let path = PathPattern::new(&matched.path).unwrap_or_else(|problem| {
            problems.push(problem);
            PathPattern::Never
        });
        Self { path, conditions: Conditions::new(matched, problems) }
    }

    /// How much of a matching path is the prefix that matched, in bytes. A path without a prefix counts whole.
    pub(crate) fn prefix_bytes(&self, path: &str) -> usize {
        match &self.path {
            PathPattern::Prefix { key, .. } => key.len(),
            PathPattern::Exact { .. } | PathPattern::Regex(_) | PathPattern::Never => path.len(),
        }
    }
}

impl PathPattern {
    fn new(path: &ir::PathMatch) -> Result<Self, String> {
        let key = |value: &str, case_sensitive: bool| match canonical(value) {
            Ok(path) if case_sensitive => Ok(path.into_owned()),
            Ok(path) => Ok(path.to_ascii_lowercase()),
            Err(error) => Err(format!("no request can have the path {value:?}: {error}")),
        };
        Ok(match path {
            ir::PathMatch::Exact { value, case_sensitive } => {
                Self::Exact { key: key(value, *case_sensitive)?.into(), case_sensitive: *case_sensitive }
            }
            ir::PathMatch::Prefix { value, case_sensitive } => {
                let key = key(value, *case_sensitive)?;
                let key = key.strip_suffix('/').unwrap_or(&key).into();
                Self::Prefix { key, case_sensitive: *case_sensitive }
            }
            ir::PathMatch::Regex { pattern, case_sensitive } => {
                Self::Regex(PathRegex::new(pattern, *case_sensitive)?)
            }
        })
    }
}

impl Conditions {
    fn new(matched: &ir::Match, problems: &mut Vec<String>) -> Self {
        let mut named = |name: &str, value: &ir::ValueMatch| -> (Box<str>, ValueTest) {
            (name.into(), ValueTest::new(value, problems))
        };
        let query = matched.query.iter().map(|query| named(&query.name, &query.value)).collect();
        let cookies = matched.cookies.iter().map(|cookie| named(&cookie.name, &cookie.value)).collect();
        let headers = matched
            .headers
            .iter()
            .map(|header| (header.name.clone(), ValueTest::new(&header.value, problems)))
            .collect();
        Self {
            methods: matched.methods.as_slice().into(),
            headers,
            query,
            cookies,
            client: matched.client_cidrs.as_slice().into(),
        }
    }

    /// Whether there is nothing to compare.
    pub(crate) fn is_empty(&self) -> bool {
        self.methods.is_empty()
            && self.headers.is_empty()
            && self.query.is_empty()
            && self.cookies.is_empty()
            && self.client.is_empty()
    }

    /// Compares everything, with `method` in the place of the request's own (they differ for a CORS preflight).
    pub(crate) fn first_failing(&self, head: &RequestHead<'_>, method: &Method) -> Option<Failing> {
        if !self.takes_method(method) {
            return Some(Failing::Method);
        }
        self.failing_header(head.headers)
            .or_else(|| self.failing_query(head.query))
            .or_else(|| self.failing_cookie(head.headers))
            .or_else(|| (!self.takes_client(head)).then_some(Failing::Client))
    }

    /// Compares what a CORS preflight has in common with the request that it asks for: a browser sends neither
    /// that request's headers nor its cookies with it.
    pub(crate) fn may_take_after_preflight(&self, head: &RequestHead<'_>, method: &Method) -> bool {
        self.takes_method(method) && self.failing_query(head.query).is_none() && self.takes_client(head)
    }

    fn takes_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn takes_client(&self, head: &RequestHead<'_>) -> bool {
        let is_in = |net: &IpNet| !head.client_is_unsure && net.contains(&head.client);
        self.client.is_empty() || self.client.iter().any(is_in)
    }

    fn failing_header(&self, headers: &HeaderMap) -> Option<Failing> {
        let failing =
            |(name, test): &(HeaderName, ValueTest)| !test.holds(values::header(headers, name).as_deref());
        self.headers.iter().position(failing).map(Failing::Header)
    }

    fn failing_query(&self, query: Option<&str>) -> Option<Failing> {
        let failing =
            |(name, test): &(Box<str>, ValueTest)| !test.holds(values::query(query, name).as_deref());
        self.query.iter().position(failing).map(Failing::Query)
    }

    fn failing_cookie(&self, headers: &HeaderMap) -> Option<Failing> {
        let failing = |(name, test): &(Box<str>, ValueTest)| !test.holds(values::cookie(headers, name));
        self.cookies.iter().position(failing).map(Failing::Cookie)
    }
}

impl ValueTest {
    /// An expression that cannot be compiled takes every value: its route answers 500, and a request that it may
    /// have meant must not slip past it to a weaker route.
    fn new(value: &ir::ValueMatch, problems: &mut Vec<String>) -> Self {
        match value {
            ir::ValueMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            ir::ValueMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            ir::ValueMatch::Regex(pattern) => match pattern::whole_value(pattern) {
                Ok(regex) => Self::Regex(regex),
                Err(problem) => {
                    problems.push(problem);
                    Self::Present
                }
            },
            ir::ValueMatch::Present => Self::Present,
            ir::ValueMatch::Absent => Self::Absent,
        }
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Exact(text), Some(value)) => **text == *value,
            (Self::Prefix(text), Some(value)) => value.starts_with(text),
            (Self::Regex(regex), Some(value)) => regex.is_match(value),
            (Self::Present, Some(_)) | (Self::Absent, None) => true,
            (Self::Exact(_) | Self::Prefix(_) | Self::Regex(_) | Self::Present, None)
            | (Self::Absent, Some(_)) => false,
        }
    }
}
