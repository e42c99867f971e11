//! Shares of weighted backends. Must not know endpoints or draw random numbers.

/// The weights of a route's backends, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    cumulative: Box<[u64]>,
}

impl Weights {
    pub(crate) fn new(backends: &[ir::WeightedBackend]) -> Self {
        let mut total = 0_u64;
        let cumulative = backends.iter().map(|backend| {
            total = total.saturating_add(u64::from(backend.weight));
            total
        });
        Self { cumulative: cumulative.collect() }
    }

    /// The index of the backend that an evenly drawn number picks. `None`: no backend has a weight.
    pub fn pick(&self, random: u64) -> Option<usize> {
        let total = self.cumulative.last().copied().filter(|total| *total > 0)?;
        // The high half of the product is even over 0..total, without a division.
        let place = (u128::from(random) * u128::from(total)) >> 64;
        Some(self.cumulative.partition_point(|end| u128::from(*end) <= place))
    }
}

#[cfg(test)]
mod tests;
