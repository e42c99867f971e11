//! `baribhara explain`: reads a request from the command line and asks the table. The proxy says how a request is
//! read, the table decides and explains.

use std::io::Write;
use std::process::ExitCode;
use std::slice;

use anyhow::Context as _;
use proxy::Question;
use serde::Serialize;
use table::Table;

use crate::cli::{ExplainArgs, OutputFormat};
use crate::{folder, stdout};

/// What `-o json` prints of a request that no route is asked for.
#[derive(Debug, Serialize)]
struct Refused<'a> {
    request: RefusedRequest<'a>,
    winner: Option<()>,
    losers: [(); 0],
    refused: Refusal,
}

/// As it was typed: there is no canonical form of it.
#[derive(Debug, Serialize)]
struct RefusedRequest<'a> {
    method: &'a str,
    url: &'a str,
}

#[derive(Debug, Serialize)]
struct Refusal {
    status: u16,
    reason: String,
}

/// # Errors
/// A header without a colon, a folder that cannot be read, standard output.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let headers: Vec<(String, String)> =
        args.headers.iter().map(|line| read_header(line)).collect::<anyhow::Result<_>>()?;
    let loaded = folder::load(slice::from_ref(&args.source.config), &args.source.ingress_class)?;
    folder::warn_of_errors(&loaded);
    let (table, _) = Table::compile(None, &loaded.config);
    let mut out = stdout::lock();
    match (Question::new(&args.method, &args.url, &headers), args.output) {
        (Ok(question), OutputFormat::Text) => {
            write!(out, "{}", table.explain(&question.head(args.client_ip)))?;
        }
        (Ok(question), OutputFormat::Json) => {
            serde_json::to_writer_pretty(&mut out, &table.explain(&question.head(args.client_ip)))?;
            writeln!(out)?;
        }
        (Err(reason), OutputFormat::Text) => {
            writeln!(out, "{} {}\n\nrefused before any route, with 400: {reason}", args.method, args.url)?;
        }
        (Err(reason), OutputFormat::Json) => {
            let request = RefusedRequest { method: &args.method, url: &args.url };
            let refused = Refusal { status: 400, reason };
            serde_json::to_writer_pretty(&mut out, &Refused { request, winner: None, losers: [], refused })?;
            writeln!(out)?;
        }
    }
    stdout::finish(out, ExitCode::SUCCESS)
}

fn read_header(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line
        .split_once(':')
        .with_context(|| format!("a header is 'Name: value', and '{line}' has no colon"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
