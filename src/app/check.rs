//! `baribhara check`: lists what is wrong with the objects of folders. Judges nothing itself.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use controller::{Loaded, Problem};
use serde::Serialize;
use translate::Severity;

use crate::cli::{CheckArgs, OutputFormat};
use crate::{folder, stdout};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    problems: &'a [Problem],
    errors: usize,
    warnings: usize,
    rejected_objects: usize,
    routes: usize,
}

/// Exit code 1 where there is an error, 0 with warnings.
///
/// # Errors
/// A folder that cannot be read, standard output.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let loaded = folder::load(&args.folders, &args.ingress_class)?;
    let checked = Checked::new(&loaded);
    let mut out = stdout::lock();
    match args.output {
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut out, &checked)?;
            writeln!(out)?;
        }
        OutputFormat::Text => checked.write_text(&mut out)?,
    }
    let code = if checked.errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    stdout::finish(out, code)
}

impl<'a> Checked<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        let passed: BTreeSet<_> = loaded.config.passthrough.values().map(|passed| &passed.id).collect();
        Self {
            problems: &loaded.problems.lines,
            errors: loaded.problems.count(Severity::Error),
            warnings: loaded.problems.count(Severity::Warning),
            rejected_objects: loaded.problems.rejected_objects,
            routes: loaded.config.routes.len() + passed.len(),
        }
    }

    fn write_text(&self, out: &mut impl Write) -> anyhow::Result<()> {
        for problem in self.problems {
            let severity = match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            writeln!(out, "{severity}: {problem}")?;
        }
        let Self { errors, warnings, routes, .. } = self;
        writeln!(out, "{errors} errors, {warnings} warnings, {routes} routes")?;
        Ok(())
    }
}
