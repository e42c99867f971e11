//! Rate limits: GCRA over buckets that are named by a fingerprint. Reads no clock and knows no request.

mod table;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use table::{Place, Shard};

/// The counters of one limit: at most `keys_max` buckets, shared by all worker threads.
///
/// Every bucket holds one theoretical arrival time per rate (GCRA, ITU-T I.371 annex A): the moment at which the
/// bucket is full again. A request passes a rate when that moment is less than `burst` intervals ahead, and moves
/// it by one interval. All rates must pass; if one refuses, none is charged.
///
/// A key always meets the same shard, and the shard is locked for the one step of a check, so that no two threads
/// can admit the same request twice. Nothing is allocated before the first key; a shard then grows with its keys
/// and first gives up the buckets that are full again, which lose nothing.
#[derive(Debug)]
pub struct LimitStore {
    rates: Box<[Gcra]>,
    /// The first rate that lets nothing through (`requests: 0`), and its period.
    block: Option<(usize, u64)>,
    keys_max: u32,
    shards: OnceLock<Box<[PaddedShard]>>,
    shard_bits: u32,
    keys: AtomicU32,
    evicted: AtomicU64,
}

/// What a limit says to one request. `remaining`, `reset_ns` and `rate_index` are those of the most restrictive
/// rate: of a passed request the one with the least remaining, of a refused one the one with the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitVerdict {
    /// What `Enforce` does. A limit in `Shadow` mode reports it and lets the request through; the counters move
    /// alike in both modes, so that Shadow tells what Enforce would do.
    pub allowed: bool,
    /// How many more requests would pass right now.
    pub remaining: u32,
    /// Nanoseconds until the bucket is full again.
    pub reset_ns: u64,
    /// Nanoseconds until one request passes; 0 when this one did. A rate of 0 requests says its period.
    pub retry_after_ns: u64,
    /// Index into the limit's `rates`.
    pub rate_index: usize,
    /// The check pushed out a bucket that was not full again yet, because `keys_max` was reached.
    pub evicted: bool,
}

