//! What is named, how often, and how far fetching it is. Fetches nothing and waits for nothing; the time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use ir::ObjectRef;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::resource::Target;

/// Who waits for an object.
pub(super) type Ticket = u64;

/// The Secrets and ConfigMaps that are named.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    wanted: BTreeMap<ObjectRef, Wanted>,
    queue: VecDeque<ObjectRef>,
    later: BTreeSet<(Instant, ObjectRef)>,
    last_fetch: u64,
    /// How many objects each ticket still waits for.
    tickets: HashMap<Ticket, usize>,
    /// Tickets that wait for nothing more.
    called: Vec<Ticket>,
}

/// What a fetch came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// The version, or that there is no such object.
    Looked(Option<String>),
    /// There is no use in waiting for it.
    Forbidden(Instant),
    /// To be tried again then.
    Failed(Instant),
}

#[derive(Debug, Default)]
struct Wanted {
    count: usize,
    fetch: Fetch,
    /// The version that was fetched; `None`: there was none.
    version: Option<String>,
    waiting: Vec<Ticket>,
    backoff: Backoff,
}

/// How far the fetching of one object is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Fetch {
    #[default]
    Idle,
    Queued,
    /// `stale`: it changed meanwhile.
    Running {
        number: u64,
        stale: bool,
    },
    Later(Instant),
}

impl Shelf {
    /// Names objects once more. The ticket is called when those that are not known yet were looked for, and those of `also`,
    /// which are named already.
    pub(super) fn take(&mut self, names: Vec<ObjectRef>, also: &[ObjectRef], ticket: Ticket) {
        let mut waits_for = 0;
        for name in also {
            if let Some(wanted) = self.wanted.get_mut(name).filter(|wanted| !wanted.waiting.is_empty()) {
                wanted.waiting.push(ticket);
                waits_for += 1;
            }
        }
        for name in names {
            let wanted = self.wanted.entry(name.clone()).or_default();
            wanted.count += 1;
            if wanted.count == 1 {
                wanted.fetch = Fetch::Queued;
                self.queue.push_back(name);
            }
            let looked_for = wanted.count > 1 && wanted.waiting.is_empty();
            if !looked_for {
                wanted.waiting.push(ticket);
                waits_for += 1;
            }
        }
        if waits_for == 0 {
            self.called.push(ticket);
        } else {
            self.tickets.insert(ticket, waits_for);
        }
    }

    /// Takes the tickets that wait for nothing more.
    pub(super) fn called(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.called)
    }

    /// Names objects once less; returns those that are named no more.
    pub(super) fn release(&mut self, names: Vec<ObjectRef>) -> Vec<ObjectRef> {
        let mut gone = Vec::new();
        for name in names {
            let Some(wanted) = self.wanted.get_mut(&name) else { continue };
            wanted.count = wanted.count.saturating_sub(1);
            if wanted.count == 0
                && let Some(wanted) = self.wanted.remove(&name)
            {
                if let Fetch::Later(due) = wanted.fetch {
                    self.later.remove(&(due, name.clone()));
                }
                self.looked_for(wanted.waiting);
                gone.push(name);
            }
        }
        gone
    }

    /// Compares what is kept with a new list.
    pub(super) fn listed(&mut self, target: &Target, versions: &HashMap<ObjectRef, String>) {
        let covered = self.wanted.keys().filter(|object| target.covers(object));
        for object in covered.cloned().collect::<Vec<_>>() {
            self.changed(&object, versions.get(&object).map(String::as_str));
        }
    }

    /// An object has this version now; `None`: it is gone. Of that only a fetch makes sure.
    pub(super) fn changed(&mut self, object: &ObjectRef, version: Option<&str>) {
        let Some(wanted) = self.wanted.get_mut(object) else { return };
        match &mut wanted.fetch {
            Fetch::Idle if wanted.version.as_deref() == version => {}
            Fetch::Idle => {
                wanted.fetch = Fetch::Queued;
                self.queue.push_back(object.clone());
            }
            Fetch::Running { stale, .. } => *stale = true,
            Fetch::Later(due) => {
                self.later.remove(&(*due, object.clone()));
                wanted.fetch = Fetch::Queued;
                self.queue.push_back(object.clone());
            }
            Fetch::Queued => {}
        }
    }

    /// What is to be fetched next, and the number of the fetch.
    pub(super) fn next_fetch(&mut self, now: Instant) -> Option<(u64, ObjectRef)> {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, object)) = self.later.pop_first()
                && let Some(wanted) = self.wanted.get_mut(&object)
            {
                wanted.fetch = Fetch::Queued;
                self.queue.push_back(object);
            }
        }
        while let Some(object) = self.queue.pop_front() {
            // One that was given up, or that stands in the queue twice because it was given up and named again.
            let Some(wanted) = self.wanted.get_mut(&object) else { continue };
            if wanted.fetch == Fetch::Queued {
                self.last_fetch += 1;
                wanted.fetch = Fetch::Running { number: self.last_fetch, stale: false };
                return Some((self.last_fetch, object));
            }
        }
        None
    }

    /// When something is to be fetched again that failed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    /// Whether this fetch is the one that counts: not one from before the object was given up.
    pub(super) fn is_current(&self, object: &ObjectRef, number: u64) -> bool {
        let fetch = self.wanted.get(object).map(|wanted| &wanted.fetch);
        matches!(fetch, Some(Fetch::Running { number: running, .. }) if *running == number)
    }

    /// How often in a row fetching this object failed.
    pub(super) fn failures(&self, object: &ObjectRef) -> Backoff {
        self.wanted.get(object).map(|wanted| wanted.backoff).unwrap_or_default()
    }

    /// Notes what a fetch came to.
    pub(super) fn fetched(&mut self, object: &ObjectRef, number: u64, answer: Answer) {
        if !self.is_current(object, number) {
            return;
        }
        let Some(wanted) = self.wanted.get_mut(object) else { return };
        let stale = matches!(wanted.fetch, Fetch::Running { stale: true, .. });
        let (next, looked_for) = match answer {
            Answer::Looked(version) => {
                wanted.version = version;
                wanted.backoff.reset();
                (if stale { Fetch::Queued } else { Fetch::Idle }, true)
            }
            Answer::Forbidden(due) => (Fetch::Later(due), true),
            Answer::Failed(due) => {
                // The length of the wait was made of this already; here the failure is counted.
                wanted.backoff.next(0);
                (Fetch::Later(due), false)
            }
        };
        match &next {
            Fetch::Queued => self.queue.push_back(object.clone()),
            Fetch::Later(due) => drop(self.later.insert((*due, object.clone()))),
            Fetch::Idle | Fetch::Running { .. } => {}
        }
        wanted.fetch = next;
        if looked_for {
            let waiting = std::mem::take(&mut wanted.waiting);
            self.looked_for(waiting);
        }
    }

    fn looked_for(&mut self, waiting: Vec<Ticket>) {
        for ticket in waiting {
            let Some(left) = self.tickets.get_mut(&ticket) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.tickets.remove(&ticket);
                self.called.push(ticket);
            }
        }
    }
}
