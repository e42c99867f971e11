//! Keeps the key sets that are fetched by URL fresh, on the control thread: one task for each, from the generation that
//! first names it to the one that no longer does. No request waits for it longer than it wants to.

mod fetch;
mod keeper;
#[cfg(test)]
mod tests;

pub(crate) use keeper::Keepers;
