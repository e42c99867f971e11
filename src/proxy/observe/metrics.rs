//! The metrics of the process and the handles that the data plane counts with. Formats nothing (see `collect`).

use std::mem;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use arc_swap::ArcSwap;
use ir::ControlState;
use traffic::BreakerKind;

use super::collect;
use super::extras::ExtraMetrics;
use super::key_set::ProviderKeys;
use super::lasting::LastingTask;
use super::overload::Overload;
use super::passthrough::PassthroughMetrics;
use super::password::PasswordMetrics;
use super::process::Memory;
use super::route::RouteMetrics;
use super::value::{self, Alive, Counter, FloatGauge, Gauge};

/// Everything that `/metrics` tells. One per process.
///
/// The handles of routes, limits, backends and listeners are asked for when a generation is built; the same label
/// gives the same handle as long as someone holds it, and its series end with the last holder.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(super) config_generation: Gauge,
    pub(super) control: ArcSwap<ControlState>,
    pub(super) reloads_applied: Counter,
    pub(super) reloads_partial: Counter,
    pub(super) access_log_dropped: Counter,
    /// By [`LastingTask`].
    pub(super) task_restarts: [Counter; LastingTask::ALL.len()],
    pub(super) panics: Counter,
    pub(super) tunnels: Gauge,
    pub(crate) passwords: Arc<PasswordMetrics>,
    pub(super) key_sets: ArcSwap<Vec<ProviderKeys>>,
    pub(crate) overload: Overload,
    pub(super) certificates: Gauge,
    pub(super) certificates_not_after_s: Gauge,
    pub(super) stapled_until_s: Gauge,
    pub(super) revocation_ends_s: Gauge,
    pub(super) process: ProcessGauges,
    pub(super) routes: Alive<Arc<str>, RouteMetrics>,
    pub(super) limits: Alive<(Arc<str>, Arc<str>), LimitMetrics>,
    pub(super) backends: Alive<Arc<str>, BackendMetrics>,
    pub(super) listeners: Alive<Arc<str>, ListenerMetrics>,
    pub(super) passthroughs: Alive<Arc<str>, PassthroughMetrics>,
    pub(super) extras: Alive<Arc<str>, ExtraMetrics>,
    unmatched: Arc<RouteMetrics>,
    workers: Box<[WorkerCounts]>,
}

/// Set by [`super::Sampler`].
#[derive(Debug, Default)]
pub(super) struct ProcessGauges {
    pub(super) memory_bytes: Gauge,
    pub(super) memory_held_bytes: Gauge,
    pub(super) cpu_percent: FloatGauge,
    pub(super) requests_per_second: FloatGauge,
}

impl ProcessGauges {
    pub(super) fn set_memory(&self, memory: Memory) {
        self.memory_bytes.set(memory.resident);
        self.memory_held_bytes.set(memory.held);
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        // As many as worker threads can run at once.
        let shards = thread::available_parallelism().map_or(1, NonZero::get).min(SHARDS_MAX);
        let routes = Alive::default();
        let unmatched =
            routes.get_or_make(Arc::from(UNMATCHED), |label| RouteMetrics::new(Arc::clone(label), shards));
        Arc::new(Self {
            config_generation: Gauge::default(),
            control: ArcSwap::default(),
            reloads_applied: Counter::default(),
            reloads_partial: Counter::default(),
            access_log_dropped: Counter::default(),
            task_restarts: Default::default(),
            panics: Counter::default(),
            tunnels: Gauge::default(),
            passwords: Arc::default(),
            key_sets: ArcSwap::default(),
            overload: Overload::default(),
            certificates: Gauge::default(),
            certificates_not_after_s: Gauge::default(),
            stapled_until_s: Gauge::default(),
            revocation_ends_s: Gauge::default(),
            process: ProcessGauges::default(),
            routes,
            limits: Alive::default(),
            backends: Alive::default(),
            listeners: Alive::default(),
            passthroughs: Alive::default(),
            extras: Alive::default(),
            unmatched,
            workers: (0..shards).map(|_| WorkerCounts::default()).collect(),
        })
    }

