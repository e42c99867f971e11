//! Standard output of the commands. A reader that went away (`| head`) is not an error.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

/// Locks standard output behind a buffer; [`finish`] flushes it.
pub(crate) fn lock() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Flushes what a command wrote and hands its exit code on.
///
/// # Errors
/// What the write gave, a closed pipe aside.
pub(crate) fn finish(mut out: BufWriter<StdoutLock<'static>>, code: ExitCode) -> anyhow::Result<ExitCode> {
    out.flush()?;
    Ok(code)
}

/// Whether the error is only that nobody reads any more.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|e| e.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}
