//! Randomness of one worker: quick, not secret. Seeded by the operating system through std's hasher keys.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new() -> Self {
        Self(Cell::new(seed()))
    }

    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A number that no other process can guess.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
