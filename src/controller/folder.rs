//! The state of a folder of files: what each holds, which of it is in effect, what is wrong. Turns "this file may
//! have changed" into changes of objects. Waits for nothing and reads no clock; the time is an argument.

mod claims;
mod listing;
mod read;
mod report;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::ObjectRef;

use self::claims::{Claim, Claims, Fresh, Settled};
use self::listing::Stamp;
use self::read::{ChunkReading, FileReading, Job, ReadChunk};
use crate::document::{Finding, Outcome};
use crate::schema::Schemas;
use crate::source::{Batch, Change, Place};

pub(crate) use self::listing::{FileId, is_hidden, is_object_file};
pub(crate) use self::report::Locator;

/// How long a file must be missing before its objects go. Editors and copying tools put a file back within it.
const GONE_AFTER: Duration = Duration::from_millis(25);
/// How long an empty file that held objects may stay empty: an editor truncates first and writes then.
/// Longer than a writer that waits for a core: what an empty file held serves traffic meanwhile.
const EMPTY_AFTER: Duration = Duration::from_millis(500);
/// How long a file that may be half written must be left alone before it is read without having been closed. The
/// first half of a file is often good YAML, so nothing in it tells.
const UNCLOSED_MAX: Duration = Duration::from_secs(1);

/// What is known of the writing of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The writer has closed it, or it was moved here, or away: what is there now counts.
    Closed,
    /// It may be half written.
    Open,
}

/// A folder, or several whose objects count together.
#[derive(Debug)]
pub(crate) struct Folder {
    roots: Vec<PathBuf>,
    schemas: Schemas,
    files: BTreeMap<Arc<Path>, FileEntry>,
    claims: Claims,
    pending: BTreeMap<Arc<Path>, Pending>,
    /// Directories that could not be read in the last scan. What was read of them stays.
    unreadable: BTreeMap<Arc<Path>, String>,
}

/// What is known of one file.
#[derive(Debug, Default)]
struct FileEntry {
    /// `None`: read it again at the next scan.
    stamp: Option<Stamp>,
    /// Of the last good version.
    chunks: Vec<ChunkEntry>,
    /// The last good version holds objects. An empty one says nothing of what a broken one after it must keep.
    was_good: bool,
    /// Why the present version has no effect; empty where it has.
    broken: Vec<(u32, Finding)>,
    gone_since: Option<Instant>,
}

/// A chunk whose objects are claimed, and where it begins.
#[derive(Clone, Debug)]
struct ChunkEntry {
    line: u32,
    /// To be parsed again, because a value in it is needed or because it stands in a broken file.
    stale: bool,
    body: Arc<ChunkBody>,
}

/// What a chunk says. Lines are counted from its start, from 1.
#[derive(Debug)]
struct ChunkBody {
    fingerprint: u64,
    objects: Vec<Placed>,
    findings: Vec<(u32, Finding)>,
}

#[derive(Clone, Debug)]
struct Placed {
    object: ObjectRef,
    place: Place,
    line: u32,
    good: bool,
}

/// A file that is to be read.
#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Instant,
    write: Write,
    /// It was empty when last read.
    was_blank: bool,
}

/// What one round of work gathers.
#[derive(Debug)]
struct Round {
    now: Instant,
    fresh: Fresh,
    touched: BTreeSet<ObjectRef>,
    files: BTreeSet<Arc<Path>>,
    batch: Batch,
}

impl Folder {
    pub(crate) fn new(roots: Vec<PathBuf>, schemas: Schemas) -> Self {
        Self {
            roots,
            schemas,
            files: BTreeMap::new(),
            claims: Claims::default(),
            pending: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        }
    }

    /// Reads everything there is. The batch ends with [`Change::Synced`].
    pub(crate) fn first_scan(&mut self, now: Instant, enter: impl FnMut(&Path, FileId)) -> Batch {
        let mut batch = self.scan(Write::Closed, now, enter);
        batch.extend(self.work(now));
        batch.push(Change::Synced);
        batch
    }

