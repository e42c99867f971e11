//! Which files a folder holds and what they look like from outside. Reads no file.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How deep directories may nest; a loop of symbolic links ends here at the latest.
const DEPTH_MAX: usize = 32;
/// How many files are read at most.
const FILES_MAX: usize = 200_000;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    id: FileId,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file or directory itself, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<(PathBuf, Stamp)>,
    /// Directories whose content is not known, and why.
    pub(crate) unreadable: Vec<(PathBuf, io::Error)>,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            id: FileId::of(metadata),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Lists all files under the roots; a root that is a file stands for itself. `enter` is called with each directory
/// before it is read, so that whoever watches it misses nothing.
pub(crate) fn list(roots: &[PathBuf], enter: &mut impl FnMut(&Path, FileId)) -> Listing {
    let mut listing = Listing::default();
    for root in roots {
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_file() => listing.files.push((root.clone(), Stamp::of(&metadata))),
            Ok(metadata) => {
                let mut above = vec![FileId::of(&metadata)];
                list_directory(root, &mut above, &mut listing, enter);
            }
            Err(error) => listing.unreadable.push((root.clone(), error)),
        }
    }
    listing
}

/// Whether a file of this name is read. Names that start with a dot are the system's and the editors' (`..data`,
/// `.#a.yaml`, `.a.yaml.swp`); other temporary files (`a.yaml~`, `4913`, `sedX1`, `a.tmp`) have other endings.
pub(crate) fn is_object_file(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    !is_hidden(path) && matches!(ending, Some("yaml" | "yml" | "json"))
}

/// Whether the last part of the path starts with a dot.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Symbolic links are followed: that is how mounted ConfigMaps look.
fn list_directory(
    directory: &Path,
    above: &mut Vec<FileId>,
    listing: &mut Listing,
    enter: &mut impl FnMut(&Path, FileId),
) {
    if let Some(id) = above.last() {
        enter(directory, *id);
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return listing.unreadable.push((directory.to_owned(), error)),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return listing.unreadable.push((directory.to_owned(), error)),
        };
        if is_hidden(&path) {
            continue;
        }
        // A file that vanished since, or a link that leads nowhere, is not there.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let id = FileId::of(&metadata);
            if above.len() < DEPTH_MAX && !above.contains(&id) {
                above.push(id);
                list_directory(&path, above, listing, enter);
                above.pop();
            }
        } else if metadata.is_file() && is_object_file(&path) {
            if listing.files.len() >= FILES_MAX {
                let error = io::Error::other(format!("more than {FILES_MAX} files"));
                return listing.unreadable.push((directory.to_owned(), error));
            }
            listing.files.push((path, Stamp::of(&metadata)));
        }
    }
}