impl LimitStore {
    /// Counters for this limit. `keys_max` of 0 counts as 1.
    pub fn new(limit: &ir::Limit) -> Self {
        let keys_max = limit.keys_max.max(1);
        // Few shards for few keys: what a shard may hold is a share of a common bound, so shards must be much
        // fewer than keys. 64 shards are plenty for the cores that share them, and take 4 KiB.
        let shard_bits = (keys_max / KEYS_PER_SHARD_MIN).max(1).ilog2().min(SHARD_BITS_MAX);
        Self {
            rates: limit.rates.iter().map(Gcra::new).collect(),
            block: limit
                .rates
                .iter()
                .position(|rate| rate.requests == 0)
                .map(|index| (index, limit.rates.get(index).map_or(0, |rate| nanos(rate.per)))),
            keys_max,
            shards: OnceLock::new(),
            shard_bits,
            keys: AtomicU32::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Asks for one request of the bucket `fingerprint`, and charges it when it passes. `now_ns` is a monotonic
    /// clock; a caller that lags behind another is treated as if the bucket were a little emptier.
    pub fn check(&self, now_ns: u64, fingerprint: u64) -> LimitVerdict {
        if let Some((rate_index, per_ns)) = self.block {
            return LimitVerdict {
                allowed: false,
                remaining: 0,
                reset_ns: per_ns,
                retry_after_ns: per_ns,
                rate_index,
                evicted: false,
            };
        }
        let Some(shard) = self.shard(fingerprint) else {
            // No rates (the contract says 1 to 4): nothing to hold against the request.
            return PASSED_UNLIMITED;
        };
        let mut shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, evicted) = match shard.find(fingerprint) {
            Some(slot) => (slot, false),
            None => {
                let place = Place { now_ns, keys: &self.keys, keys_max: self.keys_max };
                shard.insert(fingerprint, place)
            }
        };
        let mut verdict = charge(&self.rates, shard.arrivals_mut(slot), now_ns);
        drop(shard);
        if evicted {
            verdict.evicted = true;
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    /// Takes back one charge of a bucket, for a request that passed here and was refused elsewhere. A bucket that is
    /// gone or full has nothing to take back.
    pub fn refund(&self, fingerprint: u64) {
        let Some(shard) = self.shard(fingerprint).filter(|_| self.block.is_none()) else { return };
        let mut shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = shard.find(fingerprint) {
            for (rate, arrival) in self.rates.iter().zip(shard.arrivals_mut(slot)) {
                *arrival = arrival.saturating_sub(rate.interval_ns);
            }
        }
    }

    /// How many buckets are kept now.
    pub fn keys(&self) -> u32 {
        self.keys.load(Ordering::Relaxed)
    }

    /// How many buckets were pushed out before they were full again: their keys start anew with a full burst.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// The shard of a fingerprint; `None` when the limit has no rates. The high bits name the shard, the low ones
    /// the place in it.
    fn shard(&self, fingerprint: u64) -> Option<&PaddedShard> {
        if self.rates.is_empty() {
            return None;
        }
        let shards = self.shards.get_or_init(|| {
            (0..1usize << self.shard_bits)
                .map(|_| PaddedShard(Mutex::new(Shard::new(self.rates.len()))))
                .collect()
        });
        let index = fingerprint.checked_shr(u64::BITS - self.shard_bits).unwrap_or(0);
        shards.get(usize::try_from(index).unwrap_or(0))
    }

    /// What each shard holds: buckets and heap bytes.
    #[cfg(test)]
    fn shard_sizes(&self) -> Vec<(usize, usize)> {
        let shards = self.shards.get().map_or(&[][..], |shards| shards);
        shards.iter().map(|shard| shard.0.lock().unwrap().sizes()).collect()
    }
}

/// On a cache line of its own, so that neighbours do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
struct PaddedShard(Mutex<Shard>);

/// One rate in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Gcra {
    /// Between two requests in the long run. Rounded down to a whole nanosecond: 1,000,000 requests a second are
    /// met to 0.1 %; and one nanosecond is the least.
    interval_ns: u64,
    /// `burst` intervals.
    capacity_ns: u64,
}

impl Gcra {
    fn new(rate: &ir::Rate) -> Self {
        let interval_ns = (nanos(rate.per) / u64::from(rate.requests.max(1))).max(1);
        // The bound keeps arrival times far from the end of the clock; it cuts only bursts that take decades.
        let capacity_ns = interval_ns.saturating_mul(u64::from(rate.burst.max(1))).min(CAPACITY_NS_MAX);
        Self { interval_ns: interval_ns.min(CAPACITY_NS_MAX), capacity_ns }
    }

    fn remaining(&self, debt_ns: u64) -> u32 {
        u32::try_from(self.capacity_ns.saturating_sub(debt_ns) / self.interval_ns).unwrap_or(u32::MAX)
    }
}

/// Decides over all rates of one bucket and charges them together.
fn charge(rates: &[Gcra], arrivals: &mut [u64], now_ns: u64) -> LimitVerdict {
    let mut refused: Option<LimitVerdict> = None;
    for (rate_index, (rate, arrival)) in rates.iter().zip(arrivals.iter()).enumerate() {
        let debt_ns = arrival.saturating_sub(now_ns);
        let retry_after_ns = debt_ns.saturating_add(rate.interval_ns).saturating_sub(rate.capacity_ns);
        if retry_after_ns > 0 && refused.is_none_or(|worst| worst.retry_after_ns < retry_after_ns) {
            refused = Some(LimitVerdict {
                allowed: false,
                remaining: 0,
                reset_ns: debt_ns,
                retry_after_ns,
                rate_index,
                evicted: false,
            });
        }
    }
    if let Some(refused) = refused {
        return refused;
    }
    let mut tightest = PASSED_UNLIMITED;
    for (rate_index, (rate, arrival)) in rates.iter().zip(arrivals.iter_mut()).enumerate() {
        let debt_ns = arrival.saturating_sub(now_ns).saturating_add(rate.interval_ns);
        *arrival = now_ns.saturating_add(debt_ns);
        let remaining = rate.remaining(debt_ns);
        if (remaining, u64::MAX - debt_ns) < (tightest.remaining, u64::MAX - tightest.reset_ns) {
            tightest = LimitVerdict { remaining, reset_ns: debt_ns, rate_index, ..PASSED_UNLIMITED };
        }
    }
    tightest
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const PASSED_UNLIMITED: LimitVerdict = LimitVerdict {
    allowed: true,
    remaining: u32::MAX,
    reset_ns: 0,
    retry_after_ns: 0,
    rate_index: 0,
    evicted: false,
};

const SHARD_BITS_MAX: u32 = 6;
const KEYS_PER_SHARD_MIN: u32 = 256;
/// About 146 years.
const CAPACITY_NS_MAX: u64 = u64::MAX / 4;

#[cfg(test)]
mod tests;
