//! The way to the pods: backends and their endpoints, connections and their pools, tries and retries.

mod aside;
mod backend;
mod balance;
mod body;
mod check;
mod connect;
mod exchange;
mod forward;
pub(crate) mod h1;
mod h2;
mod io;
mod names;
mod own;
mod passage;
mod pool;
mod protocol;
mod switched;
mod tls;
mod trip;

pub(crate) use aside::{Aside, AsideTerms};
pub(crate) use backend::{Backend, Backends};
pub(crate) use balance::{Sticky, StickyPlace};
pub(crate) use body::UpstreamBody;
pub(crate) use check::{Check, Checker};
pub(crate) use forward::{Forward, Forwarded, Held, Trail, forward};
pub(crate) use h1::Upgraded;
pub(crate) use own::{Own, edits_own};
pub(crate) use passage::{Passage, PassageError, PassageHeld};
pub(crate) use pool::Pools;
pub(crate) use protocol::{Protocol, Protocols};
pub(crate) use switched::Switched;
#[cfg(test)]
pub(crate) use tls::Takes;
pub(crate) use tls::{ClientTls, SystemTrust};
