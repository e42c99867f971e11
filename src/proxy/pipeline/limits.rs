//! The two stages of limits, before and after it is known who asks: what they ask of, and who waits for his turn. The judgement
//! itself is `filter::limit`'s.

use std::time::Instant;

use http::HeaderMap;
use ir::{LimitAnswer, LimitPhase};

use super::{Notes, Refusal, Stage};
use crate::error::Reason;
use crate::filter::auth::Identity;
use crate::filter::limit::{Exceeded, LimitAsk, Turn};
use crate::generation::RouteRuntime;
use crate::request::Asked;

impl From<Exceeded> for Refusal {
    fn from(Exceeded: Exceeded) -> Self {
        Reason::RateLimited.into()
    }
}

impl Notes {
    /// How the policy of the limit that refused wants that answered; `None`: as always, or no limit refused.
    pub(super) fn limit_answer(&self, reason: Reason) -> Option<&LimitAnswer> {
        self.limits.answer().filter(|_| reason == Reason::RateLimited)
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
        if runtime.limits.is_empty(LimitPhase::PreAuth) {
            return Ok(None);
        }
        let identity = Identity::default();
        let ask = self.limit_ask(asked, &identity, notes);
        Ok(runtime.limits.ask(LimitPhase::PreAuth, ask, &mut notes.limits)?)
    }

    /// Waits for a turn among them.
    pub(super) async fn wait_early(
        &self,
        turn: Box<Turn>,
        asked: &Asked,
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        self.wait_late(turn, (asked, &Identity::default()), runtime, notes).await
    }

    /// Asks the limits after authentication. What one refuses costs nothing of those that were asked before.
    pub(super) fn ask_late(
        &self,
        asked: &Asked,
        identity: &Identity,
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<Option<Box<Turn>>, Refusal> {
        if runtime.limits.is_empty(LimitPhase::PostAuth) {
            return Ok(None);
        }
        let ask = self.limit_ask(asked, identity, notes);
        Ok(runtime.limits.ask(LimitPhase::PostAuth, ask, &mut notes.limits)?)
    }

    /// Waits for a turn among these.
    pub(super) async fn wait_late(
        &self,
        turn: Box<Turn>,
        (asked, identity): (&Asked, &Identity),
        runtime: &RouteRuntime,
        notes: &mut Notes,
    ) -> Result<(), Refusal> {
        let ask = self.limit_ask(asked, identity, notes);
        Ok(turn.wait(&runtime.limits, ask, &mut notes.limits, || self.now_ns()).await?)
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