    /// Compares all files with what is known of them from outside; those that differ are read by [`Self::work`].
    pub(crate) fn scan(&mut self, write: Write, now: Instant, mut enter: impl FnMut(&Path, FileId)) -> Batch {
        let listing = listing::list(&self.roots, &mut enter);
        let mut seen = HashSet::with_capacity(listing.files.len());
        for (path, stamp) in listing.files {
            let path: Arc<Path> = path.into();
            let entry = self.files.get(&path);
            let differs = entry.is_none_or(|entry| entry.stamp != Some(stamp) || entry.gone_since.is_some());
            let half_written = self.pending.get(&path).is_some_and(|pending| pending.write == Write::Open);
            if differs && !half_written {
                self.touch(&path, write, now);
            }
            seen.insert(path);
        }
        let unreadable: BTreeMap<Arc<Path>, String> =
            listing.unreadable.into_iter().map(|(path, error)| (path.into(), error.to_string())).collect();
        let missing: Vec<_> = self
            .files
            .keys()
            .filter(|path| !seen.contains(*path) && !unreadable.keys().any(|above| path.starts_with(above)))
            .map(Arc::clone)
            .collect();
        for path in missing {
            self.touch(&path, Write::Closed, now);
        }
        self.report_unreadable(unreadable)
    }

    /// Whether one of the roots could not be read at the last scan.
    pub(crate) fn lacks_a_root(&self) -> bool {
        self.roots.iter().any(|root| self.unreadable.contains_key(root.as_path()))
    }

    /// Takes note that a file may have changed.
    pub(crate) fn touch(&mut self, path: &Path, write: Write, now: Instant) {
        let path: Arc<Path> = path.into();
        let due = match write {
            Write::Closed => now,
            Write::Open => now + UNCLOSED_MAX,
        };
        // Whoever touches a file may be about to fill it: the wait for an empty one starts anew.
        self.pending.insert(path, Pending { due, write, was_blank: false });
    }

    /// The same for a change of a file's attributes, which says nothing of its content.
    pub(crate) fn touch_attributes(&mut self, path: &Path, now: Instant) {
        if !self.pending.contains_key(path) {
            self.touch(path, Write::Closed, now);
        }
    }

    /// When [`Self::work`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Reads the files that are due and says what changes by them.
    pub(crate) fn work(&mut self, now: Instant) -> Batch {
        let mut round = Round::new(now);
        loop {
            let due: Vec<_> = self.pending.extract_if(.., |_, pending| pending.due <= now).collect();
            if due.is_empty() {
                break;
            }
            let jobs: Vec<Job> = due.iter().map(|(path, _)| self.job(path)).collect();
            let readings = read::read_files(&jobs, &self.schemas);
            // Files that went come first, so that one that came in their place takes over at once.
            let (gone, here): (Vec<_>, Vec<_>) = due
                .into_iter()
                .zip(readings)
                .partition(|(_, reading)| matches!(reading, FileReading::Missing | FileReading::NotAFile));
            for ((path, _), _) in gone {
                self.missing(&path, now, &mut round);
            }
            for ((path, pending), reading) in here {
                self.take_in(&path, pending, reading, &mut round);
            }
            self.settle(&mut round);
        }
        for file in std::mem::take(&mut round.files) {
            round.batch.push(self.problems_of(&file));
        }
        round.batch
    }

    fn job(&self, path: &Arc<Path>) -> Job {
        let chunks = self.files.get(path).into_iter().flat_map(|entry| &entry.chunks).enumerate();
        let known =
            chunks.filter(|(_, chunk)| !chunk.stale).map(|(index, chunk)| (chunk.body.fingerprint, index));
        Job { path: Arc::clone(path), known: known.collect() }
    }

