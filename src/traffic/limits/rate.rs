//! How one rate of one key counts: evenly refilled, over a sliding window or by the calendar. Holds no state of its own: it
//! works on the words of a bucket.

use std::time::Duration;

use super::LimitNow;

/// One rate, in nanoseconds. The first word of its state is the moment (monotonic) from which on the state says no more
/// than that of a key that was never seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Gcra(Gcra),
    Sliding(Sliding),
    Calendar(Calendar),
}

/// What a rate says to a request that has not been charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Until it would pass; 0: now.
    pub(super) wait_ns: u64,
    pub(super) state: Left,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) remaining: u32,
    /// Until all of it is there again.
    pub(super) reset_ns: u64,
}

impl Counter {
    pub(super) fn new(rate: &ir::Rate) -> Self {
        match rate.counting {
            ir::RateCounting::Gcra => Self::Gcra(Gcra::new(rate)),
            ir::RateCounting::SlidingWindow => Self::Sliding(Sliding::new(rate)),
            ir::RateCounting::Calendar => Self::Calendar(Calendar::new(rate)),
        }
    }

    /// How many words of a bucket are its state. All zero: never seen.
    pub(super) const fn words(self) -> usize {
        match self {
            Self::Gcra(_) => 1,
            Self::Sliding(_) => 1 + SUB_WINDOWS / 2,
            Self::Calendar(_) => 2,
        }
    }

    /// Whether a request of this cost passes. What is over by now is forgotten, and nothing is charged. A request that
    /// costs nothing passes as long as anything is left.
    pub(super) fn ask(self, state: &mut [u64], now: LimitNow, cost: u32) -> Answer {
        match self {
            Self::Gcra(rate) => rate.ask(state, now.monotonic_ns, cost),
            Self::Sliding(rate) => rate.ask(state, now.monotonic_ns, cost),
            Self::Calendar(rate) => rate.ask(state, now, cost),
        }
    }

    /// Charges a request, whether or not it would pass. Directly after [`Self::ask`].
    pub(super) fn charge(self, state: &mut [u64], now: LimitNow, cost: u32) -> Left {
        match self {
            Self::Gcra(rate) => rate.charge(state, now.monotonic_ns, cost),
            Self::Sliding(rate) => rate.charge(state, now.monotonic_ns, cost),
            Self::Calendar(rate) => rate.charge(state, now, cost),
        }
    }

    /// By what a charge is known, directly after it was made: when the bucket is full again after it, or the span of the
    /// calendar.
    pub(super) fn mark(self, state: &[u64]) -> u64 {
        match self {
            Self::Gcra(_) | Self::Sliding(_) => head(state),
            Self::Calendar(_) => state.get(1).map_or(0, |word| u64::from(index_of(*word))),
        }
    }

    /// Takes back a charge of this mark, as far as it has not expired meanwhile; never more than there is.
    pub(super) fn refund(self, state: &mut [u64], now_ns: u64, mark: u64, cost: u32) {
        match self {
            Self::Gcra(rate) => rate.refund(state, now_ns, mark, cost),
            Self::Sliding(rate) => rate.refund(state, mark, cost),
            Self::Calendar(_) => {
                if let Some(word) = state.get_mut(1).filter(|word| u64::from(index_of(**word)) == mark) {
                    *word = pack(index_of(*word), count_of(*word).saturating_sub(cost));
                }
            }
        }
    }

    /// How much of it is used up, in eighths, rounded up: what would be lost with the state.
    pub(super) fn used(self, state: &[u64], now_ns: u64) -> u32 {
        let full_at = head(state);
        if full_at <= now_ns {
            return 0;
        }
        let (used, all) = match self {
            Self::Gcra(rate) => (full_at - now_ns, rate.capacity_ns),
            Self::Sliding(rate) => (sum(state), u64::from(rate.requests)),
            Self::Calendar(rate) => {
                (state.get(1).map_or(0, |word| u64::from(count_of(*word))), rate.requests.into())
            }
        };
        let eighths = (u128::from(used.min(all)) * 8).div_ceil(all.max(1).into());
        u32::try_from(eighths).unwrap_or(u32::MAX)
    }
}

/// GCRA (ITU-T I.371 annex A). The state is the theoretical arrival time: the moment at which the bucket is full again. A
/// request passes when that moment is less than `capacity` ahead, and moves it by one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gcra {
    /// Between two requests in the long run. Rounded down to a whole nanosecond: 1,000,000 requests a second are
    /// met to 0.1 %; and one nanosecond is the least.
    interval_ns: u64,
    /// `burst` intervals.
    capacity_ns: u64,
    /// The most that is owed: whatever was charged afterwards, a bucket is not closed for ever.
    debt_ns_max: u64,
}

