//! The programs that a person would use on the cluster: kubectl, helm, and the script that stops its components.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is printed when somebody runs these tests elsewhere.
const HOW: &str = "these tests run on the test cluster: `make e2e`, or `.ci/cluster cargo nextest run -p \
                   baribhara-e2e --profile cluster` (BARIBHARA_CLUSTER is not set)";

/// The script of the cluster in which this process runs.
///
/// # Panics
/// Outside of the cluster.
pub fn script() -> PathBuf {
    std::env::var_os("BARIBHARA_CLUSTER").expect(HOW).into()
}

/// The image under test: repository and tag.
///
/// # Panics
/// Outside of the cluster, or without a tag.
pub fn image() -> (String, String) {
    let name = std::env::var("BARIBHARA_IMAGE").expect(HOW);
    let (repository, tag) = name.rsplit_once(':').expect("an image with a tag in BARIBHARA_IMAGE");
    (repository.to_owned(), tag.to_owned())
}

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs a program; its standard output, or what it said when it failed.
///
/// # Errors
/// The exit status was not 0: both outputs.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that refuses early does not read all of it; then its exit status says so.
        drop(pipe.write_all(text.as_bytes()));
    }
    let output = child.wait_with_output().expect("wait for a program");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(stdout) } else { Err(format!("{stdout}{stderr}")) }
}

fn tool(name: &str, args: &[&str], input: Option<&str>) -> Result<String, String> {
    run(Command::new(name).args(args).current_dir(root()), input)
}

/// # Errors
/// What kubectl said.
pub fn try_kubectl(args: &[&str]) -> Result<String, String> {
    tool("kubectl", args, None)
}

/// # Panics
/// When kubectl fails, with what it said.
pub fn kubectl(args: &[&str]) -> String {
    try_kubectl(args).unwrap_or_else(|said| panic!("kubectl {}: {said}", args.join(" ")))
}

/// # Errors
/// What kubectl said.
pub fn try_apply(yaml: &str) -> Result<String, String> {
    tool("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(yaml))
}

/// Applies this YAML.
///
/// # Panics
/// When the API server refuses it.
pub fn apply(yaml: &str) {
    try_apply(yaml).unwrap_or_else(|said| panic!("kubectl apply: {said}\n{yaml}"));
}

/// Applies a file of the checkout as the documents say it: `kubectl apply -f FILE`.
///
/// # Panics
/// When the API server refuses it.
pub fn apply_file(path: &str) {
    kubectl(&["apply", "-f", path]);
}

/// Applies YAML that must be refused; what was said.
///
/// # Panics
/// When it is taken.
pub fn refused(yaml: &str) -> String {
    match try_apply(yaml) {
        Ok(_) => panic!("the API server took what it should refuse:\n{yaml}"),
        Err(said) => said,
    }
}

/// # Errors
/// What helm said.
pub fn try_helm(args: &[&str]) -> Result<String, String> {
    tool("helm", args, None)
}

/// # Panics
/// When helm fails, with what it said.
pub fn helm(args: &[&str]) -> String {
    try_helm(args).unwrap_or_else(|said| panic!("helm {}: {said}", args.join(" ")))
}

/// The binary under test as a person at a terminal runs it.
///
/// # Errors
/// What it said.
pub fn try_baribhara(args: &[&str]) -> Result<String, String> {
    run(&mut crate::process::command(args), None)
}

/// A command of the cluster's script: `kill-component kube-apiserver`, `addon prometheus`.
///
/// # Panics
/// When it fails.
pub fn cluster(args: &[&str]) -> String {
    run(Command::new(script()).args(args), None)
        .unwrap_or_else(|said| panic!("cluster {}: {said}", args.join(" ")))
}
