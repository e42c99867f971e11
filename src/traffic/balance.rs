//! Picks an endpoint of a backend, and a backend by weight. Connects to nothing and remembers no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::chance;
use crate::outlier::{EndpointHealth, Outlier};

mod group;
mod latency;
mod ring;
mod warmup;
mod zone;

pub use latency::Latency;
pub use ring::{Ring, stable_hash};

use self::group::{Group, Places};
use self::warmup::Warmup;

/// What all workers know about one endpoint. Belongs to the endpoint (backend and address), not to a generation.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    health: EndpointHealth,
    latency: Latency,
    /// When it was added, on the caller's clock; 0: it was there before anyone looked.
    since_ns: u64,
}

impl EndpointState {
    /// One that was added to those that were known already.
    pub fn added(now_ns: u64) -> Self {
        Self { since_ns: now_ns, ..Self::default() }
    }

    /// Requests that are at the endpoint now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn health(&self) -> &EndpointHealth {
        &self.health
    }

    /// Kept up to date only where [`Choice::Ewma`] is asked for.
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// As given to [`Self::added`].
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }
}

impl AsRef<Self> for EndpointState {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// One request at an endpoint, from its start to its drop.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl InFlight {
    pub fn start(endpoint: &Arc<EndpointState>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than started");
    }
}

/// The endpoints that this request was tried at: indices into one and the same slice. Holds the last eight, which
/// is more than a request has tries worth telling apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct TriedSet {
    indices: [Option<usize>; 8],
    added: usize,
}

impl TriedSet {
    pub fn insert(&mut self, index: usize) {
        let place = self.added % self.indices.len();
        if let Some(slot) = self.indices.get_mut(place) {
            *slot = Some(index);
        }
        self.added += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.added == 0
    }

    pub fn contains(&self, index: usize) -> bool {
        self.added > 0 && self.indices.contains(&Some(index))
    }
}

/// What is prepared of a list of endpoints when it changes.
#[derive(Debug, Default)]
pub struct Lineup {
    /// When the newest endpoint was added; 0: none was.
    newest_ns: u64,
    /// Only where something is hashed.
    ring: Option<Ring>,
    /// Places of the endpoints of this zone, in order. Empty: no difference is made.
    local: Box<[usize]>,
    /// The same of this region, those of the zone among them.
    near: Box<[usize]>,
    /// Tells whether these are the endpoints that hold now.
    number: u64,
}

impl Lineup {
    /// `ring` must be of the same endpoints in the same order; `local` are places in them, in order.
    pub fn new<E: AsRef<EndpointState>>(endpoints: &[E], ring: Option<Ring>, local: &[usize]) -> Self {
        let newest_ns = endpoints.iter().map(|endpoint| endpoint.as_ref().since_ns).max().unwrap_or(0);
        Self { newest_ns, ring, local: local.into(), near: Box::default(), number: 0 }
    }

    /// `near` are places in the same endpoints, in order, those of the zone among them.
    #[must_use]
    pub fn with_near(self, near: &[usize]) -> Self {
        Self { near: near.into(), ..self }
    }

    /// As [`Outlier::next_lineup`] says.
    #[must_use]
    pub fn with_number(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    pub fn local(&self) -> &[usize] {
        &self.local
    }

    pub fn near(&self) -> &[usize] {
        &self.near
    }

    /// Those of the zone, or where there are none those of the region.
    fn nearest(&self) -> &[usize] {
        if self.local.is_empty() { &self.near } else { &self.local }
    }
}

/// How an endpoint is picked among those that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `turn` counts up by one with each pick of this backend.
    RoundRobin {
        turn: u64,
    },
    LeastRequest,
    Ewma,
    Random,
    /// `None`: the request has nothing of what is hashed. `under_way` are all requests of the backend now, this one
    /// among them.
    ConsistentHash {
        key: Option<u64>,
        under_way: u32,
    },
}

/// One question to the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    pub choice: Choice,
    pub random: u64,
    pub now_ns: u64,
    pub tried: &'a TriedSet,
    /// Of the backend.
    pub outlier: &'a Outlier,
    /// Of the very endpoints that are asked about.
    pub lineup: &'a Lineup,
    /// How long the share of an endpoint grows that was added or came back; 0: it is whole at once.
    pub slow_start_ns: u64,
    /// Whether the endpoints of this zone come first.
    pub prefers_local: bool,
    /// See [`ir::PassiveHealth::panic_percent`].
    pub panic_percent: u8,
}

