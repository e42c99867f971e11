//! Turns 64 random bits into a choice. Makes no randomness of its own.

/// A number in `0..bound`, as evenly as 64 random bits allow; 0 when `bound` is 0.
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    // The high half of the product is always below `bound` (Lemire 2019, without the rejection step: the bias is at
    // most bound / 2^64).
    let product = u128::from(random) * u128::from(bound);
    u64::try_from(product >> 64).unwrap_or_default()
}

/// The same for an index into something with `len` elements.
pub(crate) fn index_below(random: u64, len: usize) -> usize {
    let bound = u64::try_from(len).unwrap_or(u64::MAX);
    usize::try_from(below(random, bound)).unwrap_or_default()
}
