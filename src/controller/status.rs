//! Writes the status of our objects while this replica leads: what differs, at a bounded pace. Decides nothing; what
//! is to be said and when is [`plan`]'s business.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ir::{Applied, KeySetStates};
use tokio::sync::watch;

use crate::outlook::{Marks, Outlook};
use crate::replica::{Context, Leadership, Progress, ReadyPeers, changed, now, stopped};

mod addresses;
mod desired;
mod plan;
mod send;
mod target;

use addresses::Publication;
use plan::{Plan, View};

/// Between two looks at all objects, and between two bursts of writes.
const TICK: Duration = Duration::from_millis(100);
/// When nothing changes.
const IDLE: Duration = Duration::from_secs(5);
/// A look at very many objects is followed by this many times its own length without one: it takes at most a
/// twentieth of a core.
const REST: u32 = 20;

/// What status is made of.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) outlook: watch::Receiver<Arc<Outlook>>,
    pub(crate) applied: watch::Receiver<Applied>,
    pub(crate) key_sets: watch::Receiver<Arc<KeySetStates>>,
    /// `None`: not known yet.
    pub(crate) peers: watch::Receiver<Option<Arc<ReadyPeers>>>,
}

/// Works until `stop`; writes that were begun have ended then.
pub(crate) async fn run(
    context: &Context,
    mut feed: Feed,
    mut leadership: Leadership,
    is_pending: &watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let gate = leadership.clone();
    let publication = Publication::of(&context.settings);
    let mut sender = send::Sender::default();
    let mut progress = Progress::default();
    let mut plan = Plan::default();
    let mut writes = FuturesUnordered::new();
    let mut last = now();
    let mut next_look = last;
    let mut is_new = true;
    let mut leads = false;
    loop {
        let wait = if is_new || plan.is_waiting() { TICK } else { IDLE };
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = tokio::time::sleep_until((last + wait).into()) => {}
            Some((id, answer)) = writes.next() => {
                plan.done(now(), &id, sender.judge(&id, answer));
                continue;
            }
            () = feed.changed() => { is_new = true; continue }
            () = leadership.turns(leads) => { leads = leadership.is_held(); is_new = true; continue }
        }
        last = now();
        progress.take(&feed.outlook.borrow(), *feed.applied.borrow());
        leads = leadership.is_held();
        if !leads {
            // What another leader wrote meanwhile is read from the objects when it is our turn again.
            plan = Plan::default();
            writes.clear();
            is_new = false;
            is_pending.send_if_modified(std::mem::take);
            continue;
        }
        let Some(peers) = feed.peers.borrow().clone() else { continue };
        if (is_new || plan.is_outdated()) && next_look <= last {
            let own = progress.is_ready.then_some(&progress.marks);
            let replicas: Vec<&Marks> = peers.values().chain(own).collect();
            let outlook = Arc::clone(&feed.outlook.borrow());
            let (outlook, scope, publication) = (&*outlook, context.scope, &publication);
            let key_sets = Arc::clone(&feed.key_sets.borrow());
            let key_sets = &key_sets;
            plan.look(last, &View { outlook, replicas: &replicas, scope, publication, key_sets });
            is_new = false;
            next_look = last + now().saturating_duration_since(last) * REST;
        }
        if leadership.holds(last) {
            writes.extend(plan.take(last).into_iter().map(|write| send::send(context, &gate, write)));
        }
        let pending = plan.is_pending();
        is_pending.send_if_modified(|last| std::mem::replace(last, pending) != pending);
    }
    // Each is bounded.
    while writes.next().await.is_some() {}
}

impl Feed {
    /// Waits for any change; for ever when there can be none.
    async fn changed(&mut self) {
        tokio::select! {
            () = changed(&mut self.outlook) => {}
            () = changed(&mut self.applied) => {}
            () = changed(&mut self.key_sets) => {}
            () = changed(&mut self.peers) => {}
        }
    }
}
