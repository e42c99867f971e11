//! `baribhara routes`: lists the compiled table, most specific first.

use std::io::Write;
use std::process::ExitCode;
use std::slice;

use table::Table;

use crate::cli::{OutputFormat, RoutesArgs};
use crate::{folder, stdout};

/// # Errors
/// A folder that cannot be read, standard output.
pub(crate) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let loaded = folder::load(slice::from_ref(&args.source.config), &args.source.ingress_class)?;
    folder::warn_of_errors(&loaded);
    let (table, _) = Table::compile(None, &loaded.config);
    let rows = table.routes();
    let mut out = stdout::lock();
    match args.output {
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &rows)?;
            writeln!(out)?;
        }
        OutputFormat::Text => {
            for row in &rows {
                writeln!(out, "{row}")?;
            }
        }
    }
    stdout::finish(out, ExitCode::SUCCESS)
}
