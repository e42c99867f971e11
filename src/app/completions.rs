//! `baribhara completions`: prints a completion script.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::{Cli, CompletionShell, CompletionsArgs};
use crate::stdout;

/// # Errors
/// Standard output.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    // Into memory first: the generator panics where a write fails, and a closed pipe is no reason to.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "baribhara", &mut script);
    let mut out = stdout::lock();
    out.write_all(&script)?;
    stdout::finish(out, ExitCode::SUCCESS)
}
