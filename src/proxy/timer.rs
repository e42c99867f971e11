//! Coarse timers of one worker: arming one is a store, no heap of deadlines, no system call.
//!
//! Idle, read and write timeouts are seconds long and are armed several times a request but almost never fire.
//! A worker ticks every [`TICK`]; a tick looks at each live timer once. A timer never fires early and at most two
//! ticks late.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How often a worker looks at its timers.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const OFF: u64 = u64::MAX;

thread_local! {
    static REGISTRY: Registry = Registry { start: Instant::now(), now_ms: Cell::new(0), entries: RefCell::new(Vec::new()) };
}

struct Registry {
    start: Instant,
    now_ms: Cell<u64>,
    entries: RefCell<Vec<Weak<Entry>>>,
}

struct Entry {
    deadline_ms: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// One deadline that can be moved for the price of a store. Off when made.
pub(crate) struct Timer(Rc<Entry>);

impl Timer {
    pub(crate) fn new() -> Self {
        let entry = Rc::new(Entry { deadline_ms: Cell::new(OFF), waker: RefCell::new(None) });
        REGISTRY.with(|registry| registry.entries.borrow_mut().push(Rc::downgrade(&entry)));
        Self(entry)
    }

    /// (Re)starts the timer; it expires not before `after` has passed.
    pub(crate) fn arm(&self, after: Duration) {
        let after_ms = u64::try_from((after + TICK).as_millis()).unwrap_or(OFF);
        let now_ms = REGISTRY.with(|registry| registry.now_ms.get());
        self.0.deadline_ms.set(now_ms.saturating_add(after_ms));
    }

    pub(crate) fn disarm(&self) {
        self.0.deadline_ms.set(OFF);
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.0.deadline_ms.get() != OFF
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn poll_expired(&self, cx: &mut Context<'_>) -> bool {
        let deadline = self.0.deadline_ms.get();
        if deadline == OFF {
            return false;
        }
        if REGISTRY.with(|registry| registry.now_ms.get()) >= deadline {
            return true;
        }
        let mut waker = self.0.waker.borrow_mut();
        match waker.as_mut() {
            Some(old) => old.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("deadline_ms", &self.0.deadline_ms.get()).finish()
    }
}

/// Looks at all timers of this thread. The worker calls it every [`TICK`].
pub(crate) fn tick() {
    REGISTRY.with(|registry| {
        let now_ms = u64::try_from(registry.start.elapsed().as_millis()).unwrap_or(OFF - 1);
        registry.now_ms.set(now_ms);
        let mut expired = Vec::new();
        registry.entries.borrow_mut().retain(|entry| {
            let Some(entry) = entry.upgrade() else { return false };
            if entry.deadline_ms.get() <= now_ms {
                expired.extend(entry.waker.borrow_mut().take());
            }
            true
        });
        // Woken outside the borrow: a waker may drop a task that owns a timer.
        expired.into_iter().for_each(Waker::wake);
    });
}
