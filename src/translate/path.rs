//! Paths as they stand in objects, brought into the form in which requests are compared. Must not accept a path that
//! no canonical request path can equal, nor one that means another than it says.

use std::fmt;

/// Why a path of an object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// No request can have it.
    NotCanonical(ir::PathError),
    /// Longer than [`PATH_BYTES_MAX`].
    TooLong,
    /// An element `.` or `..`, written plainly or percent-encoded.
    DotSegment,
    /// Two slashes in a row.
    EmptySegment,
}

/// The longest path in bytes after encoding (the bound of Gateway API HTTPPathMatch).
const PATH_BYTES_MAX: usize = 1024;

/// What to do about any of them.
pub(crate) const PATH_REMEDY: &str = "write the path as it looks after cleaning: it starts with '/', has no '//', \
no '.' or '..' element, no '?', '#', '\\' or control character";

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCanonical(error) => return error.fmt(f),
            Self::TooLong => "the path is longer than 1024 bytes",
            Self::DotSegment => {
                "the path has a '.' or '..' element, which is resolved in requests before they are compared"
            }
            Self::EmptySegment => {
                "the path has two slashes in a row, which are merged in requests before they are compared"
            }
        })
    }
}

/// The canonical form of a path that needs no resolving: what is merged or resolved in requests is refused here, since
/// its author meant something that no request can ask for.
pub(crate) fn canonical_path(text: &str) -> Result<String, PathError> {
    let path = ir::canonical_path(text).map_err(PathError::NotCanonical)?;
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    if text.contains("//") {
        return Err(PathError::EmptySegment);
    }
    if text.split('/').any(is_dot_segment) {
        return Err(PathError::DotSegment);
    }
    Ok(path.into_owned())
}

/// A canonical path as a prefix by whole elements: no trailing slash, but `/` itself stays.
pub(crate) fn canonical_prefix(text: &str) -> Result<String, PathError> {
    let mut path = canonical_path(text)?;
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    Ok(path)
}

/// Whether a segment is `.` or `..` once its dots are decoded.
fn is_dot_segment(segment: &str) -> bool {
    let decoded = segment.replace("%2e", ".").replace("%2E", ".");
    decoded == "." || decoded == ".."
}
