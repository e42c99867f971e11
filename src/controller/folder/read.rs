//! Reads files and turns their chunks into objects, over several threads. Decides nothing about what takes effect.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use translate::Severity;

use super::listing::Stamp;
use crate::document::{self, Finding, ReadObject};
use crate::schema::Schemas;
use crate::source::Place;
use crate::yaml::{self, Chunk, FILE_BYTES_MAX, Format, SyntaxError};

/// How much text is held at once, in bytes (one file may be larger).
const WAVE_BYTES_MAX: u64 = 64 << 20;
/// Threads that read at once, at most.
const THREADS_MAX: usize = 8;
/// How many items a thread takes at a time.
const TAKE: usize = 32;
/// How many findings of a chunk get the line of their field; the rest get that of their object.
const LOCATED_MAX: usize = 100;

/// A file to read, and the chunks that are known from before by fingerprint.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) path: Arc<Path>,
    pub(super) known: HashMap<u64, usize>,
}

/// What reading a file came to.
#[derive(Debug)]
pub(super) enum FileReading {
    Missing,
    /// A directory, a socket: not a file of ours.
    NotAFile,
    /// The text cannot be had.
    Unreadable {
        stamp: Option<Stamp>,
        error: SyntaxError,
    },
    Read {
        stamp: Stamp,
        chunks: Vec<ChunkReading>,
        blank: bool,
    },
}

/// One chunk of a file, at its line.
#[derive(Debug)]
pub(super) enum ChunkReading {
    /// The same text as the known chunk of this number.
    Known {
        index: usize,
        line: u32,
    },
    Fresh {
        chunk: ReadChunk,
        line: u32,
    },
}

/// A parsed chunk. Lines are counted from its start, from 1.
#[derive(Debug)]
pub(super) struct ReadChunk {
    pub(super) fingerprint: u64,
    pub(super) objects: Vec<(Place, u32, ReadObject)>,
    pub(super) findings: Vec<(u32, Finding)>,
    /// It cannot be told which objects the text holds.
    pub(super) broken: bool,
}

/// Reads all files, in the order of the jobs.
pub(super) fn read_files(jobs: &[Job], schemas: &Schemas) -> Vec<FileReading> {
    let mut readings = Vec::with_capacity(jobs.len());
    let mut rest = jobs;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |job: &&Job| {
            let fits = bytes < WAVE_BYTES_MAX;
            bytes += fs::metadata(&job.path).map_or(0, |metadata| metadata.len().min(FILE_BYTES_MAX));
            fits
        };
        let length = rest.iter().take_while(fits).count().max(1);
        let (wave, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        readings.extend(read_wave(wave, schemas));
        rest = after;
    }
    readings
}

/// A file's bytes, or what stands in their place.
enum Bytes {
    Missing,
    NotAFile,
    Unreadable(String),
    Read(Stamp, Vec<u8>),
}

fn read_wave(jobs: &[Job], schemas: &Schemas) -> Vec<FileReading> {
    let contents = in_parallel(jobs, |job| read_bytes(&job.path));
    let mut readings = Vec::with_capacity(jobs.len());
    let mut fresh = Vec::new();
    for (at, (job, bytes)) in jobs.iter().zip(&contents).enumerate() {
        let (stamp, bytes) = match bytes {
            Bytes::Missing => {
                readings.push(FileReading::Missing);
                continue;
            }
            Bytes::NotAFile => {
                readings.push(FileReading::NotAFile);
                continue;
            }
            Bytes::Unreadable(message) => {
                let error = SyntaxError { line: 0, column: 0, message: message.clone() };
                readings.push(FileReading::Unreadable { stamp: None, error });
                continue;
            }
            Bytes::Read(stamp, bytes) => (*stamp, bytes),
        };
        let text = match yaml::decode(bytes) {
            Ok(text) => text,
            Err(error) => {
                readings.push(FileReading::Unreadable { stamp: Some(stamp), error });
                continue;
            }
        };
        let mut chunks = Vec::new();
        for chunk in yaml::split(text, format_of(&job.path)) {
            match job.known.get(&chunk.fingerprint()) {
                Some(index) => chunks.push(ChunkReading::Known { index: *index, line: chunk.line }),
                None => fresh.push((at, chunk)),
            }
        }
        readings.push(FileReading::Read { stamp, chunks, blank: text.trim().is_empty() });
    }
    let parsed = in_parallel(&fresh, |(_, chunk)| read_chunk(chunk, schemas));
    for ((at, chunk), read) in fresh.iter().zip(parsed) {
        if let Some(FileReading::Read { chunks, .. }) = readings.get_mut(*at) {
            chunks.push(ChunkReading::Fresh { chunk: read, line: chunk.line });
        }
    }
    for reading in &mut readings {
        if let FileReading::Read { chunks, .. } = reading {
            chunks.sort_by_key(|chunk| match chunk {
                ChunkReading::Known { line, .. } | ChunkReading::Fresh { line, .. } => *line,
            });
        }
    }
    readings
}

