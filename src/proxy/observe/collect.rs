//! Turns the metrics into the Prometheus text format. Counts nothing.

use std::time::Instant;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter as ProtoCounter, Gauge as ProtoGauge, Histogram, LabelPair, Metric, MetricFamily,
    MetricType,
};

use super::lasting::LastingTask;
use super::metrics::{BREAKER_KINDS, EndpointCondition, HANDSHAKE_RESULTS, Metrics};
use super::names::{self, Family, FamilyKind};
use super::overload::SHED;
use super::passthrough::PASSTHROUGH_RESULTS;
use super::password::PasswordMetrics;
use super::route::{BUCKET_BOUNDS_SECONDS, MethodTotals};
use super::value::Counter;

pub(super) fn render(metrics: &Metrics) -> String {
    let families: Vec<MetricFamily> = collect(metrics).into_iter().filter_map(Series::into_family).collect();
    let mut text = String::with_capacity(TEXT_BYTES_MIN);
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        // It refuses only families without name or series, and there are none of those.
        tracing::error!(%error, "metrics could not be written");
    }
    text
}

/// The series of one metric.
struct Series {
    family: &'static Family,
    metrics: Vec<Metric>,
}

impl Series {
    fn new(family: &'static Family) -> Self {
        Self { family, metrics: Vec::new() }
    }

    /// A family with the one series that has no labels.
    fn single(family: &'static Family, value: f64) -> Self {
        let mut series = Self::new(family);
        series.push(&[], value);
        series
    }

