//! The last good copy: the source objects that are in use, in a file, so that a restarted process can serve while the API
//! server is away. Holds Secrets, so it is readable by its owner only, and no message quotes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Kind, ObjectRef};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};
use translate::{RefusedPolicy, Snapshot};

use crate::document::{self, Outcome, api_version_of};
use crate::outlook::Outlook;
use crate::schema::Schemas;
use crate::source::{Batch, Change};

#[cfg(test)]
mod tests;

/// The file. Each line is one object in JSON, so that the folder source reads it too. The first is an empty `List` that
/// says how many follow.
const FILE: &str = "objects.json";
/// What it is written as first.
const NEW_FILE: &str = ".objects.json.new";
/// The annotation of the first line.
const COUNT: &str = "gateway.baribhara.io/objects";
/// The largest file that is read.
const BYTES_MAX: u64 = 256 << 20;
/// How long to gather changes before a write.
const SETTLE: Duration = Duration::from_millis(500);
/// How long to wait after a write.
const PAUSE: Duration = Duration::from_secs(5);
/// Writing takes at most this part of the time: the next one waits so many times as long as the last took.
const WRITE_SHARE: u32 = 50;

/// Writes each new state, not more often than the constants say, and the last one before the end.
pub(crate) async fn keep(
    dir: PathBuf,
    mut outlook: watch::Receiver<Arc<Outlook>>,
    stopping: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        // The value from before the first publication is nothing; a copy is never replaced by it.
        let changed = tokio::select! {
            // Both arms are cancel-safe: what is not seen now is seen the next time.
            changed = outlook.changed() => changed.is_ok(),
            () = stopped(stopping.clone()) => false,
        };
        if !changed && !outlook.has_changed().unwrap_or(false) {
            return;
        }
        wait(SETTLE, &stopping).await;
        let snapshot = Arc::clone(&outlook.borrow_and_update().snapshot);
        let target = dir.clone();
        let start = Instant::now();
        // A blocking thread: the disk may be slow.
        let written = tokio::task::spawn_blocking(move || write(&target, &snapshot)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => failing = false,
            Err(error) if failing => tracing::debug!(%error, "the last good copy cannot be written"),
            Err(error) => {
                failing = true;
                warn!(dir = %dir.display(), %error, "the last good copy cannot be written");
            }
        }
        if failing {
            outlook.mark_changed();
        }
        if *stopping.borrow() {
            return;
        }
        wait(PAUSE.max(start.elapsed() * WRITE_SHARE), &stopping).await;
    }
}

/// Reads the copy, as a batch that ends with `Copied`. `None`: there is none, or it cannot be used, which is logged.
pub(crate) fn read(dir: &Path, schemas: &Schemas) -> Option<Batch> {
    let file = dir.join(FILE);
    match read_file(&file, schemas) {
        Ok(None) => None,
        Ok(Some(mut batch)) => {
            info!(file = %file.display(), objects = batch.len(), "serving the last good copy until the cluster is read");
            batch.push(Change::Copied);
            Some(batch)
        }
        Err(reason) => {
            warn!(file = %file.display(), reason, "the last good copy cannot be used");
            None
        }
    }
}

fn read_file(file: &Path, schemas: &Schemas) -> Result<Option<Batch>, String> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    opened.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("it is larger than {} MiB", BYTES_MAX >> 20));
    }
    let mut lines = text.lines();
    let first: Value = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let count = first.pointer("/metadata/annotations").and_then(|annotations| annotations.get(COUNT));
    let count = count.and_then(Value::as_str).and_then(|count| count.parse::<usize>().ok());
    let count = count.ok_or("it does not begin as one")?;
    let mut batch = Batch::new();
    for line in lines {
        batch.push(read_line(line, schemas).ok_or("one of its objects cannot be read")?);
    }
    // An object less could be a policy less.
    if batch.len() == count { Ok(Some(batch)) } else { Err("it is not complete".to_owned()) }
}

fn read_line(line: &str, schemas: &Schemas) -> Option<Change> {
    let value = serde_json::from_str(line).ok()?;
    let read = document::read(value, schemas, false).object?;
    match read.outcome {
        Outcome::Good(object) => Some(Change::Apply { object, origin: None }),
        // A policy that was refused before fails closed from the copy too.
        Outcome::Refused(policy) if read.object.kind.is_policy() => {
            Some(Change::Refuse { object: read.object, policy, origin: None })
        }
        Outcome::Refused(_) => None,
    }
}

/// Writes beside and renames, so that there is always a whole file.
fn write(dir: &Path, snapshot: &Snapshot) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let new = dir.join(NEW_FILE);
    // One that was left behind may have other rights.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?);
    let count = snapshot.objects().count() + snapshot.refused.len();
    let first = json!({
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"annotations": {COUNT: count.to_string()}},
        "items": [],
    });
    write_line(&mut file, &first)?;
    for object in snapshot.objects() {
        let mut value = object.to_json()?;
        name_kind(&mut value, object.kind());
        write_line(&mut file, &value)?;
    }
    for (object, policy) in &snapshot.refused {
        write_line(&mut file, &refused(object, policy))?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

fn write_line(file: &mut BufWriter<File>, value: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

fn name_kind(value: &mut Value, kind: Kind) {
    if let Value::Object(entries) = value {
        entries.insert("apiVersion".to_owned(), Value::String(api_version_of(kind).to_owned()));
        entries.insert("kind".to_owned(), Value::String(kind.as_str().to_owned()));
    }
}

/// An object of which nothing but its targets is known, and which is therefore refused again by whoever reads it.
fn refused(object: &ObjectRef, policy: &RefusedPolicy) -> Value {
    let targets = policy.targets.iter().map(|target| match &target.section {
        Some(section) => json!({"kind": target.kind.as_str(), "name": target.name, "sectionName": section}),
        None => json!({"kind": target.kind.as_str(), "name": target.name}),
    });
    let mut value = json!({
        "metadata": {"namespace": &*object.namespace, "name": &*object.name},
        "spec": {"targetRefs": targets.collect::<Vec<_>>()},
    });
    name_kind(&mut value, object.kind);
    value
}

async fn wait(time: Duration, stopping: &watch::Receiver<bool>) {
    tokio::select! {
        // Both arms are cancel-safe: neither takes anything.
        () = sleep(time) => {}
        () = stopped(stopping.clone()) => {}
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone has stopped too.
    drop(stopping.wait_for(|stopping| *stopping).await);
}
