//! What a source of objects (a folder, later a cluster) tells the one owner of the snapshot. No behaviour beyond
//! the messages.

use std::path::Path;
use std::sync::Arc;

use ir::ObjectRef;
use translate::{Object, RefusedPolicy};

use crate::problem::Problem;

/// Changes that belong together: no state between them is ever translated.
pub(crate) type Batch = Vec<Change>;

/// How many batches may wait for the owner of the snapshot; a source waits when there are more.
pub(crate) const BATCHES_MAX: usize = 64;

/// One change.
#[derive(Debug)]
pub(crate) enum Change {
    /// An object is new or other than before. `origin`: its place in a file, if it came from one.
    Apply { object: Object, origin: Option<Origin> },
    /// An object stays as it is and stands elsewhere now.
    Move { object: ObjectRef, origin: Origin },
    /// A policy is refused and there is no last good version of it: its targets fail closed.
    Refuse { object: ObjectRef, policy: RefusedPolicy, origin: Option<Origin> },
    /// The newest version of a Secret cannot be used; the one before it, if there is one, stays.
    RefuseSecret { object: ObjectRef, reason: String },
    /// The OCSP response of a Secret in use is not stapled.
    LeaveUnstapled { object: ObjectRef, reason: String },
    /// An object is gone.
    Delete(ObjectRef),
    /// Takes the place of all that was said of this file. A source without files names what it speaks of by any path.
    Problems { file: Arc<Path>, problems: Vec<Problem>, rejected_objects: usize },
    /// All objects that exist were sent once. Nothing is built before.
    Synced,
    /// What was sent so far is an old copy: it is to be served until the true objects, which follow from nothing on,
    /// are all there.
    Copied,
}

/// Where an object stands. Enough to find the line of a field again without keeping the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: Arc<Path>,
    /// The line of the object, from 1.
    pub(crate) line: u32,
    pub(crate) place: Place,
}

/// The place of an object by content, which stays the same when lines are added above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Fingerprint of the chunk that holds it.
    pub(crate) chunk: u64,
    /// Which document of the chunk, from 0.
    pub(crate) document: u32,
    /// Which item, where the document is a `List`.
    pub(crate) item: Option<u32>,
}
