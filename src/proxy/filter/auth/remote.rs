//! A key set that is fetched by URL, as the path of requests sees it: the keys of the moment, and whom to ask for newer
//! ones. Fetches nothing itself (see `crate::jwks`), and no request whose key is there waits for anything.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use ir::{Algorithm, Jwk, KeySetPhase, KeySetState, RemoteKeys};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::warn;

use super::key::VerifyingKey;
use crate::observe::KeySetMetrics;

/// How long a request waits for a fetch.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How many requests wait for one key set at once.
const WAITING_MAX: usize = 1024;

/// A fetch may be asked for.
const FREE: u8 = 0;
/// A fetch was asked for, or is under way.
const UNDER_WAY: u8 = 1;
/// One was asked for a short while ago.
const LATELY: u8 = 2;

/// The keys of one source, shared by all providers that name it and by all workers. Outlives generations.
pub(crate) struct RemoteKeySet {
    spec: Arc<RemoteKeys>,
    /// `None`: they never came, or are too old.
    current: ArcSwapOption<FetchedKeys>,
    /// What becomes of a request that lacks a key: [`FREE`], [`UNDER_WAY`] or [`LATELY`].
    asking: AtomicU8,
    /// The last fetch brought nothing.
    is_failing: AtomicBool,
    asked: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    waiting: AtomicUsize,
    error: ArcSwapOption<Arc<str>>,
    metrics: Arc<KeySetMetrics>,
}

/// Keys that came with one fetch.
pub(super) struct FetchedKeys {
    /// No other keys of the process have it, so no verdict by these outlives them.
    version: u64,
    set: Vec<Jwk>,
    keys: Vec<VerifyingKey>,
}

/// The keys of one moment.
pub(super) type CurrentKeys = Guard<Option<Arc<FetchedKeys>>>;

/// What becomes of a request whose key is not there.
#[derive(Debug)]
pub(super) enum Lack {
    /// The newest keys are there, and its key is not among them.
    Settled,
    /// Nobody can tell now.
    Unavailable,
    /// A fetch is under way.
    Wait(KeysWait),
}

/// A place among those that wait for the end of a fetch.
pub(super) struct KeysWait {
    set: Arc<RemoteKeySet>,
    ended: watch::Receiver<u64>,
}

impl FetchedKeys {
    /// `None`: no key can verify anything.
    fn new(set: Vec<Jwk>, spec: &RemoteKeys) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Each provider has a list of its own, which is asked for each token; the keys are shared.
        let allowed: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|known| !known.is_hmac()).collect();
        let mut keys = Vec::with_capacity(set.len());
        for (index, jwk) in set.iter().enumerate() {
            match VerifyingKey::new(jwk, &allowed) {
                Ok(key) => keys.push(key),
                Err(refusal) => warn!(uri = %spec.uri, index, %refusal, "key of a fetched set refused"),
            }
        }
        (!keys.is_empty()).then(|| Self { version: NEXT.fetch_add(1, Ordering::Relaxed), set, keys })
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }
}

/// For the path of requests.
impl RemoteKeySet {
    pub(super) fn current(&self) -> CurrentKeys {
        self.current.load()
    }

    /// A request lacks its key. Asks for a fetch unless there was one a short while ago; takes no lock then.
    pub(super) fn lack(self: &Arc<Self>) -> Lack {
        let asking = self.asking.load(Ordering::Acquire);
        // The keeper tries again by itself, so that a route without keys says so at once, but for its very first moment.
        if self.current.load().is_none() && *self.ended.borrow() > 0 {
            return Lack::Unavailable;
        }
        if asking == LATELY {
            return self.settled();
        }
        let place = self.waiting.fetch_add(1, Ordering::Relaxed);
        // From here on the place is given back by its drop. What ends before this moment is seen below.
        let wait = KeysWait { set: Arc::clone(self), ended: self.ended.subscribe() };
        if place >= WAITING_MAX {
            return Lack::Unavailable;
        }
        match self.asking.compare_exchange(FREE, UNDER_WAY, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.metrics.refetches.inc();
                self.asked.notify_one();
                Lack::Wait(wait)
            }
            Err(UNDER_WAY) => Lack::Wait(wait),
            Err(_) => self.settled(),
        }
    }

    /// What a request gets that has waited, or need not.
    pub(super) fn settled(&self) -> Lack {
        let is_open = self.asking.load(Ordering::Acquire) == UNDER_WAY;
        if is_open || self.is_failing.load(Ordering::Acquire) || self.current.load().is_none() {
            Lack::Unavailable
        } else {
            Lack::Settled
        }
    }
}

