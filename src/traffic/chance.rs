//! Turns 64 random bits into a choice. Makes no randomness of its own.

/// A number in `0..bound`, as evenly as 64 random bits allow; 0 when `bound` is 0.
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    // The high half of the product is always below `bound` (Lemire 2019, without the rejection step: the bias is at
    // most bound / 2^64).
    let product = u128::from(random) * u128::from(bound);
    u64::try_from(product >> 64).unwrap_or_default()
}

/// Whether something happens that does so `percent` times of a hundred.
pub fn happens(percent: u8, random: u64) -> bool {
    below(random, 100) < u64::from(percent)
}

/// The same for an index into something with `len` elements.
pub(crate) fn index_below(random: u64, len: usize) -> usize {
    let bound = u64::try_from(len).unwrap_or(u64::MAX);
    usize::try_from(below(random, bound)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_so_many_times_of_a_hundred_does() {
        let mut state = 7_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        };
        for percent in [0, 1, 10, 50, 99, 100] {
            let count = (0..100_000).filter(|_| happens(percent, draw())).count();
            let want = usize::from(percent) * 1000;
            assert!(
                count.abs_diff(want) <= if matches!(percent, 0 | 100) { 0 } else { 700 },
                "{percent}: {count}"
            );
        }
        assert!(!happens(0, 0) && happens(100, u64::MAX));
    }
}
