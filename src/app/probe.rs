//! `baribhara probe`: asks a URL once and tells by its exit code whether the answer is as expected.

use std::io::Write;
use std::process::ExitCode;

use http::Method;

use crate::cli::ProbeArgs;
use crate::client::Question;
use crate::values::read_header;
use crate::{logging, stdout};

/// Exit code 1 where the status is another one.
///
/// # Errors
/// No answer, a header without a colon, standard output.
pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let headers: Vec<(String, String)> =
        args.headers.iter().map(|line| read_header(line)).collect::<anyhow::Result<_>>()?;
    let question = Question {
        method: Method::GET,
        url: &args.url,
        headers: &headers,
        body: Vec::new(),
        timeout: args.timeout,
    };
    let answer = question.ask()?;
    let status = answer.status().as_u16();
    let mut out = stdout::lock();
    writeln!(out, "{} {status}", args.url)?;
    if args.expect.contains(&status) {
        return stdout::finish(out, ExitCode::SUCCESS);
    }
    let (first, last) = (args.expect.start(), args.expect.end());
    logging::complain(&format!("expected a status of {first} to {last}"));
    stdout::finish(out, ExitCode::FAILURE)
}