    /// The metrics of the route with this label ([`ir::RouteId::label`]).
    pub(crate) fn route(&self, label: &str) -> Arc<RouteMetrics> {
        let shards = self.workers.len();
        self.routes.get_or_make(Arc::from(label), |label| RouteMetrics::new(Arc::clone(label), shards))
    }

    /// For requests that no route takes.
    pub(crate) fn unmatched(&self) -> &Arc<RouteMetrics> {
        &self.unmatched
    }

    /// The metrics of one limit of a policy.
    pub(crate) fn limit(&self, policy: &ir::ObjectRef, limit: &Arc<str>) -> Arc<LimitMetrics> {
        let policy = format!("{}/{}", policy.namespace, policy.name);
        self.limits.get_or_make((Arc::from(policy), Arc::clone(limit)), |(policy, limit)| LimitMetrics {
            policy: Arc::clone(policy),
            limit: Arc::clone(limit),
            rejected: Counter::default(),
            shadowed: Counter::default(),
            evicted: Counter::default(),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            places: Gauge::default(),
        })
    }

    /// The metrics of the backend with this label (its id as text).
    pub(crate) fn backend(&self, label: &str) -> Arc<BackendMetrics> {
        self.backends.get_or_make(Arc::from(label), |label| BackendMetrics {
            label: Arc::clone(label),
            connections: Gauge::default(),
            connect_failures: Counter::default(),
            ejections: Counter::default(),
            breaker_state: Gauge::default(),
            breaker_open: Counter::default(),
            endpoints: Default::default(),
            checks_passed: Counter::default(),
            checks_failed: Counter::default(),
            became_healthy: Counter::default(),
            became_failing: Counter::default(),
            breaker_rejected: Default::default(),
            adaptive_rejected: Counter::default(),
            adaptive_limit: Gauge::default(),
        })
    }

    /// The metrics of the listener with this label (its address).
    pub(crate) fn listener(&self, label: &str) -> Arc<ListenerMetrics> {
        self.listeners.get_or_make(Arc::from(label), |label| ListenerMetrics {
            label: Arc::clone(label),
            connections: Gauge::default(),
            handshakes: Default::default(),
            proxy_headers_refused: Counter::default(),
        })
    }

    /// The metrics of the route with this label whose connections are passed through.
    pub(crate) fn passthrough(&self, label: &str) -> Arc<PassthroughMetrics> {
        self.passthroughs.get_or_make(Arc::from(label), PassthroughMetrics::new)
    }

    /// The metrics of the extras of the route with this label.
    pub(crate) fn extras(&self, label: &str) -> Arc<ExtraMetrics> {
        self.extras.get_or_make(Arc::from(label), ExtraMetrics::new)
    }

    /// So many certificates are served now, and the first of them ends then (seconds since 1970).
    pub(crate) fn set_certificates(&self, count: usize, not_after_s: u64) {
        self.certificates.set(u64::try_from(count).unwrap_or(u64::MAX));
        self.certificates_not_after_s.set(not_after_s);
    }

    /// The first of the OCSP responses that are stapled ends then (seconds since 1970).
    pub(crate) fn set_stapled_until(&self, next_update_s: u64) {
        self.stapled_until_s.set(next_update_s);
    }

    /// The first of the revocation lists of clients' authorities ends then (seconds since 1970).
    pub(crate) fn set_revocation_ends(&self, next_update_s: u64) {
        self.revocation_ends_s.set(next_update_s);
    }

