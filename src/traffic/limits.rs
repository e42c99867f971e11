//! Rate limits over buckets that are named by a fingerprint. Reads no clock and knows no request.

mod rate;
mod table;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rate::{Answer, Counter, Left, nanos};
use table::{Place, Shard};

/// The counters of one limit: at most `keys_max` buckets, shared by all worker threads.
///
/// Every bucket holds the state of each rate. All rates must pass; if one refuses, none is charged.
///
/// A key always meets the same shard, and the shard is locked for the one step of a check, so that no two threads
/// can admit the same request twice. Nothing is allocated before the first key; a shard then grows with its keys
/// and first gives up the buckets that are full again, which lose nothing.
#[derive(Debug)]
pub struct LimitStore {
    rates: Box<[Counter]>,
    /// The first rate that lets nothing through (`requests: 0`), and its period.
    block: Option<(usize, u64)>,
    keys_max: u32,
    shards: OnceLock<Box<[PaddedShard]>>,
    shard_bits: u32,
    keys: AtomicU32,
    evicted: AtomicU64,
}

/// The time by both clocks. Only rates by the calendar look at the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitNow {
    /// Never steps; its zero is the process's own.
    pub monotonic_ns: u64,
    /// Since 1970. May step.
    pub unix_ns: u64,
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

/// What a request that passed was charged, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitCharge {
    cost: u32,
    /// Of each rate, what it knows the charge by: see [`Counter::mark`].
    marks: [u64; RATES_MAX],
}

