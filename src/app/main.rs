//! The binary `baribhara`: reads the command line and runs one command. Wires rooms together, decides nothing.

mod check;
mod cli;
mod client;
mod completions;
mod crds;
mod echo;
mod explain;
mod folder;
mod logging;
mod memory;
mod probe;
mod routes;
mod run;
mod source;
mod stdout;
mod token;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Routes(args) => routes::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Echo(args) => echo::run(args),
        Command::Token(args) => token::run(args),
        Command::Completions(args) => completions::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if stdout::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            logging::complain(&format!("{error:#}"));
            ExitCode::from(if error.is::<cli::UsageError>() { 2 } else { 1 })
        }
    }
}
