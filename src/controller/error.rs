//! Why the control plane cannot start. What is wrong with objects is a [`crate::Problem`], never an error.

use std::io;
use std::path::PathBuf;

/// Why a source could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The folder does not exist, is no directory or may not be read.
    #[error("the folder {} cannot be read", path.display())]
    FolderUnreadable { path: PathBuf, source: io::Error },
    /// The operating system gave no thread.
    #[error("the thread {name} could not be started")]
    ThreadFailed { name: &'static str, source: io::Error },
}
