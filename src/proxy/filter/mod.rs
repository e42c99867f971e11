//! Filters that keep state between requests.

pub(crate) mod auth;
pub(crate) mod limit;