impl Gcra {
    fn new(rate: &ir::Rate) -> Self {
        let interval_ns = (nanos(rate.per) / u64::from(rate.requests.max(1))).max(1);
        // The bound keeps arrival times far from the end of the clock; it cuts only bursts that take decades.
        let capacity_ns = interval_ns.saturating_mul(u64::from(rate.burst.max(1))).min(CAPACITY_NS_MAX);
        let closed_ns_max = nanos(rate.per).saturating_mul(CLOSED_PERIODS_MAX).max(CLOSED_NS_MAX);
        Self {
            interval_ns: interval_ns.min(CAPACITY_NS_MAX),
            capacity_ns,
            debt_ns_max: capacity_ns.saturating_add(closed_ns_max),
        }
    }

    fn cost_ns(self, cost: u32) -> u64 {
        self.interval_ns.saturating_mul(cost.into())
    }

    fn ask(self, state: &mut [u64], now_ns: u64, cost: u32) -> Answer {
        let debt_ns = head(state).saturating_sub(now_ns);
        let wait_ns = debt_ns.saturating_add(self.cost_ns(cost.max(1))).saturating_sub(self.capacity_ns);
        Answer { wait_ns, state: self.left(debt_ns) }
    }

    fn charge(self, state: &mut [u64], now_ns: u64, cost: u32) -> Left {
        let debt_ns = head(state).saturating_sub(now_ns).saturating_add(self.cost_ns(cost));
        let debt_ns = debt_ns.min(self.debt_ns_max);
        set_head(state, now_ns.saturating_add(debt_ns));
        self.left(debt_ns)
    }

    /// What was charged first drains first: of a charge after which the bucket was full at `full_at`, no more is held than
    /// what was still to come until then.
    fn refund(self, state: &mut [u64], now_ns: u64, full_at: u64, cost: u32) {
        let head = head(state);
        let held_ns = full_at.min(head).saturating_sub(now_ns);
        set_head(state, head.saturating_sub(self.cost_ns(cost).min(held_ns)));
    }

    fn left(self, debt_ns: u64) -> Left {
        let remaining = self.capacity_ns.saturating_sub(debt_ns) / self.interval_ns;
        Left { remaining: u32::try_from(remaining).unwrap_or(u32::MAX), reset_ns: debt_ns }
    }
}

/// At most `requests` in any span of `per`. Time is cut into parts of a fifteenth of `per`, of which the state counts the
/// last sixteen: so the parts always cover more than `per`, and never is more admitted than the rate says. What that costs
/// is that a request counts up to a fifteenth longer than `per`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sliding {
    requests: u32,
    part_ns: u64,
}

impl Sliding {
    fn new(rate: &ir::Rate) -> Self {
        let per_ns = nanos(rate.per).min(CAPACITY_NS_MAX);
        Self { requests: rate.requests, part_ns: per_ns.div_ceil(PARTS_OF_WINDOW).max(1) }
    }

    /// The latest part that has counted; `None`: none has.
    fn latest(self, state: &[u64]) -> Option<u64> {
        let full_at = head(state);
        (full_at > 0).then(|| self.latest_of(full_at))
    }

    /// The latest part of a state that is over at this moment.
    fn latest_of(self, full_at: u64) -> u64 {
        (full_at / self.part_ns).saturating_sub(COUNTED)
    }

    /// The part of now, after what is over has been forgotten. A caller that lags behind another counts with it.
    fn roll(self, state: &mut [u64], now_ns: u64) -> u64 {
        let part = now_ns / self.part_ns;
        let Some(latest) = self.latest(state) else { return part };
        let end = part.min(latest.saturating_add(COUNTED));
        for over in latest + 1..=end {
            put(state, over, 0);
        }
        part.max(latest)
    }

    fn ask(self, state: &mut [u64], now_ns: u64, cost: u32) -> Answer {
        let part = self.roll(state, now_ns);
        let used = sum(state);
        let most = u64::from(self.requests).saturating_sub(cost.max(1).into());
        let mut left = used;
        let mut wait_ns = 0;
        // The oldest part is over first. What a request costs is never more than the rate, so that the walk ends.
        for old in part.saturating_sub(COUNTED - 1)..=part {
            if left <= most {
                break;
            }
            left = left.saturating_sub(get(state, old).into());
            wait_ns = (old + COUNTED).saturating_mul(self.part_ns).saturating_sub(now_ns).max(1);
        }
        Answer { wait_ns, state: self.left(state, now_ns) }
    }

    fn charge(self, state: &mut [u64], now_ns: u64, cost: u32) -> Left {
        if cost > 0 {
            let part = self.roll(state, now_ns);
            put(state, part, get(state, part).saturating_add(cost));
            set_head(state, (part + COUNTED).saturating_mul(self.part_ns));
        }
        self.left(state, now_ns)
    }

    /// From the part in which it was charged, if that still counts.
    fn refund(self, state: &mut [u64], full_at: u64, cost: u32) {
        let part = self.latest_of(full_at);
        if self.latest(state).is_some_and(|latest| part + COUNTED > latest && part <= latest) {
            put(state, part, get(state, part).saturating_sub(cost));
        }
    }

    fn left(self, state: &[u64], now_ns: u64) -> Left {
        let remaining = u64::from(self.requests).saturating_sub(sum(state));
        Left {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_ns: head(state).saturating_sub(now_ns),
        }
    }
}