/// Picks an endpoint by its index; `None` only when there is none at all.
///
/// Taken from the first of these groups that has anyone: those of this zone that may be asked and are untried, where they
/// are preferred and this request stays in the zone (see [`zone::stays`]); the same of this region; those that may be asked and
/// are untried; untried (when all are out, all are asked, since one that is out may be well again and a refusal never is); those that may be
/// asked; everyone.
///
/// One that is out (ejected, or its active checks fail) may not be asked; one on trial has few tries, which are taken here.
/// Where fewer are well than the policy's panic threshold, all may be asked but those that can't be reached.
///
/// Round robin gives each of k endpoints one of every k turns as long as the group stays the same. Least request
/// takes two of the group at random and then the one with fewer requests in flight; EWMA takes the one whose latency
/// times its requests, the new one among them, is less. Consistent hashing takes the first on the [`Ring`] from the key
/// on that is not at its bound (see [`capacity`]).
///
/// During a slow start an endpoint is drawn with the share that it has grown to, and round robin becomes a draw; of the
/// keys that are an endpoint's own it has that share, and each comes to it once.
pub fn pick<E: AsRef<EndpointState>>(endpoints: &[E], ask: &Pick<'_>) -> Option<usize> {
    let all = endpoints.len();
    if all == 0 {
        return None;
    }
    let is_calm = ask.outlier.is_calm();
    if ask.tried.is_empty() && is_calm {
        let warmup = Warmup::begin(ask);
        let nearest = if ask.prefers_local { ask.lineup.nearest() } else { &[] };
        if nearest.is_empty() {
            return Group { endpoints, ask, warmup, member: |_| true, places: Places::All(all) }.choose();
        }
        let member = |index: usize| nearest.binary_search(&index).is_ok();
        return Group { endpoints, ask, warmup, member, places: Places::Listed(nearest) }.choose();
    }
    if is_calm {
        return pick_among(endpoints, ask, Survey::CALM);
    }
    let survey = Survey::of(endpoints, ask);
    for _ in 0..TRIAL_RACES_MAX {
        let index = pick_among(endpoints, ask, survey)?;
        let health = endpoints.get(index)?.as_ref().health();
        // Where health is ignored, or there was nobody better, no trial is taken: what comes of it does not count.
        let free = survey.panics || health.is_out(ask.now_ns) || !health.has_trial(ask.now_ns);
        if free || health.take_trial(ask.now_ns) {
            return Some(index);
        }
    }
    pick_among(endpoints, ask, survey)
}

/// How often a pick begins anew because another worker took the last trial of the endpoint in between.
const TRIAL_RACES_MAX: usize = 4;

/// How the endpoints of a backend are.
#[derive(Clone, Copy, Debug)]
struct Survey {
    /// So few are well that those are asked, too, that are out for what they answer.
    panics: bool,
}

impl Survey {
    const CALM: Self = Self { panics: false };

    fn of<E: AsRef<EndpointState>>(endpoints: &[E], ask: &Pick<'_>) -> Self {
        let alerts = ask.outlier.alerts();
        let (mut well, mut dead, mut all_trusted) = (0usize, 0usize, true);
        for health in endpoints.iter().map(|endpoint| &endpoint.as_ref().health) {
            well += usize::from(!health.is_out(ask.now_ns));
            dead += usize::from(health.is_dead(ask.now_ns));
            all_trusted &= health.is_trusted();
        }
        if all_trusted && well == endpoints.len() {
            ask.outlier.settle(alerts, ask.lineup.number);
        }
        let reachable = endpoints.len().saturating_sub(dead);
        Self { panics: well * 100 < reachable * usize::from(ask.panic_percent) }
    }

    fn may_be_asked(self, health: &EndpointHealth, now_ns: u64) -> bool {
        if self.panics { !health.is_dead(now_ns) } else { !health.is_out(now_ns) && health.has_trial(now_ns) }
    }
}

/// See [`pick`].
fn pick_among<E: AsRef<EndpointState>>(endpoints: &[E], ask: &Pick<'_>, survey: Survey) -> Option<usize> {
    let warmup = Warmup::begin(ask);
    let health = |index: usize| endpoints.get(index).map(|endpoint| &endpoint.as_ref().health);
    let askable = |index: usize| health(index).is_some_and(|health| survey.may_be_asked(health, ask.now_ns));
    let well = |index: usize| health(index).is_some_and(|health| !health.is_out(ask.now_ns));
    let untried = |index: usize| !ask.tried.contains(index);
    let [local, near] =
        if ask.prefers_local { [ask.lineup.local(), ask.lineup.near()] } else { [&[][..], &[]] };
    let within = |places: &[usize]| {
        if places.is_empty() || !zone::stays(ask, places, well) {
            return None;
        }
        let member = |index: usize| places.binary_search(&index).is_ok() && askable(index) && untried(index);
        Group::scanned(endpoints, ask, warmup, member)?.choose()
    };
    within(local)
        .or_else(|| within(near))
        .or_else(|| {
            let member = |index| askable(index) && untried(index);
            Group::scanned(endpoints, ask, warmup, member)?.choose()
        })
        .or_else(|| {
            let member = |index| well(index) && untried(index);
            Group::scanned(endpoints, ask, warmup, member)?.choose()
        })
        .or_else(|| Group::scanned(endpoints, ask, warmup, untried)?.choose())
        .or_else(|| Group::scanned(endpoints, ask, warmup, well)?.choose())
        .or_else(|| {
            let places = Places::All(endpoints.len());
            Group { endpoints, ask, warmup, member: |_| true, places }.choose()
        })
}

/// The most requests that consistent hashing brings to one of `members` endpoints at once, when `under_way` of them run:
/// a quarter over the mean, rounded up (Mirrokni and others, 2016), and never less than eight. So few overload nobody,
/// and one client's own requests stay together.
pub fn capacity(under_way: u32, members: usize) -> u32 {
    let members = u64::try_from(members).unwrap_or(u64::MAX).max(1);
    let bound = (u64::from(under_way) * 5).div_ceil(members.saturating_mul(4));
    u32::try_from(bound).unwrap_or(u32::MAX).max(CAPACITY_MIN)
}

const CAPACITY_MIN: u32 = 8;

/// The index of a weighted choice. `cumulative` holds the running sums of the weights; `None` when it is empty or
/// sums up to 0.
pub fn weighted(cumulative: &[u64], random: u64) -> Option<usize> {
    let total = cumulative.last().copied().filter(|total| *total > 0)?;
    let point = chance::below(random, total);
    Some(cumulative.partition_point(|sum| *sum <= point))
}

#[cfg(test)]
mod tests;
