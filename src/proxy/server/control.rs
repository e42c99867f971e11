//! The data plane's control thread: builds generations, hands them to the workers, serves the admin interface, samples
//! the process and leads the end. Requests never wait for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Applied, KeySetStates};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{self, MissedTickBehavior};
use tracing::{error, info, warn};

use super::Feeds;
use super::worker::Order;
use crate::admin::{self, Admin};
use crate::generation::{Builder, Generation};
use crate::jwks::Keepers;
use crate::observe::{LastingTask, Memory, Metrics, Sampler, give_free_memory_back};
use crate::settings::Settings;
use crate::task::lasting;
use crate::upstream::Checker;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How often the memory is held against its budget.
const BUDGET_EVERY: Duration = Duration::from_millis(100);

/// What the control thread is made of.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) settings: Arc<Settings>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) feeds: Feeds,
    pub(super) orders: Vec<mpsc::Sender<Order>>,
    pub(super) applied: watch::Sender<Applied>,
    pub(super) key_sets: watch::Sender<Arc<KeySetStates>>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) epoch: Instant,
}

/// Runs until the end has been led. Blocks the thread.
///
/// # Errors
/// The runtime could not be made, or the admin listener not be given to it.
pub(super) fn run(control: Control, admin_listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let shared = Rc::new(Admin::new(Arc::clone(&control.metrics), control.epoch));
        for listener in admin_listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (admin, metrics) = (Rc::clone(&shared), Arc::clone(&control.metrics));
            tokio::task::spawn_local(async move {
                lasting(LastingTask::Admin, &metrics, async || admin::serve(&listener, &admin).await).await;
            });
        }
        let metrics = Arc::clone(&control.metrics);
        tokio::task::spawn_local(async move {
            lasting(LastingTask::Sampler, &metrics, async || sample(Arc::clone(&metrics)).await).await;
        });
        if control.metrics.overload.has_memory_budget() {
            let metrics = Arc::clone(&control.metrics);
            tokio::task::spawn_local(async move {
                lasting(LastingTask::MemoryBudget, &metrics, async || hold_budget(&metrics).await).await;
            });
        }
        control.lead(&shared).await;
        Ok(())
    })
}

async fn sample(metrics: Arc<Metrics>) {
    let mut sampler = Sampler::new(metrics);
    let mut ticks = time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        give_free_memory_back();
        sampler.tick(Instant::now());
    }
}

async fn hold_budget(metrics: &Metrics) {
    let mut ticks = time::interval(BUDGET_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if metrics.overload.is_over() {
            give_free_memory_back();
        }
        let bytes = Memory::read().held;
        match metrics.overload.on_memory(bytes) {
            Some(true) => {
                warn!(bytes, "the memory budget is used up; new requests and connections are turned away")
            }
            Some(false) => info!(bytes, "memory is under its budget again"),
            None => {}
        }
    }
}

impl Control {
    async fn lead(mut self, admin: &Rc<Admin>) {
        let mut builder =
            Builder::new(Arc::clone(&self.metrics), self.settings.backend_names.clone(), self.epoch);
        let mut keepers = Keepers::new(Arc::clone(&self.metrics));
        let mut stopping = self.stopping.clone();
        // What is there already counts as changed.
        self.feeds.endpoints.mark_changed();
        self.feeds.config.mark_changed();
        self.feeds.state.mark_changed();
        let mut checker = Checker::new(Arc::clone(&self.metrics));
        let mut ticks = time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => break,
                Ok(()) = self.feeds.endpoints.changed() => {
                    let endpoints = Arc::clone(&self.feeds.endpoints.borrow_and_update());
                    builder.set_endpoints(endpoints);
                }
                Ok(()) = self.feeds.state.changed() => {
                    self.metrics.set_control_state(self.feeds.state.borrow_and_update().clone());
                }
                () = keepers.changed() => self.tell_key_sets(&keepers, admin),
                Ok(()) = self.feeds.config.changed() => {
                    let config = Arc::clone(&self.feeds.config.borrow_and_update());
                    // Generation 0 stands for "nothing yet": serving it would answer 404 for routes that exist.
                    if config.generation > 0 {
                        let built = catch_unwind(AssertUnwindSafe(|| builder.build(config)));
                        let Ok(generation) = built else {
                            self.metrics.panicked();
                            error!("building a generation panicked; the last one is served on");
                            continue;
                        };
                        checker.set(generation.checks());
                        // Before the first request can need them.
                        keepers.follow(builder.remote_keys());
                        self.tell_key_sets(&keepers, admin);
                        self.publish(generation, admin).await;
                        builder.forget_unused();
                        keepers.follow(builder.remote_keys());
                        self.tell_key_sets(&keepers, admin);
                    }
                }
                _ = ticks.tick() => builder.sample(),
            }
        }
        self.end(admin).await;
    }

    fn tell_key_sets(&self, keepers: &Keepers, admin: &Rc<Admin>) {
        let states = Arc::new(keepers.states());
        self.metrics.set_key_sets(keepers.metrics());
        admin.set_key_sets(Arc::clone(&states));
        self.key_sets.send_if_modified(|last| {
            let is_new = **last != *states;
            *last = states;
            is_new
        });
    }

    /// Hands the generation to all workers and waits until each serves it.
    async fn publish(&self, generation: Arc<Generation>, admin: &Rc<Admin>) {
        let (number, tls) = (generation.config.generation, Arc::clone(&generation.tls));
        // What was refused in the same change makes its reload a partial one.
        self.metrics.set_control_state(self.feeds.state.borrow().clone());
        admin.set_generation(Arc::clone(&generation));
        let (done, mut acknowledged) = mpsc::channel(self.orders.len().max(1));
        for worker in &self.orders {
            if worker.send(Order::Serve(Arc::clone(&generation), done.clone())).await.is_err() {
                warn!("a worker has ended; the others go on");
            }
        }
        drop((done, generation));
        while acknowledged.recv().await.is_some() {}
        self.metrics.set_certificates(tls.certificates, tls.not_after_s);
        self.metrics.set_stapled_until(tls.stapled_until_s);
        self.metrics.set_revocation_ends(tls.revocation_ends_s);
        self.metrics.set_generation(number);
        self.applied.send_replace(Applied { generation: number });
        admin.set_synced();
    }

    async fn end(&self, admin: &Rc<Admin>) {
        admin.set_draining();
        info!(lame_duck = ?self.settings.lame_duck, drain = ?self.settings.drain, "draining");
        self.order_all(|| Order::LameDuck).await;
        time::sleep(self.settings.lame_duck).await;
        self.order_all(|| Order::Drain).await;
        // A worker lets go of its mailbox when it has drained; those that have not by then are cut.
        let drained = async {
            for worker in &self.orders {
                worker.closed().await;
            }
        };
        if time::timeout(self.settings.drain, drained).await.is_err() {
            warn!("requests were still in flight when the drain time was over");
            self.order_all(|| Order::Cut).await;
        }
    }

    async fn order_all(&self, order: impl Fn() -> Order) {
        for worker in &self.orders {
            // A worker that has ended needs no order.
            drop(worker.send(order()).await);
        }
    }
}
