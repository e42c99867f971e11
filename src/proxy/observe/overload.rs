//! The budgets of the process: memory, and connections of clients. Over one new load is turned away before the process
//! fails. Measured off the path of requests, which looks at one flag.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::value::Counter;

/// What the process may take, and whether it has.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    is_over: AtomicBool,
    /// 0: no budget.
    memory_bytes_max: AtomicU64,
    /// 0: no bound.
    connections_max: AtomicU64,
    /// Of clients, over all workers.
    connections: AtomicU64,
    pub(super) shed: [Counter; SHED.len()],
}

/// What was turned away, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// A request, for memory.
    Request,
    /// A connection, for memory.
    Connection,
    /// A connection, for the number of those that are open.
    ConnectionOverMax,
}

/// In the order of the enum, which is that of the array in [`Overload`]: the labels `what` and `budget`.
pub(super) const SHED: [(Shed, &str, &str); 3] = [
    (Shed::Request, "request", "memory"),
    (Shed::Connection, "connection", "memory"),
    (Shed::ConnectionOverMax, "connection", "connections"),
];

/// Load is taken again under this share of the budget, so that the answer does not change with every sample.
const RECOVERED_PERCENT: u64 = 95;

impl Overload {
    pub(crate) fn set_budgets(&self, memory_bytes_max: Option<u64>, connections_max: Option<u64>) {
        self.memory_bytes_max.store(memory_bytes_max.unwrap_or(0), Ordering::Relaxed);
        self.connections_max.store(connections_max.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether new load is turned away for want of memory.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether there is a budget of memory at all.
    pub(crate) fn has_memory_budget(&self) -> bool {
        self.memory_budget() > 0
    }

    pub(super) fn memory_budget(&self) -> u64 {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// The process takes so much memory now. `Some`: that changes whether it is over its budget.
    pub(crate) fn on_memory(&self, bytes: u64) -> Option<bool> {
        let max = self.memory_budget();
        let was = self.is_over();
        let is = max > 0 && if was { bytes >= recovered(max) } else { bytes >= max };
        self.is_over.store(is, Ordering::Relaxed);
        (is != was).then_some(is)
    }

    /// Why a new connection is turned away, if it is.
    pub(crate) fn refuses_connection(&self) -> Option<Shed> {
        if self.is_over() {
            return Some(Shed::Connection);
        }
        let max = self.connections_max.load(Ordering::Relaxed);
        let open = self.connections.load(Ordering::Relaxed);
        (max > 0 && open >= max).then_some(Shed::ConnectionOverMax)
    }

    /// Every call is followed by one of [`Self::connection_closed`].
    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn shed(&self, what: Shed) {
        if let Some(counter) = self.shed.get(what as usize) {
            counter.inc();
        }
    }
}

fn recovered(max: u64) -> u64 {
    max / 100 * RECOVERED_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_over_from_its_budget_on_and_until_it_is_well_under() {
        let overload = Overload::default();
        assert_eq!(overload.on_memory(u64::MAX), None, "no budget");
        overload.set_budgets(Some(1000), None);
        for (bytes, changed, is_over) in [
            (999, None, false),
            (1000, Some(true), true),
            (999, None, true),
            (950, None, true),
            (949, Some(false), false),
            (999, None, false),
            (2000, Some(true), true),
            (0, Some(false), false),
        ] {
            assert_eq!((overload.on_memory(bytes), overload.is_over()), (changed, is_over), "{bytes}");
        }
    }

    #[test]
    fn connections_are_refused_from_their_number_on() {
        let overload = Overload::default();
        overload.connection_opened();
        overload.connection_opened();
        assert_eq!(overload.refuses_connection(), None);
        overload.set_budgets(None, Some(2));
        assert_eq!(overload.refuses_connection(), Some(Shed::ConnectionOverMax));
        overload.connection_closed();
        assert_eq!(overload.refuses_connection(), None);
    }

    #[test]
    fn the_labels_are_in_the_order_of_the_enum() {
        for (place, (shed, _, _)) in SHED.iter().enumerate() {
            assert_eq!(*shed as usize, place);
        }
    }
}
