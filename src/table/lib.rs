//! Decides which route takes a request: pure, without time, I/O or state.
//!
//! Invariant: the same head and the same table make the same decision, always.

mod condition;
mod explain;
mod filter;
mod head;
mod host;
mod hosts;
mod index;
mod listing;
mod passed;
mod path;
mod pattern;
mod precedence;
mod route;
mod table;
mod values;
mod when;

pub use explain::{
    BackendShare, Detail, ExplainedRequest, Explanation, LimitKeys, Loser, Spoken, SpokenTls, Step, Winner,
};
pub use filter::{
    Preflight, PreparedCors, PreparedPath, PreparedRedirect, RedirectError, RedirectFrom, Weights,
    apply_header_edit, push_query,
};
pub use head::RequestHead;
pub use host::{HostError, fold};
pub use listing::RouteRow;
pub use passed::PassedThrough;
pub use path::canonical;
pub use route::{CompiledRoute, RouteSlot};
pub use table::{CompileProblem, Decision, Table};
pub use values::{cookie, cookies, query};
pub use when::When;
