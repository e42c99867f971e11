//! The roll of all streams: which have been listed once, which stand now. Each stream writes its own line; the state for
//! metrics is made of them.

use std::collections::BTreeMap;

use ir::ControlState;
use tokio::sync::watch;

use super::resource::Target;

/// Shared by all streams.
#[derive(Clone, Debug)]
pub(super) struct Roll {
    lines: watch::Sender<BTreeMap<Target, Line>>,
    state: watch::Sender<ControlState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// All of its objects were sent once.
    listed: bool,
    /// Listed, and its watch is open.
    stands: bool,
}

impl Roll {
    /// No stream is listed and none stands.
    pub(super) fn new(targets: &[Target], state: watch::Sender<ControlState>) -> Self {
        let lines = targets.iter().map(|target| (target.clone(), Line::default())).collect();
        let roll = Self { lines: watch::Sender::new(lines), state };
        roll.publish();
        roll
    }

    /// All objects of the stream were sent.
    pub(super) fn listed(&self, target: &Target) {
        self.write(target, |line| Line { listed: true, ..line });
    }

    /// Whether the stream stands now.
    pub(super) fn stands(&self, target: &Target, stands: bool) {
        self.write(target, |line| Line { stands, ..line });
    }

    /// The stream has panicked and begins again.
    pub(super) fn panicked(&self, target: &Target) {
        self.stands(target, false);
        self.state.send_modify(|state| state.watch_restarts += 1);
    }

    /// Waits until every stream was listed once.
    pub(super) async fn all_listed(&self) {
        let mut lines = self.lines.subscribe();
        // The sender is in this very value.
        drop(lines.wait_for(|lines| lines.values().all(|line| line.listed)).await);
    }

    /// Which streams were not listed yet.
    pub(super) fn missing(&self) -> Vec<String> {
        let lines = self.lines.borrow();
        lines.iter().filter(|(_, line)| !line.listed).map(|(target, _)| target.to_string()).collect()
    }

    fn write(&self, target: &Target, change: impl FnOnce(Line) -> Line) {
        self.lines.send_modify(|lines| {
            if let Some(line) = lines.get_mut(target) {
                *line = change(*line);
            }
        });
        self.publish();
    }

    /// The watch of a kind stands when all of its streams do.
    fn publish(&self) {
        let mut watches = BTreeMap::new();
        for (target, line) in &*self.lines.borrow() {
            *watches.entry(target.kind).or_insert(true) &= line.stands;
        }
        self.state.send_if_modified(|state| {
            let new = state.watches != watches;
            state.watches = watches;
            new
        });
    }
}
