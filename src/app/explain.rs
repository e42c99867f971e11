//! `baribhara explain`: reads a request from the command line and asks the table. The proxy says how a request is
//! read, the table decides and explains.

use std::io::Write;
use std::process::ExitCode;

use http::Method;
use proxy::Question;
use serde::Serialize;
use serde_json::json;
use table::Table;

use crate::cli::{ExplainArgs, OutputFormat};
use crate::source::{self, Source};
use crate::stdout;
use crate::values::read_header;

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
/// A header without a colon, a source that cannot be read, standard output.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let headers: Vec<(String, String)> =
        args.headers.iter().map(|line| read_header(line)).collect::<anyhow::Result<_>>()?;
    let loaded = match Source::of(&args.source) {
        Source::Gateway(address) => return ask(address, args, &headers),
        source @ (Source::Folder(_) | Source::Cluster(_)) => source.load(&args.source)?,
    };
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

/// Lets a running gateway explain, by the table that it serves.
fn ask(address: &str, args: &ExplainArgs, headers: &[(String, String)]) -> anyhow::Result<ExitCode> {
    let body = json!({
        "method": args.method, "url": args.url, "headers": headers, "clientIp": args.client_ip,
    });
    source::ask(address, "/explain", Method::POST, body.to_string().into_bytes(), args.output)
}
