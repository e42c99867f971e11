//! One route, compiled: its matches and its prepared filters. Must not know other routes.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderValue;

use crate::condition::CompiledMatch;
use crate::filter::{PreparedCors, PreparedPath, PreparedRedirect, RedirectError, RedirectFrom, Weights};
use crate::path::PathError;
use crate::precedence::Ranked;

/// A small number that stands for one `ir::RouteId` in every table compiled from the one before, so that state
/// beside the table can live in vectors. A number that became free is given to another route one compile later at
/// the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteSlot(pub(crate) u32);

impl RouteSlot {
    /// Less than [`crate::Table::slots_end`].
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A route with everything prepared that a request would otherwise have to.
#[derive(Debug)]
pub struct CompiledRoute {
    /// What is served. It differs from what was configured only where that could not be compiled: then the action
    /// is `Fail`.
    pub route: Arc<ir::Route>,
    /// The very value of the configuration, by which the next compile knows it again.
    pub(crate) source: Arc<ir::Route>,
    pub(crate) matches: Box<[CompiledMatch]>,
    slot: RouteSlot,
    label: Arc<str>,
    cors: Option<PreparedCors>,
    new_path: Option<PreparedPath>,
    redirect: Option<PreparedRedirect>,
    weights: Weights,
    problem: Option<String>,
}

impl CompiledRoute {
    pub(crate) fn new(source: Arc<ir::Route>, slot: RouteSlot) -> Self {
        let mut problems = Vec::new();
        let matches =
            source.matches.iter().map(|matched| CompiledMatch::new(matched, &mut problems)).collect();
        let cors = source.cors.as_ref().map(|cors| PreparedCors::new(cors, &source.matches));
        let mut compiled = Self {
            route: Arc::clone(&source),
            matches,
            slot,
            label: source.id.label().into(),
            cors,
            new_path: None,
            redirect: None,
            weights: Weights::default(),
            problem: None,
            source,
        };
        compiled.prepare_action(&mut problems);
        if !problems.is_empty() {
            let action = ir::Action::Fail(ir::FailReason::InvalidRule);
            compiled.route = Arc::new(ir::Route { action, ..ir::Route::clone(&compiled.source) });
            compiled.problem = Some(problems.join("; "));
        }
        compiled
    }

    fn prepare_action(&mut self, problems: &mut Vec<String>) {
        match &self.source.action {
            ir::Action::Forward { backends, rewrite, .. } => {
                self.weights = Weights::new(backends);
                match rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()).map(PreparedPath::new) {
                    Some(Ok(new_path)) => self.new_path = Some(new_path),
                    Some(Err(problem)) => problems.push(problem),
                    None => {}
                }
            }
            ir::Action::Redirect(redirect) => match PreparedRedirect::new(redirect) {
                Ok(redirect) => self.redirect = Some(redirect),
                Err(problem) => problems.push(problem),
            },
            ir::Action::Respond(_) | ir::Action::Fail(_) => {}
        }
    }

    pub fn id(&self) -> &ir::RouteId {
        &self.route.id
    }

    pub fn slot(&self) -> RouteSlot {
        self.slot
    }

    /// `namespace/name/rule`: the metric label and the name in `explain`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub fn cors(&self) -> Option<&PreparedCors> {
        self.cors.as_ref()
    }

    /// What could not be compiled; such a route is answered 500.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The index of the backend that an evenly drawn number picks. `None`: there is none with a weight.
    pub fn pick_backend(&self, random: u64) -> Option<usize> {
        self.weights.pick(random)
    }

    /// How much of a path that this match took is its prefix, in bytes, without a slash at the end. A path that
    /// matched otherwise counts whole.
    pub fn matched_prefix_bytes(&self, match_index: usize, path: &str) -> usize {
        self.matches.get(match_index).map_or(path.len(), |matched| matched.prefix_bytes(path))
    }

    /// The path that the upstream is asked for, canonical; that of the request where the route rewrites none.
    ///
    /// # Errors
    /// The new path has no canonical form; answered 500, since it is the rule that is wrong.
    pub fn upstream_path<'a>(&'a self, match_index: usize, path: &'a str) -> Result<Cow<'a, str>, PathError> {
        match &self.new_path {
            Some(new_path) => new_path.apply(path, self.matched_prefix_bytes(match_index, path)),
            None => Ok(Cow::Borrowed(path)),
        }
    }

    /// Whether [`Self::upstream_path`] can differ from the path that it is given.
    pub fn rewrites_path(&self) -> bool {
        self.new_path.is_some()
    }

    /// The `Location` of a route that redirects; `None` for others.
    pub fn redirect_location(&self, from: &RedirectFrom<'_>) -> Option<Result<HeaderValue, RedirectError>> {
        self.redirect.as_ref().map(|redirect| redirect.location(from))
    }

    /// One match as it is configured, with all that precedence looks at.
    pub(crate) fn ranked(&self, match_index: u32) -> Option<Ranked<'_>> {
        let matched = self.source.matches.get(usize::try_from(match_index).ok()?)?;
        Some(Ranked { route: &self.source, matched, match_index })
    }
}
