//! Which endpoint a try goes to, and what is learned of it. Sends nothing.

use std::time::Instant;

use traffic::{Outcome, Pick};

use super::Tries;
use crate::upstream::backend::{Target, Targets};
use crate::upstream::balance;

impl Tries<'_> {
    /// When the request came here is as good as now for its first try.
    fn now_ns(&self) -> u64 {
        let worker = self.ask.worker;
        worker.nanos(if self.endpoints_tried == 0 { self.began } else { Instant::now() })
    }

    pub(super) fn pick<'t>(&mut self, targets: &'t Targets) -> Option<(usize, &'t Target)> {
        let (worker, load_balancing) = (self.ask.worker, self.ask.load_balancing);
        if balance::is_measured(load_balancing) && self.endpoints_tried > 0 {
            self.began = Instant::now();
        }
        let pick = Pick {
            choice: balance::choice(self.ask.backend, load_balancing, self.ask.hash_key),
            random: worker.random.next(),
            now_ns: self.now_ns(),
            tried: &self.tried,
            outlier: &self.ask.backend.outlier,
            lineup: &targets.lineup,
            slow_start_ns: balance::slow_start_ns(load_balancing),
            prefers_local: balance::prefers_local(load_balancing),
            panic_percent: balance::panic_percent(self.ask.passive_health),
        };
        let index = match self.ask.sticky {
            None => traffic::pick(targets, &pick)?,
            Some(sticky) => traffic::pick_sticky(targets, &pick, balance::session(targets, sticky))?,
        };
        if self.ask.retry.different_endpoint {
            self.tried.insert(index);
        }
        self.endpoints_tried += 1;
        targets.get(index).map(|target| (index, target))
    }

    /// Remembers how a try ended.
    pub(super) fn report(&self, targets: &[Target], index: usize, outcome: Outcome) {
        let backend = self.ask.backend;
        if let (true, Some(target)) = (balance::is_measured(self.ask.load_balancing), targets.get(index)) {
            let now = Instant::now();
            balance::measure(target, self.ask.worker.nanos(now), now - self.began, outcome);
        }
        let Some(health) = self.ask.passive_health else { return };
        // The clock is only read where the time matters.
        let is_timely = backend.outlier.is_timely(outcome, health);
        let now = if is_timely { Instant::now() } else { self.ask.started };
        let now_ns = self.ask.worker.nanos(now);
        if backend.outlier.on_result(targets, index, (now_ns, outcome), health) {
            backend.ejected(targets, index);
        }
    }
}