    /// All workers serve this generation. Counts as a reload, `partial` while objects are refused.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.config_generation.set(generation);
        match self.control.load().rejected_objects {
            0 => self.reloads_applied.inc(),
            _ => self.reloads_partial.inc(),
        }
    }

    /// The control plane is so now.
    pub(crate) fn set_control_state(&self, state: ControlState) {
        self.control.store(Arc::new(state));
    }

    /// These key sets are fetched now, by provider.
    pub(crate) fn set_key_sets(&self, key_sets: Vec<ProviderKeys>) {
        self.key_sets.store(Arc::new(key_sets));
    }

    /// A panic was caught.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// The panic was of a task that begins again.
    pub(crate) fn task_panicked(&self, task: LastingTask) {
        self.panicked();
        if let Some(counter) = self.task_restarts.get(task as usize) {
            counter.inc();
        }
    }

    /// A tunnel begins. Every call is followed by one of [`Metrics::tunnel_closed`].
    pub(crate) fn tunnel_opened(&self) {
        self.tunnels.inc();
    }

    pub(crate) fn tunnel_closed(&self) {
        self.tunnels.dec();
    }

    /// A request's head is complete. Every call is followed by one of [`Metrics::request_finished`].
    pub(crate) fn request_started(&self) {
        if let Some(counts) = self.workers.get(value::shard(self.workers.len())) {
            counts.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer has ended, or the client has gone.
    pub(crate) fn request_finished(&self) {
        if let Some(counts) = self.workers.get(value::shard(self.workers.len())) {
            counts.finished.fetch_add(1, Ordering::Release);
        }
    }

    /// Requests that have finished since the start.
    pub(super) fn requests_finished(&self) -> u64 {
        self.workers.iter().map(|counts| counts.finished.load(Ordering::Acquire)).sum()
    }

    /// Read again while requests finish meanwhile: with the same sum before and after, no counter of it has
    /// moved, and the difference is that of one moment. On a machine too busy for that the last sums count,
    /// which may tell too few, and never more than there were.
    pub(super) fn requests_in_flight(&self) -> u64 {
        let mut finished = self.requests_finished();
        for _ in 0..CONSISTENT_READS {
            let started = self.requests_started();
            let before = mem::replace(&mut finished, self.requests_finished());
            if before == finished {
                return started.saturating_sub(finished);
            }
        }
        self.requests_started().saturating_sub(self.requests_finished())
    }

    fn requests_started(&self) -> u64 {
        self.workers.iter().map(|counts| counts.started.load(Ordering::Acquire)).sum()
    }

    /// All metrics in the Prometheus text format, version 0.0.4. Takes milliseconds for thousands of routes, so
    /// it belongs on the control thread.
    pub(crate) fn render(&self) -> String {
        collect::render(self)
    }
}

/// The metrics of one limit of a policy.
#[derive(Debug)]
pub(crate) struct LimitMetrics {
    pub(super) policy: Arc<str>,
    pub(super) limit: Arc<str>,
    /// Requests that were refused.
    pub(crate) rejected: Counter,
    /// Requests that Enforce would have refused.
    pub(crate) shadowed: Counter,
    /// Keys that were forgotten before their bucket was full again.
    pub(crate) evicted: Counter,
    /// Requests that hold a place of a concurrency limit.
    pub(crate) in_flight: Gauge,
    /// Requests that wait for one.
    pub(crate) queued: Gauge,
    /// How many places the limit has; 0: it counts rates.
    pub(crate) places: Gauge,
}

/// The metrics of one backend.
#[derive(Debug)]
pub(crate) struct BackendMetrics {
    pub(super) label: Arc<str>,
    pub(super) connections: Gauge,
    pub(super) connect_failures: Counter,
    pub(super) ejections: Counter,
    pub(super) breaker_state: Gauge,
    pub(super) breaker_open: Counter,
    /// By [`EndpointCondition`].
    pub(super) endpoints: [Gauge; EndpointCondition::ALL.len()],
    pub(super) checks_passed: Counter,
    pub(super) checks_failed: Counter,
    pub(super) became_healthy: Counter,
    pub(super) became_failing: Counter,
    pub(super) breaker_rejected: [Counter; BREAKER_KINDS.len()],
    pub(super) adaptive_rejected: Counter,
    /// 0: no rule asks for one.
    pub(super) adaptive_limit: Gauge,
}

impl BackendMetrics {
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// A connection stands. Every call is followed by one of [`BackendMetrics::connection_closed`].
    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_failures.inc();
    }

    /// One of its endpoints was ejected.
    pub(crate) fn ejected(&self) {
        self.ejections.inc();
    }

    /// The backend had as many requests as it can do.
    pub(crate) fn adaptive_rejected(&self) {
        self.adaptive_rejected.inc();
    }

    pub(crate) fn set_adaptive_limit(&self, limit: u32) {
        self.adaptive_limit.set(limit.into());
    }

    /// So many of its endpoints are in each condition now.
    pub(crate) fn set_endpoints(&self, counts: [u64; EndpointCondition::ALL.len()]) {
        for (gauge, count) in self.endpoints.iter().zip(counts) {
            gauge.set(count);
        }
    }

    /// 0: closed, 1: half open, 2: open.
    pub(crate) fn set_breaker(&self, state: u64) {
        self.breaker_state.set(state);
    }

    /// A request was refused because failures have opened the breaker.
    pub(crate) fn breaker_was_open(&self) {
        self.breaker_open.inc();
    }

    /// One of its endpoints was checked.
    pub(crate) fn checked(&self, passed: bool) {
        if passed { self.checks_passed.inc() } else { self.checks_failed.inc() }
    }

    /// The checks of an endpoint began to fail, or pass again.
    pub(crate) fn check_changed(&self, passes: bool) {
        if passes { self.became_healthy.inc() } else { self.became_failing.inc() }
    }

    pub(crate) fn breaker_rejected(&self, kind: BreakerKind) {
        if let Some(counter) = self.breaker_rejected.get(kind as usize) {
            counter.inc();
        }
    }
}

