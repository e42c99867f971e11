//! The hosts of a table: which host tables a host name reaches, the most specific first. Must not look at paths.

use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::index::HostTable;
use crate::route::CompiledRoute;

/// All host tables of one kind of routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostSet {
    exact: HashMap<Arc<str>, Arc<HostTable>>,
    /// By the suffix behind `*.`.
    wildcard: HashMap<Arc<str>, Wildcard>,
    any: Option<Arc<HostTable>>,
}

/// The routes of one `*.suffix`.
#[derive(Clone, Debug)]
struct Wildcard {
    /// All of them, for a name with exactly one label before the suffix; `None` where no route asks for just one.
    one_label: Option<Arc<HostTable>>,
    /// Those whose star stands for one or more labels.
    labels: Option<Arc<HostTable>>,
}

/// How a host was matched. The greatest is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostLevel {
    Any,
    /// Bytes of the suffix.
    Wildcard(usize),
    Exact,
}

/// One place in a host set that routes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostKey<'a> {
    Exact(&'a str),
    Suffix(&'a str),
    Any,
}

/// The host keys whose routes changed, each with all its routes of now.
pub(crate) type ChangedHosts<'a> = HashMap<HostKey<'a>, Vec<Arc<CompiledRoute>>>;

/// The host keys that a route belongs to; a key may come twice.
pub(crate) fn keys(route: &ir::Route) -> impl Iterator<Item = HostKey<'_>> {
    let any = route.hosts.is_empty().then_some(HostKey::Any);
    let named = route.hosts.iter().map(|pattern| match pattern {
        ir::HostPattern::Exact(name) => HostKey::Exact(name.as_str()),
        ir::HostPattern::Wildcard { suffix, .. } => HostKey::Suffix(suffix.as_str()),
    });
    any.into_iter().chain(named)
}

impl HostSet {
    /// Visits the tables that a host name reaches, the most specific first, until one is taken.
    pub(crate) fn walk<'t, B>(
        &'t self,
        host: &str,
        visit: &mut impl FnMut(HostLevel, &'t HostTable) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(table) = self.exact.get(host) {
            visit(HostLevel::Exact, table)?;
        }
        if !self.wildcard.is_empty() {
            for (place, dot) in memchr::memchr_iter(b'.', host.as_bytes()).enumerate() {
                let suffix = host.get(dot + 1..).unwrap_or_default();
                if let Some(wildcard) = self.wildcard.get(suffix)
                    && let Some(table) = wildcard.table(place == 0)
                {
                    visit(HostLevel::Wildcard(suffix.len()), table)?;
                }
            }
        }
        match &self.any {
            Some(table) => visit(HostLevel::Any, table),
            None => ControlFlow::Continue(()),
        }
    }

    /// Builds the tables of these hosts anew and drops those without routes. All others stay.
    pub(crate) fn replace(&mut self, changed: ChangedHosts<'_>) {
        for (key, routes) in changed {
            match key {
                HostKey::Any => self.any = table(routes),
                HostKey::Exact(name) => match table(routes) {
                    Some(table) => drop(self.exact.insert(name.into(), table)),
                    None => drop(self.exact.remove(name)),
                },
                HostKey::Suffix(suffix) => match Wildcard::new(suffix, routes) {
                    Some(wildcard) => drop(self.wildcard.insert(suffix.into(), wildcard)),
                    None => drop(self.wildcard.remove(suffix)),
                },
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn exact(&self, host: &str) -> Option<&Arc<HostTable>> {
        self.exact.get(host)
    }
}

impl Wildcard {
    fn new(suffix: &str, routes: Vec<Arc<CompiledRoute>>) -> Option<Self> {
        let names = |route: &CompiledRoute, one_label: bool| {
            route.source.hosts.iter().any(|pattern| match pattern {
                ir::HostPattern::Exact(_) => false,
                ir::HostPattern::Wildcard { suffix: name, one_label: one } => {
                    name.as_str() == suffix && *one == one_label
                }
            })
        };
        let labels = routes.iter().filter(|route| names(route, false)).cloned().collect();
        let any_one_label = routes.iter().any(|route| names(route, true));
        let one_label = if any_one_label { table(routes) } else { None };
        let labels = table(labels);
        if one_label.is_none() && labels.is_none() { None } else { Some(Self { one_label, labels }) }
    }

    fn table(&self, is_one_label: bool) -> Option<&HostTable> {
        let one_label = self.one_label.as_deref().filter(|_| is_one_label);
        one_label.or(self.labels.as_deref())
    }
}

fn table(routes: Vec<Arc<CompiledRoute>>) -> Option<Arc<HostTable>> {
    if routes.is_empty() { None } else { Some(Arc::new(HostTable::new(routes))) }
}
