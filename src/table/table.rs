//! The routing table: compiled from a configuration, asked with a request head. Must not hold a time or any state
//! that a request changes: the same head and the same table make the same decision, always.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;

use crate::condition::Failing;
use crate::head::RequestHead;
use crate::hosts::{self, ChangedHosts, HostLevel, HostSet};
use crate::index::{Entry, HostTable, LookupPath, PathLevel};
use crate::passed::Passed;
use crate::route::{CompiledRoute, RouteSlot};

/// All routes, ready to be asked.
#[derive(Debug, Default)]
pub struct Table {
    hosts: HostSet,
    /// Asked only when nothing in `hosts` takes the request.
    last_resort: HostSet,
    /// By id.
    routes: Vec<Arc<CompiledRoute>>,
    slots: Slots,
    pub(crate) passed: Passed,
}

/// Which route takes a request, and by which of its matches.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    pub slot: RouteSlot,
    pub route: &'t Arc<CompiledRoute>,
    /// Place in `route.matches`.
    pub match_index: usize,
}

/// A route that could not be compiled. It is answered 500 and harms no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileProblem {
    pub route: ir::RouteId,
    /// For people; names no secret.
    pub message: String,
}

/// One match whose host and path fit a request (a regular expression is still to be asked).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'t> {
    pub(crate) entry: &'t Entry,
    pub(crate) place: Place,
}

/// Where in the table a match stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) last_resort: bool,
    pub(crate) host: HostLevel,
    pub(crate) path: PathLevel,
}

/// Numbers for routes.
#[derive(Clone, Debug, Default)]
struct Slots {
    /// All numbers ever given are less.
    end: u32,
    /// Free since the compile before.
    free: Vec<u32>,
}

impl fmt::Display for CompileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.route, self.message)
    }
}

impl Table {
    /// Compiles a configuration. What is equal by pointer to the previous table's is taken over: routes with their
    /// expressions and filters, and whole hosts none of whose routes changed. Problems are those of the whole
    /// configuration, not only of what changed.
    pub fn compile(previous: Option<&Self>, config: &ir::Config) -> (Self, Vec<CompileProblem>) {
        let empty = Self::default();
        let previous = previous.unwrap_or(&empty);
        let mut changed = Changed::default();
        let mut slots = previous.slots.clone();
        let routes = compile_routes(previous, config, &mut slots, &mut changed);
        changed.fill(config, &routes);
        let mut hosts = previous.hosts.clone();
        hosts.replace(changed.hosts);
        let mut last_resort = previous.last_resort.clone();
        last_resort.replace(changed.last_resort);
        let problems = routes.iter().filter_map(|route| {
            let message = route.problem()?.to_owned();
            Some(CompileProblem { route: route.id().clone(), message })
        });
        let problems = problems.collect();
        (Self { hosts, last_resort, routes, slots, passed: Passed::of(config) }, problems)
    }

