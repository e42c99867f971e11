//! Chooses among the endpoints that may be asked. Does not say who may.

use super::ring::mixed;
use super::warmup::{WHOLE, Warmup};
use super::{Choice, EndpointState, Pick, capacity};
use crate::chance;

/// Points of a ring that are looked at for one key. Where fewer than one endpoint in hundreds may be asked, it is looked
/// for in another way.
const WALK_MAX: usize = 4096;
/// The same while endpoints warm up: where nearly all do, the share of none matters.
const WARM_WALK_MAX: usize = 64;

/// The endpoints that may be asked; at least one.
pub(super) struct Group<'a, E, M> {
    pub(super) endpoints: &'a [E],
    pub(super) ask: &'a Pick<'a>,
    pub(super) warmup: Option<Warmup>,
    /// Says the same as `places`, of an index.
    pub(super) member: M,
    pub(super) places: Places<'a>,
}

/// Where the members stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Places<'a> {
    /// So many, from the first on.
    All(usize),
    /// These.
    Listed(&'a [usize]),
    /// So many, anywhere.
    Scanned(usize),
}

impl<'a, E: AsRef<EndpointState>, M: Fn(usize) -> bool> Group<'a, E, M> {
    /// `None`: there is nobody.
    pub(super) fn scanned(
        endpoints: &'a [E],
        ask: &'a Pick<'a>,
        warmup: Option<Warmup>,
        member: M,
    ) -> Option<Self> {
        let members = (0..endpoints.len()).filter(|index| member(*index)).count();
        (members > 0).then_some(Self { endpoints, ask, warmup, member, places: Places::Scanned(members) })
    }

    pub(super) fn choose(&self) -> Option<usize> {
        let random = self.ask.random;
        match self.ask.choice {
            Choice::RoundRobin { turn } if self.warmup.is_none() => {
                let len = u64::try_from(self.len()).unwrap_or(u64::MAX);
                self.nth(usize::try_from(turn % len).unwrap_or(0))
            }
            Choice::RoundRobin { .. } | Choice::Random => self.draw(random, None),
            Choice::LeastRequest => self.better_of_two(|_, state| u64::from(state.in_flight())),
            Choice::Ewma => self.better_of_two(|both_known, state| {
                let requests = u64::from(state.in_flight()) + 1;
                let latency_ns = state.latency().get(self.ask.now_ns).filter(|_| both_known).unwrap_or(1);
                latency_ns.saturating_mul(requests)
            }),
            Choice::ConsistentHash { key: None, .. } => self.draw(random, None),
            Choice::ConsistentHash { key: Some(key), under_way } => {
                self.on_ring(key, under_way).or_else(|| self.draw(random, None))
            }
        }
    }

    fn len(&self) -> usize {
        match self.places {
            Places::All(len) | Places::Scanned(len) => len,
            Places::Listed(places) => places.len(),
        }
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.endpoints.len()).filter(|index| (self.member)(*index))
    }

    /// Another worker may eject a member in between; then the last one that is left takes its turn.
    fn nth(&self, n: usize) -> Option<usize> {
        match self.places {
            Places::All(_) => Some(n),
            Places::Listed(places) => places.get(n).copied(),
            Places::Scanned(_) => self.members().take(n.saturating_add(1)).last(),
        }
    }

    fn state(&self, index: usize) -> Option<&EndpointState> {
        self.endpoints.get(index).map(AsRef::as_ref)
    }

    /// One of the members by chance, each by its share, but not this one if there is another.
    fn draw(&self, random: u64, but: Option<usize>) -> Option<usize> {
        let Some(warmup) = &self.warmup else { return self.draw_evenly(random, but) };
        let share = |index: usize| self.state(index).map_or(0, |state| warmup.share(state));
        let others = || self.members().filter(move |index| Some(*index) != but);
        let mut left = chance::below(random, others().map(share).sum());
        others()
            .find(|index| match left.checked_sub(share(*index)) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
            // Another worker may change the shares in between.
            .or_else(|| others().last())
            .or(but)
    }

    fn draw_evenly(&self, random: u64, but: Option<usize>) -> Option<usize> {
        let len = self.len();
        match but {
            None => self.nth(chance::index_below(random, len)),
            Some(but) if len < 2 => Some(but),
            Some(but) => {
                // The place of the other one among those that are left: the last stands in for the one that is out.
                let other = self.nth(chance::index_below(random, len - 1))?;
                if other == but { self.nth(len - 1) } else { Some(other) }
            }
        }
    }

    /// Two different members by chance, and of these the one with the lower cost; of equals the first. The cost is asked
    /// for with whether the latency of both is known.
    fn better_of_two(&self, cost: impl Fn(bool, &EndpointState) -> u64) -> Option<usize> {
        let first = self.draw(self.ask.random, None)?;
        // Drawn with the bits that the first draw used least.
        let second = self.draw(self.ask.random.rotate_left(32), Some(first))?;
        let (Some(one), Some(other)) = (self.state(first), self.state(second)) else { return Some(first) };
        let now_ns = self.ask.now_ns;
        let both_known = one.latency().get(now_ns).is_some() && other.latency().get(now_ns).is_some();
        Some(if cost(both_known, other) < cost(both_known, one) { second } else { first })
    }

    /// The first on the ring from the key on that is a member, not at its bound and warm enough for this key.
    fn on_ring(&self, key: u64, under_way: u32) -> Option<usize> {
        let ring = self.ask.lineup.ring()?;
        let capacity = capacity(under_way, self.len());
        let fits = |index: usize| {
            (self.member)(index) && self.state(index).is_some_and(|state| state.in_flight() < capacity)
        };
        // The same for a key at any time, so that it moves once.
        let turn = mixed(key) % WHOLE;
        let is_warm = |index: usize| match (&self.warmup, self.state(index)) {
            (Some(warmup), Some(state)) => turn < warmup.share(state),
            (None, _) | (_, None) => true,
        };
        let walk = || ring.walk(key).take(WALK_MAX);
        let warm = || walk().take(WARM_WALK_MAX).find(|index| fits(*index) && is_warm(*index));
        (self.warmup.is_some().then(warm).flatten())
            .or_else(|| walk().find(|index| fits(*index)))
            .or_else(|| self.from(key).find(|index| fits(*index)))
            .or_else(|| walk().find(|index| (self.member)(*index)))
            .or_else(|| self.from(key).next())
    }

    /// All members, from a place on that only the key knows.
    fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = chance::index_below(mixed(key), self.endpoints.len());
        (start..self.endpoints.len()).chain(0..start).filter(|index| (self.member)(*index))
    }
}