/// For the keeper.
impl RemoteKeySet {
    /// `known` is one of the same source, whose keys are good until the first fetch.
    pub(super) fn new(spec: &Arc<RemoteKeys>, known: Option<&Self>) -> Self {
        let metrics = Arc::new(KeySetMetrics::default());
        if let Some(known) = known {
            metrics.took_over(&known.metrics);
        }
        Self {
            spec: Arc::clone(spec),
            current: ArcSwapOption::new(known.and_then(|known| known.current.load_full())),
            // The first fetch is about to begin.
            asking: AtomicU8::new(UNDER_WAY),
            is_failing: AtomicBool::new(false),
            asked: Notify::new(),
            ended: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            error: ArcSwapOption::empty(),
            metrics,
        }
    }

    pub(crate) fn spec(&self) -> &Arc<RemoteKeys> {
        &self.spec
    }

    pub(crate) fn metrics(&self) -> &Arc<KeySetMetrics> {
        &self.metrics
    }

    /// Comes back once a request has asked for a fetch. Cancel-safe: what was asked meanwhile is there the next time.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// A fetch begins.
    pub(crate) fn begin(&self) {
        self.asking.store(UNDER_WAY, Ordering::Release);
    }

    /// A fetch has brought keys. Those that are the same stay, with all that was found good by them.
    ///
    /// # Errors
    /// None of them can verify anything; the old ones stay.
    pub(crate) fn install(&self, set: Vec<Jwk>, now: Instant) -> Result<(), NoUsableKey> {
        let is_new = self.current.load().as_ref().is_none_or(|current| current.set != set);
        if is_new {
            let fetched = FetchedKeys::new(set, &self.spec).ok_or(NoUsableKey)?;
            self.metrics.keys.set(u64::try_from(fetched.keys.len()).unwrap_or(u64::MAX));
            self.current.store(Some(Arc::new(fetched)));
        }
        self.metrics.fetched(now);
        self.error.store(None);
        self.is_failing.store(false, Ordering::Release);
        Ok(())
    }

    /// A fetch has brought nothing.
    pub(crate) fn fail(&self, error: &str) {
        self.metrics.failures.inc();
        self.error.store(Some(Arc::new(Arc::from(error))));
        self.is_failing.store(true, Ordering::Release);
    }

    /// A fetch has ended; `may_ask` says whether a request may ask for the next.
    pub(crate) fn end(&self, may_ask: bool) {
        self.asking.store(if may_ask { FREE } else { LATELY }, Ordering::Release);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Enough time has passed since somebody asked.
    pub(crate) fn free(&self) {
        // Not so where a fetch is under way: its end says what follows.
        self.asking.compare_exchange(LATELY, FREE, Ordering::AcqRel, Ordering::Relaxed).ok();
    }

    /// The keys are too old to be used. True: they were in use.
    pub(crate) fn expire(&self) -> bool {
        self.metrics.keys.set(0);
        self.current.swap(None).is_some()
    }

    pub(crate) fn state(&self) -> KeySetState {
        let current = self.current.load();
        let phase = match (&*current, self.is_failing.load(Ordering::Acquire)) {
            (Some(_), false) => KeySetPhase::Ready,
            (Some(_), true) => KeySetPhase::Failing,
            (None, _) if *self.ended.borrow() == 0 => KeySetPhase::Waiting,
            (None, _) => KeySetPhase::Unavailable,
        };
        KeySetState {
            uri: self.spec.uri.clone(),
            phase,
            keys: current.as_ref().map_or(0, |current| current.keys.len()),
            error: self.error.load().as_deref().cloned(),
        }
    }
}

/// A set without a key that can verify anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key set has no key that can verify")]
pub(crate) struct NoUsableKey;

impl KeysWait {
    /// Waits for the end of the fetch, or long enough.
    pub(super) async fn run(waits: Vec<Self>) {
        let all = async {
            for mut wait in waits {
                // A lost sender says that the key set is gone, and so is whoever waits for it.
                drop(wait.ended.changed().await);
            }
        };
        drop(timeout(WAIT_MAX, all).await);
    }
}

impl Drop for KeysWait {
    fn drop(&mut self) {
        self.set.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for KeysWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysWait").field("uri", &self.set.spec.uri).finish_non_exhaustive()
    }
}

impl fmt::Debug for RemoteKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeySet").field("state", &self.state()).finish_non_exhaustive()
    }
}