impl LimitStore {
    /// Counters for this limit. `keys_max` of 0 counts as 1.
    pub fn new(limit: &ir::Limit) -> Self {
        let keys_max = limit.keys_max.max(1);
        // Few shards for few keys: what a shard may hold is a share of a common bound, so shards must be much
        // fewer than keys. 64 shards are plenty for the cores that share them, and take 4 KiB.
        let shard_bits = (keys_max / KEYS_PER_SHARD_MIN).max(1).ilog2().min(SHARD_BITS_MAX);
        Self {
            rates: limit.rates.iter().map(Counter::new).collect(),
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

    /// Asks for one request of the bucket `fingerprint`, and charges it `cost` when it passes. A caller whose monotonic
    /// clock lags behind another's is treated as if the bucket were a little emptier.
    pub fn check(&self, now: LimitNow, fingerprint: u64, cost: u32) -> LimitVerdict {
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
        // No rates (the contract says 1 to 4): nothing to hold against the request.
        self.with_bucket(now, fingerprint, |words| charge(&self.rates, words, now, cost))
            .unwrap_or(PASSED_UNLIMITED)
    }

    /// The same for a request that another limit may refuse: says what it was charged, if it was.
    pub fn check_revocably(
        &self,
        now: LimitNow,
        fingerprint: u64,
        cost: u32,
    ) -> (LimitVerdict, Option<LimitCharge>) {
        if self.block.is_some() || self.rates.is_empty() || cost == 0 {
            return (self.check(now, fingerprint, cost), None);
        }
        let mut marks = [0; RATES_MAX];
        let verdict = self.with_bucket(now, fingerprint, |words| {
            let verdict = charge(&self.rates, words, now, cost);
            let mut rest = &*words;
            for (rate, mark) in self.rates.iter().zip(&mut marks) {
                let (state, others) = rest.split_at(rate.words().min(rest.len()));
                (*mark, rest) = (rate.mark(state), others);
            }
            verdict
        });
        let verdict = verdict.unwrap_or(PASSED_UNLIMITED);
        (verdict, verdict.allowed.then_some(LimitCharge { cost, marks }))
    }

    /// Charges a bucket whether or not there is anything left: what is missing is paid by the requests that follow.
    pub fn charge(&self, now: LimitNow, fingerprint: u64, cost: u32) {
        if self.block.is_none() {
            let _ = self.with_bucket(now, fingerprint, |words| charge_all(&self.rates, words, now, cost));
        }
    }

    /// Takes back what [`Self::check_revocably`] charged, for a request that passed here and was refused elsewhere: what is
    /// still held of it at `now_ns` of the monotonic clock, and nothing of what others were charged. A bucket that is gone
    /// has nothing to take back.
    pub fn refund(&self, now_ns: u64, fingerprint: u64, charge: LimitCharge) {
        let Some(shard) = self.shard(fingerprint).filter(|_| self.block.is_none()) else { return };
        let mut shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = shard.find(fingerprint) {
            let mut rest = shard.words_mut(slot);
            for (rate, mark) in self.rates.iter().zip(charge.marks) {
                let (state, others) = rest.split_at_mut(rate.words().min(rest.len()));
                rate.refund(state, now_ns, mark, charge.cost);
                rest = others;
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

    /// Shows the bucket of a fingerprint, a new one if need be; `None` when the limit has no rates.
    fn with_bucket(
        &self,
        now: LimitNow,
        fingerprint: u64,
        look: impl FnOnce(&mut [u64]) -> LimitVerdict,
    ) -> Option<LimitVerdict> {
        let shard = self.shard(fingerprint)?;
        let mut shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, evicted) = match shard.find(fingerprint) {
            Some(slot) => {
                shard.on_hit(slot);
                (slot, false)
            }
            None => {
                let now_ns = now.monotonic_ns;
                let place = Place { now_ns, rates: &self.rates, keys: &self.keys, keys_max: self.keys_max };
                shard.insert(fingerprint, place)
            }
        };
        let mut verdict = look(shard.words_mut(slot));
        drop(shard);
        if evicted {
            verdict.evicted = true;
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Some(verdict)
    }

    /// The shard of a fingerprint; `None` when the limit has no rates. The high bits name the shard, the low ones
    /// the place in it.
    fn shard(&self, fingerprint: u64) -> Option<&PaddedShard> {
        if self.rates.is_empty() {
            return None;
        }
        let shards = self.shards.get_or_init(|| {
            (0..1usize << self.shard_bits).map(|_| PaddedShard(Mutex::new(Shard::new(&self.rates)))).collect()
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

/// Decides over all rates of one bucket and charges them together.
fn charge(rates: &[Counter], words: &mut [u64], now: LimitNow, cost: u32) -> LimitVerdict {
    let mut refused: Option<LimitVerdict> = None;
    let mut rest = &mut *words;
    for (rate_index, rate) in rates.iter().enumerate() {
        let (state, others) = rest.split_at_mut(rate.words().min(rest.len()));
        rest = others;
        let Answer { wait_ns, state: left } = rate.ask(state, now, cost);
        if wait_ns > 0 && refused.is_none_or(|worst| worst.retry_after_ns < wait_ns) {
            refused = Some(LimitVerdict {
                allowed: false,
                remaining: 0,
                reset_ns: left.reset_ns.max(wait_ns),
                retry_after_ns: wait_ns,
                rate_index,
                evicted: false,
            });
        }
    }
    refused.unwrap_or_else(|| charge_all(rates, words, now, cost))
}

/// Charges all rates, and says which has the least left.
fn charge_all(rates: &[Counter], words: &mut [u64], now: LimitNow, cost: u32) -> LimitVerdict {
    let mut tightest = PASSED_UNLIMITED;
    let mut rest = words;
    for (rate_index, rate) in rates.iter().enumerate() {
        let (state, others) = rest.split_at_mut(rate.words().min(rest.len()));
        rest = others;
        let Left { remaining, reset_ns } = rate.charge(state, now, cost);
        if (remaining, u64::MAX - reset_ns) < (tightest.remaining, u64::MAX - tightest.reset_ns) {
            tightest = LimitVerdict { remaining, reset_ns, rate_index, ..PASSED_UNLIMITED };
        }
    }
    tightest
}

const PASSED_UNLIMITED: LimitVerdict = LimitVerdict {
    allowed: true,
    remaining: u32::MAX,
    reset_ns: 0,
    retry_after_ns: 0,
    rate_index: 0,
    evicted: false,
};

/// Of one limit.
const RATES_MAX: usize = 4;
const SHARD_BITS_MAX: u32 = 6;
const KEYS_PER_SHARD_MIN: u32 = 256;

#[cfg(test)]
mod tests;
