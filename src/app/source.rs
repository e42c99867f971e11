//! Where `explain` and `routes` look: a folder, the objects of a cluster, or a gateway that runs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use anyhow::bail;
use controller::{ClusterSettings, Loaded};
use http::Method;
use translate::Settings;

use crate::cli::{OutputFormat, SourceArgs};
use crate::client::Question;
use crate::{folder, stdout};

/// How long a gateway may take to answer a question about its table.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Exactly one of them is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Folder(&'a Path),
    Cluster(&'a Path),
    /// The admin address of a gateway.
    Gateway(&'a str),
}

impl<'a> Source<'a> {
    pub(crate) fn of(args: &'a SourceArgs) -> Self {
        match (&args.config, &args.kubeconfig, &args.gateway) {
            (Some(folder), _, _) => Self::Folder(folder),
            (None, Some(kubeconfig), _) => Self::Cluster(kubeconfig),
            (None, None, gateway) => Self::Gateway(gateway.as_deref().unwrap_or_default()),
        }
    }

    /// Reads all objects once; says on standard error that some of them have errors.
    ///
    /// # Errors
    /// The source cannot be read, or is none that can be.
    pub(crate) fn load(self, args: &SourceArgs) -> anyhow::Result<Loaded> {
        let loaded = match self {
            Self::Folder(folder) => folder::load(slice::from_ref(&folder.to_owned()), &args.ingress_class)?,
            Self::Cluster(kubeconfig) => {
                let cluster = ClusterSettings {
                    kubeconfig: Some(kubeconfig.to_owned()),
                    watch_namespaces: args.watch_namespace.clone(),
                    publish_service: None,
                    last_good: None,
                };
                let settings = Settings {
                    allow_external_backends: args.allow_external_backends,
                    allow_private_jwks: args.allow_private_jwks,
                    ..Settings::cluster(args.ingress_class.clone())
                };
                controller::load_cluster(&cluster, settings, folder::check_certificate)?
            }
            Self::Gateway(address) => bail!("{address} is a gateway, which is asked"),
        };
        folder::warn_of_errors(&loaded);
        Ok(loaded)
    }
}

/// Asks the admin interface of a gateway and prints what it says.
///
/// # Errors
/// No answer, an answer other than 200, standard output.
pub(crate) fn ask(
    address: &str,
    path: &str,
    method: Method,
    body: Vec<u8>,
    output: OutputFormat,
) -> anyhow::Result<ExitCode> {
    let accept = match output {
        OutputFormat::Text => "text/plain",
        OutputFormat::Json => "application/json",
    };
    let url = format!("http://{address}{path}");
    let headers = [("accept".to_owned(), accept.to_owned())];
    let question = Question { method, url: &url, headers: &headers, body, timeout: ANSWER_TIME_MAX };
    let answer = question.ask()?;
    let text = String::from_utf8_lossy(answer.body());
    if !answer.status().is_success() {
        bail!("{url} answered {}: {}", answer.status(), text.trim_end());
    }
    let mut out = stdout::lock();
    match output {
        OutputFormat::Text => write!(out, "{text}")?,
        OutputFormat::Json => {
            let value: serde_json::Value = serde_json::from_str(&text)?;
            serde_json::to_writer_pretty(&mut out, &value)?;
            writeln!(out)?;
        }
    }
    stdout::finish(out, ExitCode::SUCCESS)
}
