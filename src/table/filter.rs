//! Filters of a route, prepared when the table is compiled. Must not hold state or decide a route.

mod cors;
mod headers;
mod rewrite;
mod weights;

pub use cors::{Preflight, PreparedCors};
pub use headers::apply_header_edit;
pub use rewrite::{PreparedPath, PreparedRedirect, RedirectError, RedirectFrom, push_query};
pub use weights::Weights;
