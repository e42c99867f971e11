//! The tasks that keep key sets fresh, and what they tell of them. When to fetch is `traffic`'s to say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{JwtProvider, KeySetStates};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};
use traffic::KeysSchedule;

use super::fetch::fetch;
use crate::filter::auth::RemoteKeySet;
use crate::observe::{LastingTask, Metrics, ProviderKeys};
use crate::random::Random;
use crate::task::lasting;
use crate::upstream::SystemTrust;

/// All tasks. Belongs to the control thread and to its set of local tasks.
#[derive(Debug)]
pub(crate) struct Keepers {
    shared: Rc<Shared>,
    tasks: JoinSet<()>,
    kept: Vec<Kept>,
    providers: Vec<(Arc<JwtProvider>, Arc<RemoteKeySet>)>,
}

#[derive(Debug)]
struct Kept {
    set: Arc<RemoteKeySet>,
    task: AbortHandle,
}

/// What the tasks have in common.
#[derive(Debug)]
struct Shared {
    epoch: Instant,
    random: Random,
    system: RefCell<SystemTrust>,
    /// Something about a key set is other than before.
    changed: Notify,
    metrics: Arc<Metrics>,
}

impl Keepers {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let shared = Shared {
            epoch: Instant::now(),
            random: Random::new(),
            system: RefCell::default(),
            changed: Notify::new(),
            metrics,
        };
        Self { shared: Rc::new(shared), tasks: JoinSet::new(), kept: Vec::new(), providers: Vec::new() }
    }

    /// From now on keeps exactly the key sets of these providers. Those that were kept before go on as they are.
    pub(crate) fn follow<'a>(
        &mut self,
        providers: impl Iterator<Item = (&'a Arc<JwtProvider>, &'a Arc<RemoteKeySet>)>,
    ) {
        self.providers = providers.map(|(provider, set)| (Arc::clone(provider), Arc::clone(set))).collect();
        let is_named =
            |set: &Arc<RemoteKeySet>| self.providers.iter().any(|(_, named)| Arc::ptr_eq(named, set));
        self.kept.retain(|kept| {
            let stays = is_named(&kept.set);
            if !stays {
                kept.task.abort();
            }
            stays
        });
        for (_, set) in &self.providers {
            if !self.kept.iter().any(|kept| Arc::ptr_eq(&kept.set, set)) {
                let (kept, shared) = (Arc::clone(set), Rc::clone(&self.shared));
                let task = self.tasks.spawn_local(async move {
                    let begin = async || keep(&kept, &shared).await;
                    lasting(LastingTask::KeySet, &shared.metrics, begin).await;
                });
                self.kept.push(Kept { set: Arc::clone(set), task });
            }
        }
        // What has ended is let go of.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Comes back when [`Self::states`] may be other than before. Cancel-safe: a change is there the next time.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How each key set is, by the providers that use it.
    pub(crate) fn states(&self) -> KeySetStates {
        let mut states: KeySetStates = BTreeMap::new();
        for (provider, set) in &self.providers {
            let of_object = states.entry(provider.source.clone()).or_default();
            of_object.insert(Arc::clone(&provider.name), set.state());
        }
        states
    }

    /// What fetches need to know of the system's authorities; a test that holds it makes them panic.
    #[cfg(test)]
    pub(super) fn system(&self) -> &RefCell<SystemTrust> {
        &self.shared.system
    }

    /// What is counted of each, by provider, in order and each once.
    pub(crate) fn metrics(&self) -> Vec<ProviderKeys> {
        let named = self.providers.iter().map(|(provider, set)| {
            let source = &provider.source;
            (format!("{}/{}/{}", source.namespace, source.name, provider.name), set.metrics())
        });
        // While one generation follows another a provider may have two key sets; the newer one stands later.
        let by_label: BTreeMap<String, _> = named.collect();
        by_label
            .into_iter()
            .map(|(label, metrics)| ProviderKeys { label: label.into(), metrics: Arc::clone(metrics) })
            .collect()
    }
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.ns(Instant::now())
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Fetches for as long as the task is let.
async fn keep(set: &RemoteKeySet, shared: &Shared) {
    let spec = Arc::clone(set.spec());
    let good_at = set.metrics().fetched_at().map(|at| shared.ns(at));
    let mut schedule = KeysSchedule::new(spec.cache_duration, spec.max_stale, shared.now_ns(), good_at);
    let mut last_error: Option<String> = None;
    loop {
        let now_ns = shared.now_ns();
        if !schedule.is_usable(now_ns) && set.expire() {
            warn!(uri = %spec.uri, "the last good key set is too old; its routes answer 503");
            shared.changed.notify_one();
        }
        if schedule.may_ask(now_ns) {
            set.free();
        }
        if !schedule.is_due(now_ns) {
            let wait = Duration::from_nanos(schedule.next_ns(now_ns).saturating_sub(now_ns));
            // Both arms are cancel-safe: whoever asked is seen the next time.
            tokio::select! {
                () = sleep(wait) => {}
                () = set.asked() => {
                    if !schedule.ask(shared.now_ns()) {
                        set.end(false);
                    }
                }
            }
            continue;
        }
        set.begin();
        let fetched = fetch(&spec, &shared.system).await;
        let outcome = fetched
            .map_err(|error| error.to_string())
            .and_then(|keys| set.install(keys, Instant::now()).map_err(|error| error.to_string()));
        let now_ns = shared.now_ns();
        let random = shared.random.next();
        match outcome {
            Ok(()) => {
                schedule.succeeded(now_ns, random);
                if last_error.take().is_some() {
                    info!(uri = %spec.uri, "the key set is fetched again");
                }
            }
            Err(error) => {
                schedule.failed(now_ns, random);
                set.fail(&error);
                if last_error.as_ref() != Some(&error) {
                    let is_served = schedule.is_usable(now_ns);
                    warn!(uri = %spec.uri, error, last_good_is_served = is_served, "the key set cannot be fetched");
                }
                last_error = Some(error);
            }
        }
        set.end(schedule.may_ask(now_ns));
        shared.changed.notify_one();
    }
}
