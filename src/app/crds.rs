//! `baribhara crds`: prints the CustomResourceDefinitions as one stream of YAML documents, or their reference.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::CrdsArgs;
use crate::stdout;

/// # Errors
/// Standard output.
pub(crate) fn run(args: &CrdsArgs) -> anyhow::Result<ExitCode> {
    let mut out = stdout::lock();
    if args.reference {
        out.write_all(api::crds_reference()?.as_bytes())?;
        return stdout::finish(out, ExitCode::SUCCESS);
    }
    for (_, yaml) in api::crds_yaml()? {
        writeln!(out, "---\n{}", yaml.trim_start_matches("---").trim())?;
    }
    stdout::finish(out, ExitCode::SUCCESS)
}
