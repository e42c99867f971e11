//! Active checks: asks each endpoint of the backends that want it, once a process, on a thread of its own. What it finds is
//! shared with the workers by atomics; it sends no request of a client.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use ir::ActiveHealth;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet, LocalSet};
use tokio::time;
use tracing::{error, info, warn};
use traffic::{CheckOutcome, CheckRecord, CheckState, EndpointState};

use super::backend::{Backend, Target};
use super::protocol::Protocol;
use crate::observe::{LastingTask, Metrics};
use crate::random::Random;
use crate::task::lasting;

mod probe;

/// How often the lists of endpoints are looked at: one that comes is checked, one that goes is not any more.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Checks that are under way at once.
const CHECKS_MAX: usize = 64;
/// Endpoints that are checked at once, over all backends.
const ENDPOINTS_MAX: usize = 10_000;

/// How the endpoints of one backend are checked.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// Keeps no backend alive that no route names.
    pub(crate) backend: Weak<Backend>,
    pub(crate) protocol: Arc<Protocol>,
    pub(crate) config: Arc<ActiveHealth>,
}

impl Check {
    fn is_like(&self, other: &Self) -> bool {
        self.backend.ptr_eq(&other.backend)
            && Arc::ptr_eq(&self.protocol, &other.protocol)
            && self.config == other.config
    }
}

type Checks = Arc<Vec<Check>>;

/// The handle of the thread, which is started when the first route asks for checks and ends with this.
#[derive(Debug)]
pub(crate) struct Checker {
    checks: Option<watch::Sender<Checks>>,
    metrics: Arc<Metrics>,
}

impl Checker {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { checks: None, metrics }
    }

    /// These are the checks from now on.
    pub(crate) fn set(&mut self, checks: Vec<Check>) {
        if let Some(running) = &self.checks {
            running.send_replace(Arc::new(checks));
            return;
        }
        if checks.is_empty() {
            return;
        }
        let (sender, receiver) = watch::channel(Arc::new(checks));
        let metrics = Arc::clone(&self.metrics);
        let started = thread::Builder::new().name("health".to_owned()).spawn(move || run(receiver, metrics));
        match started {
            Ok(_) => self.checks = Some(sender),
            Err(error) => error!(%error, "no thread for health checks; all endpoints count as healthy"),
        }
    }
}

fn run(checks: watch::Receiver<Checks>, metrics: Arc<Metrics>) {
    let mut sweep = Sweep {
        checks,
        shared: Rc::new(Shared { permits: Semaphore::new(CHECKS_MAX), random: Random::new(), metrics }),
        running: HashMap::new(),
        tasks: JoinSet::new(),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, async move {
            let shared = Rc::clone(&sweep.shared);
            lasting(LastingTask::HealthSweep, &shared.metrics, async || sweep.run().await).await;
        }),
        Err(error) => error!(%error, "no runtime for health checks; all endpoints count as healthy"),
    }
}

/// An endpoint that is being checked.
struct Running {
    check: Check,
    state: Arc<EndpointState>,
    task: AbortHandle,
}

impl Running {
    /// Nobody looks any more: it counts as healthy.
    fn end(&self) {
        self.task.abort();
        self.state.health().set_check(CheckState::Unknown);
    }
}

/// What all checks share.
struct Shared {
    permits: Semaphore,
    random: Random,
    metrics: Arc<Metrics>,
}

/// What is being checked.
struct Sweep {
    checks: watch::Receiver<Checks>,
    shared: Rc<Shared>,
    running: HashMap<(u64, u64), Running>,
    tasks: JoinSet<()>,
}

impl Sweep {
    /// Keeps one task for each endpoint that is to be checked, until nobody can ask for checks any more.
    async fn run(&mut self) {
        loop {
            let wanted = Arc::clone(&self.checks.borrow_and_update());
            self.follow(&wanted);
            let changed = if wanted.is_empty() {
                self.checks.changed().await
            } else {
                time::timeout(SWEEP_EVERY, self.checks.changed()).await.unwrap_or(Ok(()))
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Begins what is to be checked and is not yet, and ends the rest.
    fn follow(&mut self, wanted: &[Check]) {
        let mut seen: HashSet<(u64, u64)> = HashSet::new();
        for check in wanted {
            let Some(backend) = check.backend.upgrade() else { continue };
            for target in backend.targets().iter() {
                let key = (backend.key, target.key);
                let is_same = self.running.get(&key).is_some_and(|running| running.check.is_like(check));
                let has_room = is_same || seen.len() < ENDPOINTS_MAX;
                if !has_room || !seen.insert(key) || is_same {
                    continue;
                }
                let task = self.begin(check.clone(), target.clone());
                let state = Arc::clone(&target.state);
                if let Some(before) = self.running.insert(key, Running { check: check.clone(), state, task })
                {
                    before.task.abort();
                }
            }
        }
        self.running.retain(|key, running| {
            let stays = seen.contains(key);
            if !stays {
                running.end();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
    }

    fn begin(&mut self, check: Check, target: Target) -> AbortHandle {
        let shared = Rc::clone(&self.shared);
        self.tasks.spawn_local(async move {
            let begin = async || watch_endpoint(&check, &target, &shared).await;
            lasting(LastingTask::HealthCheck, &shared.metrics, begin).await;
        })
    }
}

/// Checks one endpoint for ever. The first check comes at any time within the first interval, so that not all come at once.
async fn watch_endpoint(check: &Check, target: &Target, shared: &Shared) {
    let asked = target.with_port(check.config.port);
    let mut record = CheckRecord::default();
    time::sleep(part(check.config.interval, shared.random.next())).await;
    loop {
        let began = Instant::now();
        let outcome = {
            let Ok(_permit) = shared.permits.acquire().await else { return };
            probe::ask(check, &asked).await
        };
        let Some(backend) = check.backend.upgrade() else { return };
        backend.metrics.checked(outcome == CheckOutcome::Passed);
        let health = target.state.health();
        let bounds = (check.config.healthy, check.config.unhealthy);
        if let Some(next) = record.on_check(health.check(), outcome, bounds) {
            tell(&backend, target, (health.check(), next));
            health.set_check(next);
            backend.outlier.alert();
        }
        drop(backend);
        // A tenth more or less, so that checks which fell together come apart.
        let tenth = part(check.config.interval / 5, shared.random.next());
        let rest = check.config.interval * 9 / 10 + tenth;
        time::sleep(rest.saturating_sub(began.elapsed())).await;
    }
}

fn tell(backend: &Backend, target: &Target, (before, now): (CheckState, CheckState)) {
    let (name, endpoint) = (backend.metrics.label(), &target.label);
    match (before, now) {
        // That one is well of which nothing was known changes nothing; nor does another way of being out.
        (CheckState::Unknown, CheckState::Passes | CheckState::Unknown)
        | (CheckState::Passes, CheckState::Passes | CheckState::Unknown)
        | (CheckState::Fails { .. }, CheckState::Fails { .. } | CheckState::Unknown) => {}
        (CheckState::Fails { .. }, CheckState::Passes) => {
            backend.metrics.check_changed(true);
            info!(backend = name, %endpoint, "endpoint passes its health checks again");
        }
        (CheckState::Unknown | CheckState::Passes, CheckState::Fails { unreachable }) => {
            backend.metrics.check_changed(false);
            warn!(backend = name, %endpoint, unreachable, "endpoint fails its health checks");
        }
    }
}

/// Anything from nothing to `whole`.
fn part(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(random % nanos)
}