/// `requests` in each span of the calendar (UTC). The second word of the state is the number of the span and the count.
///
/// The wall clock may step. Of a span that is one ahead of the clock the count goes on, so that a small step back gives
/// nothing; after a larger one the span of the clock begins anew, once, so that nobody waits for the clock to catch up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    requests: u32,
    per_s: u64,
    /// Where the first span of the clock begins; 1970 began on a Thursday, and weeks begin on Mondays.
    offset_s: u64,
}

impl Calendar {
    fn new(rate: &ir::Rate) -> Self {
        let per_s = rate.per.as_secs().max(1);
        let offset_s = if per_s.is_multiple_of(WEEK_S) { MONDAY_OFFSET_S } else { 0 };
        Self { requests: rate.requests, per_s, offset_s }
    }

    /// Brings the state to the span of now. Returns its number and nanoseconds to its end.
    fn turn(self, state: &mut [u64], unix_ns: u64) -> (u32, u64) {
        let of_clock = (unix_ns / NANOS_PER_SECOND + self.offset_s) / self.per_s;
        let of_clock = u32::try_from(of_clock).unwrap_or(u32::MAX);
        let word = state.get(1).copied().unwrap_or(0);
        let span = index_of(word);
        let span = if span == of_clock || span == of_clock.saturating_add(1) {
            span
        } else {
            if let Some(word) = state.get_mut(1) {
                *word = pack(of_clock, 0);
            }
            of_clock
        };
        let end_s = (u64::from(span) + 1).saturating_mul(self.per_s).saturating_sub(self.offset_s);
        (span, end_s.saturating_mul(NANOS_PER_SECOND).saturating_sub(unix_ns))
    }

    fn ask(self, state: &mut [u64], now: LimitNow, cost: u32) -> Answer {
        let (_, to_end_ns) = self.turn(state, now.unix_ns);
        let used = state.get(1).map_or(0, |word| count_of(*word));
        let passes = u64::from(used) + u64::from(cost.max(1)) <= self.requests.into();
        let wait_ns = if passes { 0 } else { to_end_ns.max(1) };
        Answer { wait_ns, state: self.left(used, to_end_ns) }
    }

    fn charge(self, state: &mut [u64], now: LimitNow, cost: u32) -> Left {
        let (span, to_end_ns) = self.turn(state, now.unix_ns);
        let used = state.get(1).map_or(0, |word| count_of(*word)).saturating_add(cost);
        if let Some(word) = state.get_mut(1) {
            *word = pack(span, used);
        }
        set_head(state, now.monotonic_ns.saturating_add(to_end_ns));
        self.left(used, to_end_ns)
    }

    fn left(self, used: u32, to_end_ns: u64) -> Left {
        Left {
            remaining: self.requests.saturating_sub(used),
            reset_ns: if used == 0 { 0 } else { to_end_ns },
        }
    }
}

fn head(state: &[u64]) -> u64 {
    state.first().copied().unwrap_or(0)
}

fn set_head(state: &mut [u64], full_at: u64) {
    if let Some(head) = state.first_mut() {
        *head = full_at;
    }
}

/// The count of one part; two share a word.
fn get(state: &[u64], part: u64) -> u32 {
    let (word, shift) = place(part);
    let counts = state.get(word).copied().unwrap_or(0) >> shift;
    u32::try_from(counts & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn put(state: &mut [u64], part: u64, count: u32) {
    let (word, shift) = place(part);
    if let Some(counts) = state.get_mut(word) {
        *counts = (*counts & !(u64::from(u32::MAX) << shift)) | (u64::from(count) << shift);
    }
}

fn place(part: u64) -> (usize, u32) {
    let slot = part % COUNTED;
    (1 + usize::try_from(slot / 2).unwrap_or(0), if slot.is_multiple_of(2) { 0 } else { 32 })
}

fn sum(state: &[u64]) -> u64 {
    let halves = |word: &u64| (word >> 32) + (word & u64::from(u32::MAX));
    state.iter().skip(1).map(halves).sum()
}

fn pack(index: u32, count: u32) -> u64 {
    (u64::from(index) << 32) | u64::from(count)
}

fn index_of(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or(u32::MAX)
}

fn count_of(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many parts of a sliding window are counted, the one of now among them.
const SUB_WINDOWS: usize = 16;
const COUNTED: u64 = 16;
const PARTS_OF_WINDOW: u64 = COUNTED - 1;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const WEEK_S: u64 = 7 * 24 * 3600;
/// From the Monday before 1970 to 1970.
const MONDAY_OFFSET_S: u64 = 3 * 24 * 3600;
/// How long a bucket may be closed by what is charged afterwards: so many periods, or a day if that is longer.
const CLOSED_PERIODS_MAX: u64 = 10;
const CLOSED_NS_MAX: u64 = 24 * 3600 * NANOS_PER_SECOND;
/// About 146 years.
const CAPACITY_NS_MAX: u64 = u64::MAX / 4;