/// By the file's ending.
pub(super) fn format_of(path: &Path) -> Format {
    if path.extension().is_some_and(|ending| ending == "json") { Format::Json } else { Format::Yaml }
}

/// The stamp is taken before the text, so that a change in between shows later.
fn read_bytes(path: &Path) -> Bytes {
    let read = || -> io::Result<Bytes> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Ok(Bytes::NotAFile);
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or_default());
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Ok(Bytes::Unreadable(format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        Ok(Bytes::Read(Stamp::of(&metadata), bytes))
    };
    match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::Missing,
        Err(error) => Bytes::Unreadable(format!("the file cannot be read: {error}")),
    }
}

/// A panic in the parser costs its chunk, not the process.
fn read_chunk(chunk: &Chunk<'_>, schemas: &Schemas) -> ReadChunk {
    let from_one = Chunk { line: 1, ..*chunk };
    let fingerprint = chunk.fingerprint();
    let read = AssertUnwindSafe(|| parse_chunk(&from_one, fingerprint, schemas));
    catch_unwind(read).unwrap_or_else(|_| {
        let mut read = ReadChunk::empty(fingerprint);
        read.break_off(&SyntaxError { line: 1, column: 1, message: "the text cannot be parsed".to_owned() });
        read
    })
}

fn parse_chunk(chunk: &Chunk<'_>, fingerprint: u64, schemas: &Schemas) -> ReadChunk {
    let mut read = ReadChunk::empty(fingerprint);
    let parsed = yaml::parse(chunk);
    let last = parsed.documents.len().saturating_sub(1);
    for (index, document) in parsed.documents.into_iter().enumerate() {
        let cut_off = parsed.error.is_some() && index == last;
        let objects = document::unroll(document.value);
        let is_list = objects.iter().any(|(item, _)| item.is_some());
        let lines = if is_list { yaml::item_lines(chunk, index, "items") } else { Vec::new() };
        for (item, value) in objects {
            let line_of_item = item.and_then(|item| lines.get(usize::try_from(item).ok()?).copied());
            let line = line_of_item.unwrap_or(document.line);
            let place =
                Place { chunk: fingerprint, document: u32::try_from(index).unwrap_or(u32::MAX), item };
            let reading = document::read(value, schemas, cut_off);
            read.broken |= reading.unidentified;
            // What is missing in a text that broke off was perhaps still to come.
            let findings = if cut_off { Vec::new() } else { reading.findings };
            for finding in findings {
                let located = read.findings.len() < LOCATED_MAX;
                let field_line = if located { locate_field(chunk, place, &finding.field) } else { None };
                read.findings.push((field_line.unwrap_or(line), finding));
            }
            if let Some(object) = reading.object {
                read.objects.push((place, line, object));
            }
        }
    }
    if let Some(error) = &parsed.error {
        read.break_off(error);
    }
    read
}

/// The line of a field of the object at this place, counted as the chunk's own line is.
pub(super) fn locate_field(chunk: &Chunk<'_>, place: Place, field: &str) -> Option<u32> {
    let document = usize::try_from(place.document).ok()?;
    match place.item {
        Some(item) if field.is_empty() => yaml::locate(chunk, document, &format!("items[{item}]")),
        Some(item) => yaml::locate(chunk, document, &format!("items[{item}].{field}")),
        None if field.is_empty() => None,
        None => yaml::locate(chunk, document, field),
    }
}

impl ChunkReading {
    pub(super) const fn is_broken(&self) -> bool {
        match self {
            Self::Known { .. } => false,
            Self::Fresh { chunk, .. } => chunk.broken,
        }
    }
}

impl ReadChunk {
    const fn empty(fingerprint: u64) -> Self {
        Self { fingerprint, objects: Vec::new(), findings: Vec::new(), broken: false }
    }

    fn break_off(&mut self, error: &SyntaxError) {
        self.broken = true;
        self.findings.push((error.line, syntax_finding(error)));
    }
}

/// What is said of a text that is not YAML. The column counts, so it goes into the message.
pub(super) fn syntax_finding(error: &SyntaxError) -> Finding {
    let message = match error.column {
        0 => error.message.clone(),
        column => format!("{} (column {column})", error.message),
    };
    let remedy = "until it is corrected, the last good version of the file's objects stays".to_owned();
    Finding { severity: Severity::Error, object: String::new(), field: String::new(), message, remedy }
}

/// Does the work on all items, in order; over several threads where there are many.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(items.len() / TAKE);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take_all = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(TAKE, Ordering::Relaxed);
            let Some(rest) = items.get(start..) else { return done };
            if rest.is_empty() {
                return done;
            }
            done.push((start, rest.iter().take(TAKE).map(&work).collect::<Vec<R>>()));
        }
    };
    let mut parts = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(take_all)).collect();
        let mut parts = take_all();
        for worker in workers {
            // The work catches its own panics; one that comes through is a defect of ours and must not be hidden.
            parts.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        parts
    });
    parts.sort_by_key(|(start, _)| *start);
    parts.into_iter().flat_map(|(_, results)| results).collect()
}
