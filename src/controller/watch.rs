//! Tells that something in the folder changed, from the operating system's notices. Reads no file and decides
//! nothing; a notice may be wrong, late or missing, so the folder is looked through at times as well.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tracing::warn;

use crate::folder::{FileId, is_hidden, is_object_file};

#[cfg(test)]
mod tests;

/// How many notices may wait; beyond that the whole folder is looked through instead.
const NOTICES_MAX: usize = 4096;
/// How long to wait for a notice that belongs to the last one.
const SETTLE: Duration = Duration::from_millis(2);
/// How long to gather notices at most.
const SETTLE_MAX: Duration = Duration::from_millis(10);

/// What happened at a path.
#[derive(Debug)]
pub(crate) struct Notice {
    /// Below the root as it was named.
    pub(crate) path: PathBuf,
    pub(crate) what: What,
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The name is new: an empty file that is about to be written, or a link to a whole one.
    Created,
    /// Bytes were written, and more may come.
    Written,
    /// A writer closed the file, or it was moved here or away.
    Complete,
    /// Access rights, times, links.
    Attributes,
    /// Directories or links changed, so that other files may be other files now.
    Structure,
}

/// What a wait came to.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Notices in their order; none when the time was up. `lost`: there were more than could be kept.
    Notices {
        notices: Vec<Notice>,
        lost: bool,
    },
    Stopped,
}

/// Ends the waiting from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    stopped: Arc<AtomicBool>,
    wake: SyncSender<Message>,
}

/// Watches directories.
#[derive(Debug)]
pub(crate) struct Watch {
    /// `None`: the system gives no notices; the periodic scan alone finds changes.
    watcher: Option<notify::RecommendedWatcher>,
    watched: HashMap<PathBuf, FileId>,
    /// The root as it was named and as it is called in notices.
    root: PathBuf,
    absolute_root: PathBuf,
    messages: Receiver<Message>,
    stop: Stop,
    lost: Arc<AtomicBool>,
    warned: bool,
}

#[derive(Debug)]
enum Message {
    Notice(PathBuf, What),
    /// Only to end a wait.
    Wake,
}

impl Watch {
    /// Watches nothing yet but, where the root is a symbolic link, the directory that holds it.
    pub(crate) fn new(root: &Path) -> Self {
        let (sender, messages) = sync_channel(NOTICES_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let stop = Stop { stopped: Arc::new(AtomicBool::new(false)), wake: sender.clone() };
        let absolute_root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let handler = Handler { root: absolute_root.clone(), sender, lost: Arc::clone(&lost) };
        let watcher = notify::recommended_watcher(move |event| handler.handle(event));
        let mut watch = Self {
            watcher: None,
            watched: HashMap::new(),
            root: root.to_owned(),
            absolute_root,
            messages,
            stop,
            lost,
            warned: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.warn(root, &error),
        }
        if root.is_symlink()
            && let Some(parent) = watch.absolute_root.parent().map(Path::to_owned)
            && let Some(Err(error)) =
                watch.watcher.as_mut().map(|watcher| watcher.watch(&parent, RecursiveMode::NonRecursive))
        {
            watch.warn(root, &error);
        }
        watch
    }

    pub(crate) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Makes sure that this directory is watched, and not one that had its name before.
    pub(crate) fn enter(&mut self, directory: &Path, id: FileId) {
        if self.watched.get(directory) == Some(&id) {
            return;
        }
        let absolute = self.absolute(directory);
        let Some(watcher) = &mut self.watcher else { return };
        if self.watched.remove(directory).is_some() {
            // It fails where the system has dropped the watch with its directory, which is just as well.
            drop(watcher.unwatch(&absolute));
        }
        match watcher.watch(&absolute, RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.watched.insert(directory.to_owned(), id)),
            Err(error) => self.warn(directory, &error),
        }
    }

    /// Forgets that a directory and those below it are watched: what has the name now may be another directory, and
    /// the system drops the watch of one that was moved or removed, even if the same one is back.
    fn forget(&mut self, directory: &Path) {
        let below: Vec<_> = self.watched.extract_if(|path, _| path.starts_with(directory)).collect();
        for (path, _) in below {
            let absolute = self.absolute(&path);
            if let Some(watcher) = &mut self.watcher {
                // It fails where the watch is gone, which is just as well.
                drop(watcher.unwatch(&absolute));
            }
        }
    }

    /// Where notices were lost, those of directories may be among them. The look through the folder that follows
    /// watches all of them anew.
    fn gathered(&mut self, notices: Vec<Notice>) -> Waited {
        let lost = self.lost.swap(false, Ordering::AcqRel);
        if lost {
            let root = self.root.clone();
            self.forget(&root);
        }
        Waited::Notices { notices, lost }
    }

