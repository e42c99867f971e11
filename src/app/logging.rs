//! The log on standard error. Sets up the subscriber once; and writes the lines that commands say beside their output.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// What is logged where `RUST_LOG` says nothing else. The client of the API server logs every single try, and quotes
/// answers; what of it matters the controller says once.
const DEFAULT_LEVELS: &str = "info,kube_client=off";

/// Sends all events to standard error. `RUST_LOG` picks levels; without it, `info` and above.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVELS));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// The one line that ends a command which failed.
pub(crate) fn complain(message: &str) {
    say("error", message);
}

/// One line beside the output of a command.
pub(crate) fn note(message: &str) {
    say("warning", message);
}

fn say(what: &str, message: &str) {
    let one_line = message.replace(['\n', '\r'], " ");
    // Where standard error is gone too there is nobody left to tell.
    drop(writeln!(io::stderr().lock(), "{what}: {one_line}"));
}
