//! The control plane: where objects come from, which version of them counts, and when translation runs.
//!
//! Invariant: one task owns the snapshot; sources only send it changes. Must never know the proxy.

mod error;
mod event_loop;
mod folder;
mod folder_source;
mod outlook;
mod problem;
mod schema;
mod source;
#[cfg(test)]
mod testing;
mod watch;
mod yaml;

pub use error::ControllerError;
pub use folder_source::{FolderSource, Loaded, Running, load};
pub use problem::{Problem, Problems};