/// How an endpoint is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointCondition {
    Healthy,
    /// It gets few requests until one has succeeded.
    OnTrial,
    Ejected,
    /// Its health checks fail.
    Failing,
}

impl EndpointCondition {
    /// In their order.
    pub(crate) const ALL: [Self; 4] = [Self::Healthy, Self::OnTrial, Self::Ejected, Self::Failing];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::OnTrial => "on_trial",
            Self::Ejected => "ejected",
            Self::Failing => "failing",
        }
    }
}

/// The metrics of one listener.
#[derive(Debug)]
pub(crate) struct ListenerMetrics {
    pub(super) label: Arc<str>,
    pub(super) connections: Gauge,
    pub(super) handshakes: [Counter; HANDSHAKE_RESULTS.len()],
    pub(super) proxy_headers_refused: Counter,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeResult {
    Ok,
    /// By a ticket of an earlier connection.
    Resumed,
    /// There is none for the name that the client asked for, and no default one.
    NoCertificate,
    Timeout,
    /// The client left, has nothing in common with us, or does not speak TLS.
    Failed,
}

impl ListenerMetrics {
    /// A client's connection was accepted. Every call is followed by one of
    /// [`ListenerMetrics::connection_closed`].
    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    /// A connection that must begin with a header of the PROXY protocol did not.
    pub(crate) fn proxy_header_refused(&self) {
        self.proxy_headers_refused.inc();
    }

    pub(crate) fn handshake_ended(&self, result: HandshakeResult) {
        if let Some(counter) = self.handshakes.get(result as usize) {
            counter.inc();
        }
    }
}

/// In the order of the enum, which is that of the array in [`ListenerMetrics`].
pub(super) const HANDSHAKE_RESULTS: [(HandshakeResult, &str); 5] = [
    (HandshakeResult::Ok, "ok"),
    (HandshakeResult::Resumed, "resumed"),
    (HandshakeResult::NoCertificate, "no_certificate"),
    (HandshakeResult::Timeout, "timeout"),
    (HandshakeResult::Failed, "failed"),
];

/// In the order of the enum, which is that of the array in [`BackendMetrics`].
pub(super) const BREAKER_KINDS: [(BreakerKind, &str); 4] = [
    (BreakerKind::Requests, "requests"),
    (BreakerKind::Pending, "pending"),
    (BreakerKind::Connections, "connections"),
    (BreakerKind::Retries, "retries"),
];

/// One worker's requests, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct WorkerCounts {
    started: AtomicU64,
    finished: AtomicU64,
}

/// The label `endpoint` of requests that no route takes. No route can have it: theirs have two slashes.
const UNMATCHED: &str = "unmatched";
/// So often the sums are read for a moment in which no request finishes.
const CONSISTENT_READS: usize = 8;
/// More copies of every series than this cost more memory than they save time.
const SHARDS_MAX: usize = 8;

#[cfg(test)]
mod tests;
