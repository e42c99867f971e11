//! The gateway under test: `baribhara run` on free ports, and what its admin listener says.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, Request, Response};
use crate::process::Process;
use crate::until::{until, until_within};

/// Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    pub process: Process,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

impl Gateway {
    /// Serves a folder with two workers and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn start(config: &Path, flags: &[&str]) -> Self {
        let gateway = Self::launch(config, flags);
        gateway.wait_ready(Duration::from_secs(20));
        gateway
    }

    /// As [`Gateway::start`], with more environment variables.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn start_with_env(config: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let gateway = Self::attach(Process::start_with_env(&arguments(config, flags), environment));
        gateway.wait_ready(Duration::from_secs(20));
        gateway
    }

    /// As [`Gateway::start`], but nobody reads its standard output.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn start_unread(config: &Path, flags: &[&str]) -> Self {
        let gateway = Self::attach(Process::start_unread(&arguments(config, flags), &[]));
        gateway.wait_ready(Duration::from_secs(20));
        gateway
    }

    /// Starts it and waits only until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn launch(config: &Path, flags: &[&str]) -> Self {
        Self::attach(Process::start(&arguments(config, flags)))
    }

    fn attach(process: Process) -> Self {
        let (http, https, admin) = until("the gateway says where it listens", || {
            let lines = process.stderr();
            let line = lines.iter().find(|line| line.contains("listening http="))?;
            Some((
                address_after(line, "http=")?,
                address_after(line, "https=")?,
                address_after(line, "admin=")?,
            ))
        });
        Self { process, http, https, admin }
    }

    /// # Panics
    /// When `/readyz` does not answer 200 by then; with what the gateway wrote.
    pub fn wait_ready(&self, patience: Duration) {
        let mut last = String::new();
        let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_within(patience, "the gateway is ready", || match self.ask_admin("/readyz") {
                Ok(response) if response.status == 200 => Some(()),
                Ok(response) => {
                    last = format!("{} {}", response.status, response.text());
                    None
                }
                Err(error) => {
                    last = error.to_string();
                    None
                }
            });
        }));
        assert!(ready.is_ok(), "not ready: {last}\n{}", self.process.stderr().join("\n"));
    }

    /// GET of the data listener on a connection of its own.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub fn get(&self, host: &str, path: &str) -> Response {
        self.ask(&Request::get(host, path))
    }

    /// One request of the data listener on a connection of its own.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub fn ask(&self, request: &Request) -> Response {
        client::ask(self.http, request).expect("an answer of the gateway")
    }

    /// GET of the admin listener.
    ///
    /// # Errors
    /// The connection, or an answer that is not whole.
    pub fn ask_admin(&self, path: &str) -> io::Result<Response> {
        client::ask(self.admin, &Request::get("admin", path))
    }

    /// The body of a GET of the admin listener.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn admin_text(&self, path: &str) -> String {
        let response = self.ask_admin(path).expect("an answer of the admin listener");
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.text()
    }

    /// The value of one series of `/metrics`, as it stands there before its value; 0 when it is absent.
    ///
    /// # Panics
    /// When the value is not a number.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.admin_text("/metrics");
        let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    /// The lines of the access log on standard output.
    ///
    /// # Panics
    /// When a line is not JSON.
    pub fn access_log(&self) -> Vec<Value> {
        let lines = self.process.stdout();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// Waits for a line of the access log for which this holds.
    pub fn access_line(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(what, || self.access_log().into_iter().find(&holds))
    }

    /// Waits until a GET gives this status; returns the answer.
    pub fn until_status(&self, host: &str, path: &str, status: u16) -> Response {
        until(&format!("{host}{path} answers {status}"), || {
            client::ask(self.http, &Request::get(host, path))
                .ok()
                .filter(|response| response.status == status)
        })
    }
}

/// The command line: free ports and two workers, unless the flags say otherwise.
fn arguments(config: &Path, flags: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["run", "--config"].map(str::to_owned).to_vec();
    args.push(config.display().to_string());
    args.extend(["--admin", "127.0.0.1:0"].map(str::to_owned));
    for (flag, value) in [("--http", "127.0.0.1:0"), ("--https", "127.0.0.1:0"), ("--workers", "2")] {
        if !flags.contains(&flag) {
            args.extend([flag, value].map(str::to_owned));
        }
    }
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    args
}

fn address_after(line: &str, key: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(key)?;
    // A field that is a text stands in quotation marks.
    rest.split(' ').next()?.trim_matches('"').parse().ok()
}
