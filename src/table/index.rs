//! The paths of one host: which matches take a path, the most specific first. Must not look at other conditions.
//!
//! A path costs one hash for its exact form and one for each prefix length that exists and ends at an element, so
//! ten thousand prefixes cost what ten do, and a path of a million slashes costs no more than the longest prefix.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::condition::{CompiledMatch, PathPattern};
use crate::precedence;
use crate::route::CompiledRoute;

/// The compiled paths of all routes of one host pattern.
#[derive(Debug)]
pub(crate) struct HostTable {
    /// By id.
    routes: Box<[Arc<CompiledRoute>]>,
    exact: PathMap,
    prefix: PathMap,
    /// Of all prefixes in bytes, the longest first, each once.
    prefix_bytes: Box<[usize]>,
    regex: Box<[Entry]>,
}

/// One match of one route.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) route: Arc<CompiledRoute>,
    pub(crate) match_index: u32,
    /// Nothing is to be compared beside host and path.
    pub(crate) unconditional: bool,
}

/// How a path was matched; the least is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathLevel {
    Exact,
    /// Bytes without a slash at the end.
    Prefix(usize),
    Regex,
}

/// A path that is looked up, perhaps in several hosts.
#[derive(Debug)]
pub(crate) struct LookupPath<'a> {
    text: &'a str,
    lower: OnceCell<Cow<'a, str>>,
}

/// Entries by path. One path's entries compete with those that disregard case, so they stand under it together.
#[derive(Debug, Default)]
struct PathMap {
    sensitive: HashMap<Arc<str>, Bucket>,
    /// By lower-case path: only the entries that disregard case.
    insensitive: HashMap<Arc<str>, Bucket>,
}

/// The entries of one path by precedence. Most paths have one, which then needs no further memory.
#[derive(Clone, Debug)]
enum Bucket {
    One(Entry),
    Many(Vec<Entry>),
}

impl HostTable {
    /// `routes` by id, each once.
    pub(crate) fn new(routes: Vec<Arc<CompiledRoute>>) -> Self {
        let mut exact = PathMap::default();
        let mut prefix = PathMap::default();
        let mut prefix_bytes = Vec::new();
        let mut regex = Vec::new();
        for route in &routes {
            for (matched, match_index) in route.matches.iter().zip(0..) {
                let unconditional = matched.conditions.is_empty();
                let entry = Entry { route: Arc::clone(route), match_index, unconditional };
                match &matched.path {
                    PathPattern::Exact { key, case_sensitive } => {
                        exact.push(key, *case_sensitive, entry);
                    }
                    PathPattern::Prefix { key, case_sensitive } => {
                        if prefix.push(key, *case_sensitive, entry) {
                            prefix_bytes.push(key.len());
                        }
                    }
                    PathPattern::Regex(_) => regex.push(entry),
                    PathPattern::Never => {}
                }
            }
        }
        exact.finish();
        prefix.finish();
        prefix_bytes.sort_unstable_by(|a, b| b.cmp(a));
        prefix_bytes.dedup();
        regex.sort_by(Entry::compare);
        Self { routes: routes.into(), exact, prefix, prefix_bytes: prefix_bytes.into(), regex: regex.into() }
    }

    pub(crate) fn routes(&self) -> &[Arc<CompiledRoute>] {
        &self.routes
    }

    /// Visits the entries that take this path by precedence, until one is taken. A regular expression is left to
    /// [`Entry::takes_path`], so that cheaper conditions can be compared before it.
    pub(crate) fn walk<'t, B>(
        &'t self,
        path: &LookupPath<'_>,
        visit: &mut impl FnMut(PathLevel, &'t Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(bucket) = self.exact.get(path, path.text.len()) {
            bucket.entries().iter().try_for_each(|entry| visit(PathLevel::Exact, entry))?;
        }
        for bytes in &self.prefix_bytes {
            // A longer prefix than the path has no next byte either, but then the map has no such key.
            let at_element = match path.text.as_bytes().get(*bytes) {
                Some(next) => *next == b'/',
                None => path.text.len() == *bytes,
            };
            if at_element && let Some(bucket) = self.prefix.get(path, *bytes) {
                bucket.entries().iter().try_for_each(|entry| visit(PathLevel::Prefix(*bytes), entry))?;
            }
        }
        self.regex.iter().try_for_each(|entry| visit(PathLevel::Regex, entry))
    }
}

impl Entry {
    pub(crate) fn compiled(&self) -> Option<&CompiledMatch> {
        self.route.matches.get(usize::try_from(self.match_index).ok()?)
    }

    /// Completes what [`HostTable::walk`] began: whether this entry takes the path.
    pub(crate) fn takes_path(&self, path: &str) -> bool {
        match self.compiled().map(|matched| &matched.path) {
            Some(PathPattern::Exact { .. } | PathPattern::Prefix { .. }) => true,
            Some(PathPattern::Regex(regex)) => regex.takes(path),
            Some(PathPattern::Never) | None => false,
        }
    }

    fn compare(a: &Self, b: &Self) -> Ordering {
        match (a.route.ranked(a.match_index), b.route.ranked(b.match_index)) {
            (Some(a), Some(b)) => precedence::compare(a, b).0,
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

impl<'a> LookupPath<'a> {
    /// `path` is canonical, hence ASCII.
    pub(crate) fn new(path: &'a str) -> Self {
        Self { text: path, lower: OnceCell::new() }
    }

    /// The path in lower case; allocates only if it is not.
    fn lower(&self) -> &str {
        self.lower.get_or_init(|| {
            if self.text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                Cow::Owned(self.text.to_ascii_lowercase())
            } else {
                Cow::Borrowed(self.text)
            }
        })
    }
}

impl PathMap {
    /// Whether the path is a new one.
    fn push(&mut self, key: &Arc<str>, case_sensitive: bool, entry: Entry) -> bool {
        let map = if case_sensitive { &mut self.sensitive } else { &mut self.insensitive };
        if let Some(bucket) = map.get_mut(key) {
            bucket.push(entry);
            return false;
        }
        map.insert(Arc::clone(key), Bucket::One(entry));
        true
    }

    /// Puts the entries that disregard case beside those of the same path that do not, and sorts all.
    fn finish(&mut self) {
        if !self.insensitive.is_empty() {
            for (key, bucket) in &mut self.sensitive {
                if let Some(others) = self.insensitive.get(key.to_ascii_lowercase().as_str()) {
                    others.entries().iter().for_each(|entry| bucket.push(entry.clone()));
                }
            }
        }
        self.sensitive.values_mut().for_each(Bucket::sort);
        self.insensitive.values_mut().for_each(Bucket::sort);
    }

    /// The entries of the first `bytes` of a path.
    fn get(&self, path: &LookupPath<'_>, bytes: usize) -> Option<&Bucket> {
        let found = self.sensitive.get(path.text.get(..bytes)?);
        if found.is_some() || self.insensitive.is_empty() {
            return found;
        }
        self.insensitive.get(path.lower().get(..bytes)?)
    }
}

impl Bucket {
    fn entries(&self) -> &[Entry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    fn push(&mut self, entry: Entry) {
        match self {
            Self::One(first) => *self = Self::Many(vec![first.clone(), entry]),
            Self::Many(entries) => entries.push(entry),
        }
    }

    fn sort(&mut self) {
        match self {
            Self::One(_) => {}
            Self::Many(entries) => entries.sort_by(Entry::compare),
        }
    }
}
