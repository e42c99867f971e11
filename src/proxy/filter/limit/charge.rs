//! What the limits of a request have charged, for as long as another one may refuse it. Must not charge anything.

use traffic::LimitCharge;

/// What one limit has charged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    /// Of the limit among those of its route.
    pub(super) position: usize,
    pub(super) fingerprint: u64,
    pub(super) charge: LimitCharge,
}

/// What limits have charged. It is kept only where another limit may refuse afterwards: a route with one limit allocates
/// nothing for it.
#[derive(Debug, Default)]
pub(super) struct Charges(Option<Box<List>>);

#[derive(Debug)]
struct List {
    first: Charged,
    more: Vec<Charged>,
}

impl Charges {
    pub(super) fn add(&mut self, charged: Charged) {
        match &mut self.0 {
            Some(list) => list.more.push(charged),
            None => self.0 = Some(Box::new(List { first: charged, more: Vec::new() })),
        }
    }

    /// Shows each of them once.
    pub(super) fn take(&mut self, mut look: impl FnMut(Charged)) {
        let Some(list) = self.0.take() else { return };
        look(list.first);
        list.more.into_iter().for_each(look);
    }
}
