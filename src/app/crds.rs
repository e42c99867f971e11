//! `baribhara crds`: prints the CustomResourceDefinitions as one stream of YAML documents.

use std::io::Write;
use std::process::ExitCode;

use crate::stdout;

/// # Errors
/// Standard output.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut out = stdout::lock();
    for (_, yaml) in api::crds_yaml()? {
        writeln!(out, "---\n{}", yaml.trim_start_matches("---").trim())?;
    }
    stdout::finish(out, ExitCode::SUCCESS)
}