    fn push(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.labelled(labels);
        match self.family.kind {
            FamilyKind::Counter => {
                let mut counter = ProtoCounter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            FamilyKind::Gauge => {
                let mut gauge = ProtoGauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            FamilyKind::Histogram => debug_assert!(false, "a histogram has more than one value"),
        }
        self.metrics.push(metric);
    }

    /// A counter that has counted something: series are made on first use.
    fn push_used(&mut self, labels: &[&str], counter: &Counter) {
        let count = counter.get();
        if count > 0 {
            self.push(labels, float(count));
        }
    }

    fn push_histogram(&mut self, labels: &[&str], totals: &MethodTotals) {
        let mut count = 0;
        let bounds = BUCKET_BOUNDS_SECONDS.iter().copied().chain([f64::INFINITY]);
        let mut buckets: Vec<Bucket> = Vec::with_capacity(totals.buckets.len());
        for (bound, in_bucket) in bounds.zip(totals.buckets) {
            count += in_bucket;
            if bound.is_finite() {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(count);
                buckets.push(bucket);
            }
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(float(totals.sum_ns) / 1e9);
        let mut metric = self.labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.family.labels.len(), "labels of {}", self.family.name);
        let pairs = self.family.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }

    /// `None` when there is no series: the format has no empty families.
    fn into_family(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.family.name.to_owned());
        family.set_help(self.family.help.to_owned());
        family.set_field_type(match self.family.kind {
            FamilyKind::Counter => MetricType::COUNTER,
            FamilyKind::Gauge => MetricType::GAUGE,
            FamilyKind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}

/// All families in the order of [`names::ALL`].
fn collect(metrics: &Metrics) -> Vec<Series> {
    let mut build_info = Series::new(&names::BUILD_INFO);
    build_info.push(&[env!("CARGO_PKG_VERSION")], 1.0);
    let mut reloads = Series::new(&names::CONFIG_RELOADS_TOTAL);
    reloads.push(&["applied"], float(metrics.reloads_applied.get()));
    reloads.push(&["partial"], float(metrics.reloads_partial.get()));
    let control = metrics.control.load();
    let mut watches = Series::new(&names::WATCH_UP);
    for (kind, is_up) in &control.watches {
        watches.push(&[kind.as_str()], float((*is_up).into()));
    }
    let process = &metrics.process;
    let mut all = Vec::with_capacity(names::ALL.len());
    all.extend(routes(metrics));
    all.extend([
        Series::single(&names::HTTP_REQUESTS_IN_FLIGHT, float(metrics.requests_in_flight())),
        Series::single(&names::HTTP_REQUESTS_PER_SECOND, process.requests_per_second.get()),
        Series::single(&names::MEMORY_USAGE_BYTES, signed(process.memory_bytes.get())),
        Series::single(&names::CPU_USAGE_PERCENT, process.cpu_percent.get()),
        Series::single(&names::MEMORY_HELD_BYTES, signed(process.memory_held_bytes.get())),
        Series::single(&names::MEMORY_BUDGET_BYTES, float(metrics.overload.memory_budget())),
        Series::single(&names::OVERLOADED, float(metrics.overload.is_over().into())),
        shed(metrics),
        build_info,
        Series::single(&names::CONFIG_GENERATION, signed(metrics.config_generation.get())),
        Series::single(&names::CONFIG_GENERATION_PUBLISHED, float(control.published_generation)),
        Series::single(&names::CONFIG_REJECTED_OBJECTS, float(control.rejected_objects)),
        reloads,
        Series::single(&names::LEADER, float(control.is_leader.into())),
        Series::single(&names::LAST_GOOD_IN_USE, float(control.last_good_in_use.into())),
        watches,
    ]);
    all.extend(listeners(metrics));
    all.push(Series::single(&names::TUNNELS_OPEN, signed(metrics.tunnels.get())));
    all.push(passthroughs(metrics));
    all.extend(extras(metrics));
    all.extend([
        Series::single(&names::TLS_CERTIFICATES, signed(metrics.certificates.get())),
        Series::single(
            &names::TLS_CERTIFICATE_NOT_AFTER_SECONDS,
            signed(metrics.certificates_not_after_s.get()),
        ),
        Series::single(&names::TLS_OCSP_NEXT_UPDATE_SECONDS, signed(metrics.stapled_until_s.get())),
        Series::single(&names::TLS_CRL_NEXT_UPDATE_SECONDS, signed(metrics.revocation_ends_s.get())),
    ]);
    all.extend(backends(metrics));
    all.extend(limits(metrics));
    all.push(passwords(metrics));
    all.extend(external(metrics));
    all.extend(key_sets(metrics));
    all.extend([
        Series::single(&names::ACCESS_LOG_DROPPED_TOTAL, float(metrics.access_log_dropped.get())),
        task_restarts(metrics),
        Series::single(&names::PANICS_TOTAL, float(metrics.panics.get() + control.watch_restarts)),
    ]);
    all
}

fn task_restarts(metrics: &Metrics) -> Series {
    let mut restarts = Series::new(&names::TASK_RESTARTS_TOTAL);
    for (task, counter) in LastingTask::ALL.iter().zip(&metrics.task_restarts) {
        restarts.push_used(&[task.as_str()], counter);
    }
    match metrics.control.load().watch_restarts {
        0 => {}
        count => restarts.push(&["watch"], float(count)),
    }
    restarts
}

fn routes(metrics: &Metrics) -> [Series; 4] {
    let mut requests = Series::new(&names::HTTP_REQUESTS_TOTAL);
    let mut durations = Series::new(&names::HTTP_REQUEST_DURATION_SECONDS);
    let mut retries = Series::new(&names::RETRIES_TOTAL);
    let mut sessions = Series::new(&names::AFFINITY_SESSIONS_TOTAL);
    for route in metrics.routes.all() {
        for (method, totals) in route.totals() {
            for (status, count) in &totals.statuses {
                let status = status.to_string();
                requests.push(&[method.as_str(), route.label(), &status], float(*count));
            }
            durations.push_histogram(&[method.as_str(), route.label()], &totals);
        }
        retries.push_used(&[route.label()], route.retries());
        for (result, counter) in route.sessions() {
            sessions.push_used(&[route.label(), result], counter);
        }
    }
    [requests, durations, retries, sessions]
}

fn listeners(metrics: &Metrics) -> [Series; 3] {
    let mut connections = Series::new(&names::CONNECTIONS);
    let mut refused = Series::new(&names::PROXY_PROTOCOL_REFUSED_TOTAL);
    let mut handshakes = Series::new(&names::TLS_HANDSHAKES_TOTAL);
    for listener in metrics.listeners.all() {
        connections.push(&[&listener.label], signed(listener.connections.get()));
        for ((_, result), counter) in HANDSHAKE_RESULTS.iter().zip(&listener.handshakes) {
            handshakes.push_used(&[&listener.label, result], counter);
        }
        refused.push_used(&[&listener.label], &listener.proxy_headers_refused);
    }
    [connections, refused, handshakes]
}

fn passthroughs(metrics: &Metrics) -> Series {
    let mut connections = Series::new(&names::PASSTHROUGH_TOTAL);
    for route in metrics.passthroughs.all() {
        for ((_, result), counter) in PASSTHROUGH_RESULTS.iter().zip(&route.results) {
            connections.push_used(&[&route.label, result], counter);
        }
    }
    connections
}

fn shed(metrics: &Metrics) -> Series {
    let mut series = Series::new(&names::SHED_TOTAL);
    for ((_, what, budget), counter) in SHED.iter().zip(&metrics.overload.shed) {
        series.push_used(&[what, budget], counter);
    }
    series
}

fn extras(metrics: &Metrics) -> [Series; 3] {
    let mut pages = Series::new(&names::ERROR_PAGES_TOTAL);
    let mut mirrors = Series::new(&names::MIRRORED_REQUESTS_TOTAL);
    let mut faults = Series::new(&names::FAULTS_INJECTED_TOTAL);
    for route in metrics.extras.all() {
        for (result, counter) in [("shown", &route.pages_shown), ("failed", &route.pages_failed)] {
            pages.push_used(&[&route.label, result], counter);
        }
        let results = [
            ("sent", &route.mirrors_sent),
            ("failed", &route.mirrors_failed),
            ("dropped", &route.mirrors_dropped),
        ];
        for (result, counter) in results {
            mirrors.push_used(&[&route.label, result], counter);
        }
        for (fault, counter) in [("delay", &route.faults_delayed), ("abort", &route.faults_aborted)] {
            faults.push_used(&[&route.label, fault], counter);
        }
    }
    [pages, mirrors, faults]
}

fn backends(metrics: &Metrics) -> [Series; 9] {
    let mut connections = Series::new(&names::UPSTREAM_CONNECTIONS);
    let mut failures = Series::new(&names::UPSTREAM_CONNECT_FAILURES_TOTAL);
    let mut ejections = Series::new(&names::ENDPOINT_EJECTIONS_TOTAL);
    let mut endpoints = Series::new(&names::BACKEND_ENDPOINTS);
    let mut breakers = Series::new(&names::BREAKER_STATE);
    let mut checks = Series::new(&names::HEALTH_CHECKS_TOTAL);
    let mut changes = Series::new(&names::HEALTH_CHANGES_TOTAL);
    let mut rejected = Series::new(&names::BREAKER_REJECTED_TOTAL);
    let mut limits = Series::new(&names::ADAPTIVE_LIMIT);
    for backend in metrics.backends.all() {
        let label = &*backend.label;
        connections.push(&[label], signed(backend.connections.get()));
        failures.push_used(&[label], &backend.connect_failures);
        ejections.push_used(&[label], &backend.ejections);
        for (condition, gauge) in EndpointCondition::ALL.iter().zip(&backend.endpoints) {
            if gauge.get() > 0 {
                endpoints.push(&[label, condition.as_str()], signed(gauge.get()));
            }
        }
        if backend.breaker_state.get() > 0 {
            breakers.push(&[label], signed(backend.breaker_state.get()));
        }
        rejected.push_used(&[label, "failures"], &backend.breaker_open);
        checks.push_used(&[label, "pass"], &backend.checks_passed);
        checks.push_used(&[label, "fail"], &backend.checks_failed);
        changes.push_used(&[label, "healthy"], &backend.became_healthy);
        changes.push_used(&[label, "failing"], &backend.became_failing);
        for ((_, kind), counter) in BREAKER_KINDS.iter().zip(&backend.breaker_rejected) {
            rejected.push_used(&[label, kind], counter);
        }
        rejected.push_used(&[label, "adaptive"], &backend.adaptive_rejected);
        if backend.adaptive_limit.get() > 0 {
            limits.push(&[label], signed(backend.adaptive_limit.get()));
        }
    }
    [connections, failures, ejections, endpoints, checks, changes, breakers, rejected, limits]
}

fn passwords(metrics: &Metrics) -> Series {
    let mut series = Series::new(&names::PASSWORD_CHECKS_TOTAL);
    let PasswordMetrics { cached, checked, busy } = &*metrics.passwords;
    for (result, counter) in [("cached", cached), ("checked", checked), ("busy", busy)] {
        series.push_used(&[result], counter);
    }
    series
}

fn external(metrics: &Metrics) -> [Series; 2] {
    let mut results = Series::new(&names::EXTERNAL_AUTH_TOTAL);
    let mut durations = Series::new(&names::EXTERNAL_AUTH_DURATION_SECONDS);
    for route in metrics.routes.all() {
        let Some(external) = route.known_external() else { continue };
        for (result, counter) in external.results() {
            results.push_used(&[route.label(), result], counter);
        }
        durations.push_histogram(&[route.label()], &external.durations());
    }
    [results, durations]
}

fn key_sets(metrics: &Metrics) -> [Series; 4] {
    let mut age = Series::new(&names::JWKS_AGE_SECONDS);
    let mut keys = Series::new(&names::JWKS_KEYS);
    let mut failures = Series::new(&names::JWKS_FETCH_FAILURES_TOTAL);
    let mut refetches = Series::new(&names::JWKS_REFETCHES_TOTAL);
    let now = Instant::now();
    for provider in metrics.key_sets.load().iter() {
        let (label, set) = (&*provider.label, &provider.metrics);
        if let Some(since) = set.age(now) {
            age.push(&[label], since.as_secs_f64());
        }
        keys.push(&[label], signed(set.keys.get()));
        failures.push(&[label], float(set.failures.get()));
        refetches.push_used(&[label], &set.refetches);
    }
    [age, keys, failures, refetches]
}

fn limits(metrics: &Metrics) -> [Series; 5] {
    let mut rejected = Series::new(&names::RATELIMIT_REJECTED_TOTAL);
    let mut shadowed = Series::new(&names::RATELIMIT_SHADOWED_TOTAL);
    let mut evicted = Series::new(&names::RATELIMIT_EVICTED_KEYS_TOTAL);
    let mut in_flight = Series::new(&names::RATELIMIT_IN_FLIGHT);
    let mut queued = Series::new(&names::RATELIMIT_QUEUED);
    for limit in metrics.limits.all() {
        let labels = [&*limit.policy, &*limit.limit];
        rejected.push_used(&labels, &limit.rejected);
        shadowed.push_used(&labels, &limit.shadowed);
        evicted.push_used(&labels, &limit.evicted);
        if limit.places.get() > 0 {
            in_flight.push(&labels, signed(limit.in_flight.get()));
            queued.push(&labels, signed(limit.queued.get()));
        }
    }
    [rejected, shadowed, evicted, in_flight, queued]
}

/// Prometheus values are floats: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the format has only floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "the format has only floats")]
fn signed(value: i64) -> f64 {
    value as f64
}

const TEXT_BYTES_MIN: usize = 16 << 10;