    fn missing(&mut self, path: &Arc<Path>, now: Instant, round: &mut Round) {
        let Some(entry) = self.files.get_mut(path) else { return };
        let since = *entry.gone_since.get_or_insert(now);
        self.claims.mark_gone(path, true);
        if now < since + GONE_AFTER {
            let due = since + GONE_AFTER;
            self.pending.insert(Arc::clone(path), Pending { due, write: Write::Closed, was_blank: false });
            return;
        }
        // While a root is away (replaced, unmounted), all that was read of it stays; the next scan finds it again.
        if self.roots.iter().any(|root| path.starts_with(root) && !root.exists()) {
            return;
        }
        self.replace_chunks(path, Vec::new(), round);
        self.claims.mark_gone(path, false);
        self.files.remove(path);
        round.files.insert(Arc::clone(path));
    }

    fn take_in(&mut self, path: &Arc<Path>, pending: Pending, reading: FileReading, round: &mut Round) {
        let entry = self.files.entry(Arc::clone(path)).or_default();
        if entry.gone_since.take().is_some() {
            self.claims.mark_gone(path, false);
            // Another file may have taken over meanwhile what is this one's again.
            round.touched.extend(entry.objects().cloned());
        }
        match reading {
            FileReading::Missing | FileReading::NotAFile => {}
            FileReading::Unreadable { stamp, error } => {
                entry.stamp = stamp;
                entry.broken = vec![(error.line, read::syntax_finding(&error))];
                round.files.insert(Arc::clone(path));
            }
            FileReading::Read { blank: true, .. } if !pending.was_blank && !entry.chunks.is_empty() => {
                let due = round.now + EMPTY_AFTER;
                self.pending.insert(Arc::clone(path), Pending { due, was_blank: true, ..pending });
            }
            FileReading::Read { stamp, chunks, .. } => {
                entry.stamp = Some(stamp);
                round.files.insert(Arc::clone(path));
                if chunks.iter().any(ChunkReading::is_broken) {
                    self.keep_last_good(path, chunks, round);
                } else {
                    entry.broken.clear();
                    self.replace_chunks(path, chunks, round);
                    if let Some(entry) = self.files.get_mut(path) {
                        entry.was_good = entry.chunks.iter().any(|chunk| !chunk.body.objects.is_empty());
                    }
                }
            }
        }
    }

    /// The file as it is now has no effect. Of a file that never had any, the policies that can be read count, so
    /// that what they protect is not served without them; those of earlier broken versions stay.
    fn keep_last_good(&mut self, path: &Arc<Path>, chunks: Vec<ChunkReading>, round: &mut Round) {
        let Some(entry) = self.files.get_mut(path) else { return };
        let mut broken = Vec::new();
        let mut policies = Vec::new();
        let mut found = HashSet::new();
        for chunk in chunks {
            let ChunkReading::Fresh { mut chunk, line } = chunk else { continue };
            let findings = std::mem::take(&mut chunk.findings);
            broken.extend(findings.into_iter().map(|(at, finding)| (absolute(line, at), finding)));
            chunk.objects.retain(|(_, _, object)| object.object.kind.is_policy());
            found.extend(chunk.objects.iter().map(|(_, _, object)| object.object.clone()));
            policies.push(ChunkReading::Fresh { chunk, line });
        }
        entry.broken = broken;
        if !entry.was_good {
            let (again, lost) = entry.chunks.iter().map(|chunk| chunk.part(&found)).unzip();
            entry.chunks = again;
            self.replace_chunks(path, policies, round);
            let Some(entry) = self.files.get_mut(path) else { return };
            let lost: Vec<ChunkEntry> = lost;
            entry.chunks.extend(lost.into_iter().filter(|chunk| !chunk.body.objects.is_empty()));
            for chunk in &mut entry.chunks {
                chunk.stale = true;
            }
        }
    }