    /// Waits for notices until the deadline, and then a moment for those that come with them.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Waited {
        let mut notices = Vec::new();
        let mut until = deadline;
        let mut settled = deadline;
        while !self.stop.stopped.load(Ordering::Acquire) {
            let now = Instant::now();
            match self.messages.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Message::Notice(path, what)) => {
                    let Some(notice) = self.named(path, what) else { continue };
                    if notices.is_empty() {
                        settled = Instant::now() + SETTLE_MAX;
                    }
                    notices.push(notice);
                    until = (Instant::now() + SETTLE).min(settled);
                }
                Ok(Message::Wake) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return self.gathered(notices);
                }
                Err(RecvTimeoutError::Disconnected) => return Waited::Stopped,
            }
            if notices.len() >= NOTICES_MAX {
                return self.gathered(notices);
            }
        }
        Waited::Stopped
    }

    /// Puts the path below the root as it was named. A name that is no file of ours may be a directory, or a link
    /// to one; what is neither is nobody's business.
    fn named(&mut self, path: PathBuf, what: What) -> Option<Notice> {
        let path = match path.strip_prefix(&self.absolute_root) {
            Ok(below) if below.as_os_str().is_empty() => self.root.clone(),
            Ok(below) => self.root.join(below),
            Err(_) => path,
        };
        let directory = what == What::Structure || self.watched.contains_key(&path) || path.is_dir();
        let what = if what == What::Created && is_link(&path) { What::Complete } else { what };
        if matches!(what, What::Created | What::Complete | What::Structure)
            && self.watched.contains_key(&path)
        {
            self.forget(&path);
        }
        match directory {
            true => Some(Notice { path, what: What::Structure }),
            false => is_object_file(&path).then_some(Notice { path, what }),
        }
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(below) if below.as_os_str().is_empty() => self.absolute_root.clone(),
            Ok(below) => self.absolute_root.join(below),
            Err(_) => path.to_owned(),
        }
    }

    /// Said once: the next directory will most likely fail for the same reason.
    fn warn(&mut self, path: &Path, error: &notify::Error) {
        if !self.warned {
            self.warned = true;
            warn!(path = %path.display(), %error, "changes are found by looking through the folder only");
        }
    }
}

impl Stop {
    /// The wait that is under way and all later ones return [`Waited::Stopped`].
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // A full channel wakes the waiting thread as well; a closed one has none.
        drop(self.wake.try_send(Message::Wake));
    }
}

/// Runs on the watcher's own thread: sorts events and never waits.
struct Handler {
    root: PathBuf,
    sender: SyncSender<Message>,
    lost: Arc<AtomicBool>,
}

impl Handler {
    fn handle(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.lose();
            return;
        };
        if event.need_rescan() {
            self.lose();
        }
        let Some(what) = meaning(event.kind) else { return };
        for path in event.paths {
            let what = if is_hidden(&path) { What::Structure } else { what };
            if self.concerns_us(&path, what) {
                self.send(Message::Notice(path, what));
            }
        }
    }

    /// The system's own `..data` counts, editors' hidden files do not.
    fn concerns_us(&self, path: &Path, what: What) -> bool {
        if path == self.root {
            return true;
        }
        if !path.starts_with(&self.root) {
            return false;
        }
        let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
        if name.starts_with(b".") {
            return name == b"..data";
        }
        // Without one of our endings it counts only as a directory or a link to one. Bytes written to other files
        // (a log, say) must not wake anybody.
        is_object_file(path) || matches!(what, What::Structure | What::Complete | What::Created)
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.send(Message::Wake);
    }

    fn send(&self, message: Message) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(message) {
            self.lost.store(true, Ordering::Release);
        }
    }
}

/// A symbolic link, or one of several names of a file: nobody writes under it now.
fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

/// `None`: nothing that could change what is read. Our own reading makes such events.
fn meaning(kind: EventKind) -> Option<What> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(What::Complete),
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(notify::event::RemoveKind::Folder) => {
            Some(What::Structure)
        }
        EventKind::Create(_) => Some(What::Created),
        EventKind::Modify(ModifyKind::Data(_)) => Some(What::Written),
        // Both halves were told already.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => Some(What::Complete),
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(What::Attributes),
        EventKind::Modify(ModifyKind::Any | ModifyKind::Other) | EventKind::Any | EventKind::Other => {
            Some(What::Structure)
        }
    }
}
