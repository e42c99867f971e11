//! The folder as a source of objects: the thread that watches and reads it, and the one-shot reading for commands.
//! Decides nothing about files (`folder`) and translates nothing (`event_loop`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Config, EndpointMap};
use tokio::sync::{mpsc, watch};
use translate::Settings;

use crate::error::ControllerError;
use crate::event_loop::{Control, Inlets, Outlets};
use crate::folder::{Folder, Write};
use crate::problem::Problems;
use crate::running::{Running, Stop, spawn};
use crate::schema::{CertificateCheck, Schemas};
use crate::source::{BATCHES_MAX, Batch};
use crate::watch::{Notice, Waited, Watch, What};

#[cfg(test)]
mod tests;

/// How often the whole folder is looked through, for changes that the system gave no notice of.
const SCAN_EVERY: Duration = Duration::from_secs(2);
/// The same while the folder itself is away.
const SCAN_EVERY_WITHOUT_ROOT: Duration = Duration::from_millis(25);
/// Looking through takes at most this part of the time: the next one waits so many times as long as the last took.
const SCAN_SHARE: u32 = 50;

/// A folder of YAML and JSON files, watched.
#[derive(Debug)]
pub struct FolderSource;

/// What a source holds at one moment.
#[derive(Debug)]
pub struct Loaded {
    pub config: Arc<Config>,
    pub endpoints: Arc<EndpointMap>,
    pub problems: Arc<Problems>,
}

impl FolderSource {
    /// Starts the threads `folder` (watches and reads) and `control` (owns the snapshot, translates, publishes).
    ///
    /// # Errors
    /// The folder cannot be read, or a thread cannot be started. What is wrong inside the folder is a problem, not an
    /// error.
    pub fn start(
        dir: PathBuf,
        settings: Settings,
        check: CertificateCheck,
    ) -> Result<Running, ControllerError> {
        std::fs::read_dir(&dir)
            .map_err(|source| ControllerError::FolderUnreadable { path: dir.clone(), source })?;
        let (batches, inbox) = mpsc::channel(BATCHES_MAX);
        let (outlets, inlets) = Outlets::new();
        let control = Control::new(settings, outlets);
        let control = spawn("control", move || control.run(inbox))?;
        let (stop_sender, stop_receiver) = std::sync::mpsc::sync_channel(1);
        let folder = spawn("folder", move || {
            let watch = Watch::new(&dir);
            // The receiver waits for exactly this.
            drop(stop_sender.send(watch.stop()));
            let folder = Folder::new(vec![dir], Schemas::compile(check));
            follow(folder, watch, &batches);
        })?;
        let stop = stop_receiver.recv().map_err(|_| ControllerError::ThreadFailed {
            name: "folder",
            source: std::io::Error::other("it ended at once"),
        })?;
        let Inlets { state, config, endpoints, problems, outlook: _ } = inlets;
        let threads = vec![folder, control];
        let stop = Stop::Folder(stop);
        let (leave, _) = watch::channel(false);
        Ok(Running { config, endpoints, state, problems, cluster: None, leave, stop, threads })
    }
}

/// Reads folders (or single files) once. Never fails: what cannot be read is a problem.
pub fn load(dirs: &[PathBuf], settings: Settings, check: CertificateCheck) -> Loaded {
    let mut folder = Folder::new(dirs.to_vec(), Schemas::compile(check));
    let batch = folder.first_scan(Instant::now(), |_, _| {});
    Loaded::of(batch, settings)
}

impl Loaded {
    /// What these objects come to; the batch ends with `Synced`.
    pub(crate) fn of(batch: Batch, settings: Settings) -> Self {
        let (outlets, inlets) = Outlets::new();
        let mut control = Control::new(settings, outlets).silent();
        control.take_in(batch);
        control.publish();
        let (config, endpoints) = (inlets.config.borrow().clone(), inlets.endpoints.borrow().clone());
        Self { config, endpoints, problems: inlets.problems.borrow().clone() }
    }
}

/// Sends what the folder holds and then what changes, until it is stopped or nobody listens.
fn follow(mut folder: Folder, mut watch: Watch, batches: &mpsc::Sender<Batch>) {
    let start = Instant::now();
    let batch = folder.first_scan(start, |directory, id| watch.enter(directory, id));
    if batches.blocking_send(batch).is_err() {
        return;
    }
    let mut next_scan = Instant::now() + SCAN_EVERY;
    loop {
        let deadline = folder.next_due().map_or(next_scan, |due| due.min(next_scan));
        let Waited::Notices { notices, lost } = watch.wait(deadline) else { return };
        let now = Instant::now();
        let mut scan = (lost || now >= next_scan).then_some(Write::Open);
        for Notice { path, what } in notices {
            match what {
                What::Created | What::Written => folder.touch(&path, Write::Open, now),
                What::Complete => folder.touch(&path, Write::Closed, now),
                What::Attributes => folder.touch_attributes(&path, now),
                What::Structure => scan = Some(Write::Closed),
            }
        }
        let mut batch = Batch::new();
        if let Some(write) = scan {
            batch = folder.scan(write, now, |directory, id| watch.enter(directory, id));
            let pause = if folder.lacks_a_root() { SCAN_EVERY_WITHOUT_ROOT } else { SCAN_EVERY };
            next_scan = Instant::now() + pause.max(now.elapsed() * SCAN_SHARE);
        }
        batch.extend(folder.work(now));
        if !batch.is_empty() && batches.blocking_send(batch).is_err() {
            return;
        }
    }
}
