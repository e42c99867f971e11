//! The request metrics of one route. No lock and no look-up by text on the way of a request.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::Method;

use super::external::ExternalMetrics;
use super::value::{self, Counter};

/// The label `method`: the nine standard methods (RFC 9110 §9, RFC 5789), all else is `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl MethodLabel {
    pub(super) const ALL: [Self; 10] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
        Self::Other,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "other",
        }
    }
}

impl From<&Method> for MethodLabel {
    fn from(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            Method::CONNECT => Self::Connect,
            Method::OPTIONS => Self::Options,
            Method::TRACE => Self::Trace,
            Method::PATCH => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// What the requests of one route came to. Made when a generation is built; the series of a method exist from its
/// first request on, so that a route without traffic costs a few hundred bytes.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    label: Arc<str>,
    retries: Counter,
    sessions_begun: Counter,
    sessions_moved: Counter,
    /// Only of a route that asks a service about its requests.
    external: OnceLock<Box<ExternalMetrics>>,
    /// How many copies of each series there are, so that workers do not write to the same cache lines.
    shards: usize,
    methods: [OnceLock<Box<[MethodSeries]>>; MethodLabel::ALL.len()],
}

/// One shard's counts of one method.
#[derive(Debug, Default)]
#[repr(align(64))]
struct MethodSeries {
    /// Not cumulative; the last one is for what took longer than the last bound.
    buckets: [AtomicU64; BUCKETS + 1],
    sum_ns: AtomicU64,
    statuses: StatusCounts,
}

/// Counts by status code: a few places, and a further block only for routes that answer in many ways.
#[derive(Debug, Default)]
struct StatusCounts {
    places: [StatusCount; 4],
    more: OnceLock<Box<Self>>,
}

#[derive(Debug, Default)]
struct StatusCount {
    /// 0: free. Once set it never changes.
    status: AtomicU32,
    count: Counter,
}

/// What one method of a route came to, over all workers.
#[derive(Debug, Default)]
pub(super) struct MethodTotals {
    /// (status, requests), sorted.
    pub(super) statuses: Vec<(u32, u64)>,
    /// Not cumulative, see [`BUCKET_BOUNDS_SECONDS`].
    pub(super) buckets: [u64; BUCKETS + 1],
    pub(super) sum_ns: u64,
}

impl RouteMetrics {
    pub(super) fn new(label: Arc<str>, shards: usize) -> Self {
        Self {
            label,
            retries: Counter::default(),
            sessions_begun: Counter::default(),
            sessions_moved: Counter::default(),
            external: OnceLock::new(),
            shards: shards.max(1),
            methods: Default::default(),
        }
    }

    /// Counts a finished request. `duration_ns` is from the whole head to the end of the answer.
    pub(crate) fn record(&self, method: MethodLabel, status: u16, duration_ns: u64) {
        let Some(cell) = self.methods.get(method as usize) else { return };
        let series = cell.get_or_init(|| (0..self.shards).map(|_| MethodSeries::default()).collect());
        if let Some(series) = series.get(value::shard(self.shards)) {
            series.record(status, duration_ns);
        }
    }

    /// A request is tried once more.
    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    /// An answer gives a session its first cookie.
    pub(crate) fn session_begun(&self) {
        self.sessions_begun.inc();
    }

    /// An answer gives a session another cookie.
    pub(crate) fn session_moved(&self) {
        self.sessions_moved.inc();
    }

    /// Those of questions to services that decide about its requests.
    pub(crate) fn external(&self) -> &ExternalMetrics {
        self.external.get_or_init(Box::default)
    }

    /// The same, if there was a question.
    pub(super) fn known_external(&self) -> Option<&ExternalMetrics> {
        self.external.get().map(Box::as_ref)
    }

    /// By the label `result`.
    pub(super) fn sessions(&self) -> [(&'static str, &Counter); 2] {
        [("new", &self.sessions_begun), ("moved", &self.sessions_moved)]
    }

    pub(super) fn retries(&self) -> &Counter {
        &self.retries
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The totals of each method that was asked.
    pub(super) fn totals(&self) -> impl Iterator<Item = (MethodLabel, MethodTotals)> {
        MethodLabel::ALL.into_iter().zip(&self.methods).filter_map(|(method, cell)| {
            let mut totals = MethodTotals::default();
            for series in cell.get()? {
                series.add_to(&mut totals);
            }
            totals.statuses.sort_unstable();
            Some((method, totals))
        })
    }
}

impl MethodSeries {
    fn record(&self, status: u16, duration_ns: u64) {
        if let Some(bucket) = self.buckets.get(bucket(duration_ns)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(duration_ns, Ordering::Relaxed);
        // 0 marks a free place; no answer has it.
        self.statuses.inc(u32::from(status.max(1)));
    }

    fn add_to(&self, totals: &mut MethodTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        totals.sum_ns += self.sum_ns.load(Ordering::Relaxed);
        let mut block = Some(&self.statuses);
        while let Some(counts) = block {
            for place in &counts.places {
                let status = place.status.load(Ordering::Relaxed);
                if status == 0 {
                    continue;
                }
                match totals.statuses.iter_mut().find(|(known, _)| *known == status) {
                    Some((_, total)) => *total += place.count.get(),
                    None => totals.statuses.push((status, place.count.get())),
                }
            }
            block = counts.more.get().map(Box::as_ref);
        }
    }
}

impl StatusCounts {
    /// There are at most as many blocks as status codes need: every code takes one place.
    fn inc(&self, status: u32) {
        let mut counts = self;
        loop {
            if let Some(place) = counts.places.iter().find(|place| place.is_for(status)) {
                place.count.inc();
                return;
            }
            counts = counts.more.get_or_init(Box::default);
        }
    }
}

impl StatusCount {
    /// Whether the place is this status's; a free one becomes it.
    fn is_for(&self, status: u32) -> bool {
        match self.status.load(Ordering::Relaxed) {
            0 => match self.status.compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(taken) => taken == status,
            },
            taken => taken == status,
        }
    }
}

/// The place of a time among the buckets.
pub(super) fn bucket(duration_ns: u64) -> usize {
    BUCKET_BOUNDS_NS.iter().position(|bound| duration_ns <= *bound).unwrap_or(BUCKETS)
}

/// The upper bounds of the histogram's buckets in nanoseconds: 0.5 ms to 10 s.
const BUCKET_BOUNDS_NS: [u64; BUCKETS] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The same in seconds, as they are exposed.
pub(super) const BUCKET_BOUNDS_SECONDS: [f64; BUCKETS] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub(super) const BUCKETS: usize = 14;

#[cfg(test)]
mod tests;
