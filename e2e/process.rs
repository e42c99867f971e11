//! One process of the binary under test: its output line by line, its signals, its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::until::{until, until_within};

/// Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// Lines of an output, collected by a thread.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

/// The binary: `BARIBHARA_BIN`, or the one that cargo built into its target folder.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BARIBHARA_BIN") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")), PathBuf::from);
    let path = target.join("debug/baribhara");
    assert!(path.exists(), "{} is not there: build it first (cargo build -p baribhara)", path.display());
    path
}

/// The command with these arguments and without the variables that would set flags.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BARIBHARA_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(args);
    command
}

impl Process {
    /// # Panics
    /// When the process cannot be started.
    pub fn start<S: AsRef<OsStr>>(args: &[S]) -> Self {
        Self::start_with_env(args, &[])
    }

    /// As [`Process::start`], with more environment variables.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start_with_env<S: AsRef<OsStr>>(args: &[S], environment: &[(&str, &str)]) -> Self {
        let mut process = Self::start_unread(args, environment);
        process.stdout = Lines::collect(process.child.stdout.take().expect("piped"));
        process
    }

    /// As [`Process::start_with_env`], but nobody reads its standard output.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start_unread<S: AsRef<OsStr>>(args: &[S], environment: &[(&str, &str)]) -> Self {
        let mut child = command(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary");
        let stderr = Lines::collect(child.stderr.take().expect("piped"));
        Self { child, stdout: Lines::default(), stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> Vec<String> {
        self.stdout.all()
    }

    pub fn stderr(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Waits for a line of its standard error with this text: it comes through a pipe, which an answer or a metric can overtake.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn until_told(&self, text: &str) {
        let told = || self.stderr().iter().any(|line| line.contains(text)).then_some(());
        until(&format!("standard error tells of {text:?}"), told);
    }

    /// Sends a signal by its name: `TERM`, `INT`, `KILL`, `STOP`.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .expect("run kill");
        assert!(status.success(), "kill -{name}");
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for the child")
    }

    /// Waits for the end; returns how long it took.
    ///
    /// # Panics
    /// When it has not ended by then.
    pub fn wait(&mut self, patience: Duration) -> (ExitStatus, Duration) {
        let from = Instant::now();
        let status = until_within(patience, "the end of the process", || self.ended());
        (status, from.elapsed())
    }

    /// How long its threads that live now have been on a core.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process's threads");
        let nanos = threads.flatten().filter_map(|thread| {
            let schedule = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedule.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// The memory that it has in use, in KiB.
    ///
    /// # Panics
    /// Without `/proc`, or when the process is gone.
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number of KiB")
    }

    /// How many files and sockets it has open.
    ///
    /// # Panics
    /// Without `/proc`, or when the process is gone.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the process's files").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Lines {
    fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.0.lock().expect("no panic under the lock").push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic under the lock").clone()
    }
}
