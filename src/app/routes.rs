//! `baribhara routes`: lists the compiled table, most specific first.

use std::io::Write;
use std::process::ExitCode;

use http::Method;
use table::Table;

use crate::cli::{OutputFormat, RoutesArgs};
use crate::source::{self, Source};
use crate::stdout;

/// # Errors
/// A source that cannot be read, standard output.
pub(crate) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let loaded = match Source::of(&args.source) {
        Source::Gateway(address) => {
            return source::ask(address, "/routes", Method::GET, Vec::new(), args.output);
        }
        source @ (Source::Folder(_) | Source::Cluster(_)) => source.load(&args.source)?,
    };
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
