//! What a limit in Shadow mode learns of the requests that it lets through: whom it would have refused, how much the keys ask
//! for, and which limit would have fitted. Keys are fingerprints: nobody can be named by them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What one limit in Shadow mode has seen, shared by all worker threads. Takes at most some 200 KiB for each rate. Behind a
/// lock: a limit that refuses has none of this.
#[derive(Debug)]
pub struct ShadowWatch {
    seen: Mutex<Seen>,
}

/// What was seen up to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowReport {
    pub passed: u64,
    /// Would have been refused.
    pub blocked: u64,
    /// Who would have been refused most, the first first; at most 20.
    pub top: Vec<TopKey>,
    /// In the order of the rates.
    pub rates: Vec<RateReport>,
}

/// A key that would have been refused often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKey {
    pub fingerprint: u64,
    /// At most so often.
    pub blocked: u64,
    /// And at least so often. Where they differ the key came late, in the place of another.
    pub blocked_min: u64,
}

/// How much the keys ask for in one span of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateReport {
    pub per: Duration,
    /// Spans that have ended. Without any, what is told is of the one that has not.
    pub windows: u64,
    /// Keys of all spans together; where there are many it is a sample of them.
    pub keys: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
    /// Half as much again as 99 of 100 keys ask for; 0: nothing was seen.
    pub proposed: u64,
}

/// How many keys are told.
const TOP_KEYS: usize = 20;

impl ShadowWatch {
    /// For rates of these times.
    pub fn new(pers: impl IntoIterator<Item = Duration>) -> Self {
        let rates = pers.into_iter().map(Demand::new).collect();
        Self { seen: Mutex::new(Seen { passed: 0, blocked: 0, top: Vec::new(), rates }) }
    }

    /// A request of this key, and whether the limit would have let it through.
    pub fn on_request(&self, now_ns: u64, fingerprint: u64, cost: u32, passes: bool) {
        let mut seen = self.seen();
        for rate in &mut seen.rates {
            rate.add(now_ns, fingerprint, cost);
        }
        if passes {
            seen.passed += 1;
        } else {
            seen.blocked += 1;
            count_top(&mut seen.top, fingerprint);
        }
    }

    /// A request of this key has cost so much more than was known when it came. It is no other request.
    pub fn on_cost(&self, now_ns: u64, fingerprint: u64, more: u32) {
        for rate in &mut self.seen().rates {
            rate.add(now_ns, fingerprint, more);
        }
    }

    pub fn report(&self) -> ShadowReport {
        let seen = self.seen();
        let mut top = seen.top.clone();
        top.sort_by_key(|key| (u64::MAX - key.blocked, key.fingerprint));
        ShadowReport {
            passed: seen.passed,
            blocked: seen.blocked,
            top,
            rates: seen.rates.iter().map(Demand::report).collect(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Seen {
    passed: u64,
    blocked: u64,
    top: Vec<TopKey>,
    rates: Vec<Demand>,
}

/// Space-Saving (Metwally, Agrawal, El Abbadi 2005): a new key takes the place of the least one and inherits its count, so
/// that a key of more than a twentieth of all is never missed.
fn count_top(top: &mut Vec<TopKey>, fingerprint: u64) {
    if let Some(known) = top.iter_mut().find(|key| key.fingerprint == fingerprint) {
        known.blocked += 1;
        known.blocked_min += 1;
    } else if top.len() < TOP_KEYS {
        top.push(TopKey { fingerprint, blocked: 1, blocked_min: 1 });
    } else if let Some(least) = top.iter_mut().min_by_key(|key| key.blocked) {
        *least = TopKey { fingerprint, blocked: least.blocked + 1, blocked_min: 1 };
    }
}

/// What keys ask for in spans of one length. Of many keys a sample is counted: those whose fingerprint is small enough, and
/// when these are too many, half of them.
#[derive(Debug)]
struct Demand {
    per: Duration,
    per_ns: u64,
    window: u64,
    now: HashMap<u64, u64>,
    fingerprint_max: u64,
    windows: u64,
    ended: Histogram,
}

impl Demand {
    fn new(per: Duration) -> Self {
        Self {
            per,
            per_ns: u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).max(1),
            window: 0,
            now: HashMap::new(),
            fingerprint_max: u64::MAX,
            windows: 0,
            ended: Histogram::default(),
        }
    }

    fn add(&mut self, now_ns: u64, fingerprint: u64, cost: u32) {
        let window = now_ns / self.per_ns;
        // A caller that lags behind another counts with it.
        if window > self.window {
            if !self.now.is_empty() {
                self.now.drain().for_each(|(_, count)| self.ended.add(count));
                self.windows += 1;
            }
            self.window = window;
        }
        if mixed(fingerprint) > self.fingerprint_max {
            return;
        }
        *self.now.entry(fingerprint).or_default() += u64::from(cost);
        while self.now.len() > KEYS_MAX {
            self.fingerprint_max /= 2;
            let most = self.fingerprint_max;
            self.now.retain(|fingerprint, _| mixed(*fingerprint) <= most);
        }
    }

    fn report(&self) -> RateReport {
        let mut histogram = self.ended.clone();
        if self.windows == 0 {
            self.now.values().for_each(|count| histogram.add(*count));
        }
        let p99 = histogram.quantile(99);
        RateReport {
            per: self.per,
            windows: self.windows,
            keys: histogram.keys,
            p50: histogram.quantile(50),
            p90: histogram.quantile(90),
            p99,
            max: histogram.max,
            proposed: p99.saturating_mul(3).div_ceil(2),
        }
    }
}

/// Counts by size, to an eighth.
#[derive(Clone, Debug)]
struct Histogram {
    buckets: Vec<u64>,
    keys: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], keys: 0, max: 0 }
    }
}

impl Histogram {
    fn add(&mut self, count: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket(count)) {
            *bucket += 1;
        }
        self.keys += 1;
        self.max = self.max.max(count);
    }

    /// The largest count of the bucket that so many of a hundred keys do not pass.
    fn quantile(&self, percent: u64) -> u64 {
        let wanted = self.keys.saturating_mul(percent).div_ceil(100);
        let mut met = 0;
        for (index, keys) in self.buckets.iter().enumerate() {
            met += keys;
            if met >= wanted && met > 0 {
                return bucket_end(index).min(self.max);
            }
        }
        0
    }
}

/// Eight to every power of two; small counts have one of their own.
fn bucket(count: u64) -> usize {
    let Some(power) = count.checked_ilog2().filter(|power| *power >= 3) else {
        return usize::try_from(count).unwrap_or(0);
    };
    let eighth = (count >> (power - 3)) & 7;
    usize::try_from(u64::from(power - 2) * 8 + eighth).unwrap_or(0).min(BUCKETS - 1)
}

/// The largest count of a bucket.
fn bucket_end(index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or(0);
    if index < 8 {
        return index;
    }
    let shift = index / 8 - 1;
    ((8 + index % 8 + 1) << shift) - 1
}

/// Spreads fingerprints anew.
const fn mixed(fingerprint: u64) -> u64 {
    fingerprint.rotate_left(32)
}

/// Of one rate, counted at once.
const KEYS_MAX: usize = 4096;
/// Up to 2^40.
const BUCKETS: usize = 8 * 39;

#[cfg(test)]
mod tests;