    fn replace_chunks(&mut self, path: &Arc<Path>, chunks: Vec<ChunkReading>, round: &mut Round) {
        let Some(entry) = self.files.get_mut(path) else { return };
        let old = std::mem::take(&mut entry.chunks);
        let mut kept = vec![false; old.len()];
        let mut next = Vec::with_capacity(chunks.len());
        let mut moved = Vec::new();
        for chunk in chunks {
            let chunk = match chunk {
                ChunkReading::Known { index, line } => match (old.get(index), kept.get_mut(index)) {
                    (Some(known), Some(kept)) if known.line == line && !*kept => {
                        *kept = true;
                        next.push(known.clone());
                        continue;
                    }
                    (Some(known), _) => ChunkEntry { line, ..known.clone() },
                    (None, _) => continue,
                },
                ChunkReading::Fresh { chunk, line } => {
                    ChunkEntry { line, stale: false, body: Arc::new(round.unpack(path, chunk)) }
                }
            };
            moved.push(chunk.clone());
            next.push(chunk);
        }
        entry.chunks = next;
        for (chunk, kept) in old.iter().zip(kept) {
            if !kept {
                self.withdraw(path, chunk, round);
            }
        }
        for chunk in &moved {
            self.claim(path, chunk, round);
        }
    }

    fn claim(&mut self, path: &Arc<Path>, chunk: &ChunkEntry, round: &mut Round) {
        for Placed { object, place, line, good } in &chunk.body.objects {
            let line = absolute(chunk.line, *line);
            self.claims.add(object, Claim { file: Arc::clone(path), line, place: *place, good: *good });
            round.touched.insert(object.clone());
        }
    }

    fn withdraw(&mut self, path: &Arc<Path>, chunk: &ChunkEntry, round: &mut Round) {
        for placed in &chunk.body.objects {
            if self.claims.is_contested(&placed.object) {
                round.files.extend(self.claims.files_of(&placed.object).map(Arc::clone));
            }
            self.claims.remove(&placed.object, path, absolute(chunk.line, placed.line));
            round.touched.insert(placed.object.clone());
        }
    }

    fn settle(&mut self, round: &mut Round) {
        for object in std::mem::take(&mut round.touched) {
            if self.claims.is_contested(&object) {
                round.files.extend(self.claims.files_of(&object).map(Arc::clone));
            }
            match self.claims.settle(&object, &round.fresh) {
                Settled::Unchanged => {}
                Settled::Changed(change) => round.batch.push(change),
                Settled::Refetch(claim) => {
                    let chunks =
                        self.files.get_mut(&claim.file).into_iter().flat_map(|entry| &mut entry.chunks);
                    for chunk in chunks.filter(|chunk| chunk.body.fingerprint == claim.place.chunk) {
                        chunk.stale = true;
                    }
                    self.touch(&claim.file, Write::Closed, round.now);
                }
            }
        }
    }
}

impl FileEntry {
    fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.chunks.iter().flat_map(|chunk| &chunk.body.objects).map(|placed| &placed.object)
    }
}

impl ChunkEntry {
    /// The chunk with only those of its objects that are among the found ones, and with only the others.
    fn part(&self, found: &HashSet<ObjectRef>) -> (Self, Self) {
        let (again, lost) =
            self.body.objects.iter().cloned().partition(|placed| found.contains(&placed.object));
        let with = |objects| Self {
            body: Arc::new(ChunkBody { fingerprint: self.body.fingerprint, objects, findings: Vec::new() }),
            ..*self
        };
        (with(again), with(lost))
    }
}

impl Round {
    fn new(now: Instant) -> Self {
        Self {
            now,
            fresh: Fresh::new(),
            touched: BTreeSet::new(),
            files: BTreeSet::new(),
            batch: Batch::new(),
        }
    }

    /// Keeps the values of a chunk for this round and gives what is kept for good.
    fn unpack(&mut self, path: &Arc<Path>, chunk: ReadChunk) -> ChunkBody {
        let objects = chunk.objects.into_iter().map(|(place, line, read)| {
            let good = matches!(read.outcome, Outcome::Good(_));
            self.fresh.insert((Arc::clone(path), place), read.outcome);
            Placed { object: read.object, place, line, good }
        });
        ChunkBody { fingerprint: chunk.fingerprint, objects: objects.collect(), findings: chunk.findings }
    }
}

/// A line of a chunk as a line of its file.
const fn absolute(chunk_line: u32, line: u32) -> u32 {
    chunk_line.saturating_add(line).saturating_sub(1)
}
