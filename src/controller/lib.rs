//! The control plane: where objects come from, which version of them counts, and when translation runs.
//!
//! Invariant: one task owns the snapshot; sources only send it changes. Must never know the proxy.

mod cluster;
mod document;
mod error;
mod event_loop;
mod events;
mod folder;
mod folder_source;
mod last_good;
mod leader;
mod outlook;
mod problem;
mod replica;
mod rule_annotation;
mod running;
mod schema;
mod source;
mod status;
#[cfg(test)]
mod testing;
mod watch;
mod yaml;

pub use cluster::{ClusterSettings, ClusterSource, load_cluster};
pub use error::ControllerError;
pub use folder_source::{FolderSource, Loaded, load};
pub use problem::{Problem, Problems};
pub use replica::ReplicaSettings;
pub use running::Running;
pub use schema::CertificateCheck;
