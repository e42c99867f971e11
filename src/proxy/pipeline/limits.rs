//! The two stages of limits, before and after it is known who asks: what they ask of, and who waits for his turn. The judgement
//! itself is `filter::limit`'s.

use std::time::Instant;

use http::HeaderMap;

use super::{Notes, Refusal, Stage};
use crate::error::Reason;
use crate::filter::auth::Identity;
use crate::filter::limit::{self, Exceeded, LimitAsk, Turn};
use crate::generation::RouteRuntime;
use crate::request::Asked;

impl From<Exceeded> for Refusal {
    fn from(Exceeded: Exceeded) -> Self {
        Reason::RateLimited.into()
    }
}

impl Stage<'_> {
    /// Asks the limits before authentication; one of them may make the request wait.
    pub(super) fn ask_early(
        &self,
        asked: &Asked,
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<Option<Box<Turn>>, Refusal> {
        let limits = &runtime.limits.before_auth;
        if limits.is_empty() {
            return Ok(None);
        }
        let identity = Identity::default();
        let ask = self.limit_ask(asked, &identity, notes);
        Ok(limit::ask_all(limits, ask, &mut notes.limits)?)
    }

    /// Waits for a turn among them.
    pub(super) async fn wait_early(
        &self,
        turn: Box<Turn>,
        asked: &Asked,
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        let identity = Identity::default();
        let ask = self.limit_ask(asked, &identity, notes);
        Ok(turn.wait(&runtime.limits.before_auth, ask, &mut notes.limits, || self.now_ns()).await?)
    }

    /// Asks the limits after authentication. What one refuses costs nothing of those that were asked before.
    pub(super) fn ask_late(
        &self,
        asked: &Asked,
        identity: &Identity,
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<Option<Box<Turn>>, Refusal> {
        let limits = &runtime.limits;
        if limits.after_auth.is_empty() {
            return Ok(None);
        }
        let ask = self.limit_ask(asked, identity, notes);
        limit::ask_all(&limits.after_auth, ask, &mut notes.limits).map_err(|exceeded| {
            limit::give_back(&limits.before_auth, asked, &Identity::default());
            exceeded.into()
        })
    }

    /// Waits for a turn among these.
    pub(super) async fn wait_late(
        &self,
        turn: Box<Turn>,
        (asked, identity): (&Asked, &Identity),
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        let limits = &runtime.limits;
        let ask = self.limit_ask(asked, identity, notes);
        let passed = turn.wait(&limits.after_auth, ask, &mut notes.limits, || self.now_ns()).await;
        if passed.is_err() {
            limit::give_back(&limits.before_auth, asked, &Identity::default());
        }
        Ok(passed?)
    }

    /// Charges what the answer says that it has cost.
    pub(super) fn settle(&self, runtime: &RouteRuntime, notes: &mut Notes, headers: &mut HeaderMap) {
        runtime.limits.settle(&mut notes.limits, headers, || self.now_ns());
    }

    /// Who has not waited since the request began asks at that time, which costs no look at the clock.
    fn limit_ask<'a>(&self, asked: &'a Asked, identity: &'a Identity, notes: &Notes) -> LimitAsk<'a> {
        let has_waited = notes.limits.has_waited;
        let now_ns = if has_waited { self.now_ns() } else { self.worker.nanos(self.started) };
        LimitAsk { asked, identity, now_ns }
    }

    fn now_ns(&self) -> u64 {
        self.worker.nanos(Instant::now())
    }
}