    /// The route that takes this request, a preflight among them. `None`: no route does, answered 404.
    pub fn decide(&self, head: &RequestHead<'_>) -> Option<Decision<'_>> {
        self.winner(head).map(|winner| winner.decision())
    }

    /// What [`Self::decide`] and `explain` both ask.
    pub(crate) fn winner(&self, head: &RequestHead<'_>) -> Option<Candidate<'_>> {
        match head.preflight() {
            Some(requested_method) => self.preflight_winner(head, &requested_method),
            None => self.plain_winner(head),
        }
    }

    fn plain_winner(&self, head: &RequestHead<'_>) -> Option<Candidate<'_>> {
        let decided = self.walk(head, |candidate| {
            if candidate.holds(head, head.method) {
                return ControlFlow::Break(candidate);
            }
            ControlFlow::Continue(())
        });
        decided.break_value()
    }

    /// The route whose CORS answers a preflight: an OPTIONS request with `Origin` and
    /// `Access-Control-Request-Method`.
    ///
    /// It is looked for among the routes that may take the request that is asked for: with its method, and
    /// whatever its headers and cookies will be, since a browser sends neither with a preflight. Of these, down to
    /// the first that takes it for certain, the first with CORS is the one. A less specific route never answers for
    /// a route without CORS: that would let other origins send it what only a preflight holds back. Where no such
    /// route is, the request is an OPTIONS request like any other, and goes to the route that takes it; to one
    /// with CORS only if nothing takes the request that is asked for.
    fn preflight_winner(&self, head: &RequestHead<'_>, requested_method: &Method) -> Option<Candidate<'_>> {
        let mut taken_without_cors = false;
        let found = self.walk(head, |candidate| {
            if !candidate.may_hold_after_preflight(head, requested_method) {
                return ControlFlow::Continue(());
            }
            if candidate.entry.route.cors().is_some() {
                return ControlFlow::Break(Some(candidate));
            }
            if candidate.holds(head, requested_method) {
                taken_without_cors = true;
                return ControlFlow::Break(None);
            }
            ControlFlow::Continue(())
        });
        let found = found.break_value().flatten();
        found.or_else(|| {
            let plain = self.plain_winner(head);
            plain.filter(|found| !taken_without_cors || found.entry.route.cors().is_none())
        })
    }

    /// Every compiled route, by id.
    pub fn compiled_routes(&self) -> &[Arc<CompiledRoute>] {
        &self.routes
    }

    /// One more than the greatest slot in use, now or before.
    pub fn slots_end(&self) -> usize {
        RouteSlot(self.slots.end).index()
    }

    /// Visits the host tables that a request reaches, the most specific first.
    pub(crate) fn walk_hosts<'t, B>(
        &'t self,
        host: &str,
        mut visit: impl FnMut(bool, HostLevel, &'t HostTable) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.hosts.walk(host, &mut |level, table| visit(false, level, table))?;
        self.last_resort.walk(host, &mut |level, table| visit(true, level, table))
    }

    /// Visits every match whose host and path fit, by precedence. This is the one order of the table: decisions
    /// and explanations both come from it.
    pub(crate) fn walk<'t, B>(
        &'t self,
        head: &RequestHead<'_>,
        mut visit: impl FnMut(Candidate<'t>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let path = LookupPath::new(head.path);
        self.walk_hosts(head.host, |last_resort, host, table| {
            table.walk(&path, &mut |path, entry| {
                visit(Candidate { entry, place: Place { last_resort, host, path } })
            })
        })
    }

    #[cfg(test)]
    pub(crate) fn exact_host(&self, host: &str) -> Option<&Arc<HostTable>> {
        self.hosts.exact(host)
    }
}

impl<'t> Candidate<'t> {
    /// Whether the match takes the request, with `method` in the place of its own.
    pub(crate) fn holds(&self, head: &RequestHead<'_>, method: &Method) -> bool {
        (self.entry.unconditional || self.failing_condition(head, method).is_none()) && self.takes_path(head)
    }

    /// The first condition beside host and path that does not hold.
    pub(crate) fn failing_condition(&self, head: &RequestHead<'_>, method: &Method) -> Option<Failing> {
        self.entry.compiled().and_then(|matched| matched.conditions.first_failing(head, method))
    }

    fn may_hold_after_preflight(&self, head: &RequestHead<'_>, method: &Method) -> bool {
        let matched = self.entry.compiled();
        matched.is_some_and(|matched| matched.conditions.may_take_after_preflight(head, method))
            && self.takes_path(head)
    }

    /// Only a regular expression is still to be asked.
    pub(crate) fn takes_path(&self, head: &RequestHead<'_>) -> bool {
        match self.place.path {
            PathLevel::Exact | PathLevel::Prefix(_) => true,
            PathLevel::Regex => self.entry.takes_path(head.path),
        }
    }

    fn decision(&self) -> Decision<'t> {
        let route = &self.entry.route;
        let match_index = usize::try_from(self.entry.match_index).unwrap_or(usize::MAX);
        Decision { slot: route.slot(), route, match_index }
    }
}

impl Slots {
    fn take(&mut self) -> RouteSlot {
        if let Some(free) = self.free.pop() {
            return RouteSlot(free);
        }
        let slot = RouteSlot(self.end);
        self.end = self.end.saturating_add(1);
        slot
    }
}

/// Which hosts have to be compiled again.
#[derive(Default)]
struct Changed<'a> {
    hosts: ChangedHosts<'a>,
    last_resort: ChangedHosts<'a>,
}

impl<'a> Changed<'a> {
    fn of(&mut self, last_resort: bool) -> &mut ChangedHosts<'a> {
        if last_resort { &mut self.last_resort } else { &mut self.hosts }
    }

    /// Marks the hosts of a route that came, went or changed.
    fn mark(&mut self, route: &'a ir::Route) {
        let changed = self.of(route.last_resort);
        for key in hosts::keys(route) {
            changed.entry(key).or_default();
        }
    }

    /// Gathers all routes of the marked hosts. `routes` are those of `config`, in its order.
    fn fill(&mut self, config: &'a ir::Config, routes: &[Arc<CompiledRoute>]) {
        if self.hosts.is_empty() && self.last_resort.is_empty() {
            return;
        }
        for (configured, route) in config.routes.values().zip(routes) {
            let changed = self.of(configured.last_resort);
            for key in hosts::keys(configured) {
                if let Some(list) = changed.get_mut(&key)
                    && list.last().is_none_or(|last| !Arc::ptr_eq(last, route))
                {
                    list.push(Arc::clone(route));
                }
            }
        }
    }
}

/// Walks the previous routes and the configured ones side by side; both are sorted by id.
fn compile_routes<'a>(
    previous: &'a Table,
    config: &'a ir::Config,
    slots: &mut Slots,
    changed: &mut Changed<'a>,
) -> Vec<Arc<CompiledRoute>> {
    let mut old = previous.routes.iter().peekable();
    let mut freed = Vec::new();
    let mut remove = |old: &'a CompiledRoute, changed: &mut Changed<'a>| {
        changed.mark(&old.source);
        freed.push(old.slot().0);
    };
    let mut routes = Vec::with_capacity(config.routes.len());
    for (id, route) in &config.routes {
        debug_assert_eq!(*id, route.id, "a configuration holds every route under its own id");
        let mut same_id = None;
        while let Some(candidate) = old.peek() {
            if Arc::ptr_eq(&candidate.source, route) || candidate.source.id == *id {
                same_id = old.next();
                break;
            }
            if candidate.source.id > *id {
                break;
            }
            remove(candidate, changed);
            old.next();
        }
        match same_id {
            Some(same) if Arc::ptr_eq(&same.source, route) => routes.push(Arc::clone(same)),
            Some(same) => {
                changed.mark(&same.source);
                changed.mark(route);
                routes.push(Arc::new(CompiledRoute::new(Arc::clone(route), same.slot())));
            }
            None => {
                changed.mark(route);
                routes.push(Arc::new(CompiledRoute::new(Arc::clone(route), slots.take())));
            }
        }
    }
    old.for_each(|gone| remove(gone, changed));
    slots.free.append(&mut freed);
    routes
}

#[cfg(test)]
mod tests;
