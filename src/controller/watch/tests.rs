//! Tests of what notices come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use notify::event::{
    AccessKind, AccessMode, CreateKind, DataChange, Flag, MetadataKind, ModifyKind, RenameMode,
};
use notify::{Event, EventKind};

use super::{Handler, Message, Waited, Watch, What};
use crate::folder::FileId;
use crate::testing::TempDir;

/// What the handler makes of an event, and whether it says that notices were lost.
fn handle(event: Event) -> (Vec<(String, What)>, bool) {
    let (sender, receiver) = sync_channel(2);
    let lost = Arc::new(AtomicBool::new(false));
    Handler { root: "/c".into(), sender, lost: Arc::clone(&lost) }.handle(Ok(event));
    let notices = receiver.try_iter().filter_map(|message| match message {
        Message::Notice(path, what) => Some((path.display().to_string(), what)),
        Message::Wake => None,
    });
    (notices.collect(), lost.load(Ordering::Relaxed))
}

#[test]
fn notices_say_what_they_mean_for_the_folder() {
    let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let rows = [
        ("/c/a.yaml", written, Some(What::Written)),
        ("/c/a.yaml", EventKind::Create(CreateKind::File), Some(What::Created)),
        ("/c/a.yaml", closed, Some(What::Complete)),
        ("/c/a.yaml", renamed, Some(What::Complete)),
        ("/c/a.yaml", EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Some(What::Attributes)),
        ("/c/a.yaml", EventKind::Access(AccessKind::Open(AccessMode::Any)), None),
        ("/c/a.yaml", EventKind::Access(AccessKind::Close(AccessMode::Read)), None),
        ("/c/sub", EventKind::Create(CreateKind::Folder), Some(What::Structure)),
        ("/c/..data", renamed, Some(What::Structure)),
        ("/c/..2026", EventKind::Create(CreateKind::Folder), None),
        ("/c/.a.yaml.swp", written, None),
        ("/c/access.log", written, None),
        ("/c", EventKind::Remove(notify::event::RemoveKind::Folder), Some(What::Structure)),
        ("/d/a.yaml", written, None),
        ("/cc", renamed, None),
    ];
    for (path, kind, want) in rows {
        let want = want.map(|what| (path.to_owned(), what)).into_iter().collect();
        assert_eq!(handle(Event::new(kind).add_path(path.into())), (want, false), "{path} {kind:?}");
    }
}

#[test]
fn an_overflow_of_the_system_or_of_our_own_queue_is_told() {
    assert!(handle(Event::new(EventKind::Other).set_flag(Flag::Rescan)).1);
    let written = Event::new(EventKind::Modify(ModifyKind::Data(DataChange::Any)));
    let three = ["/c/a.yaml", "/c/b.yaml", "/c/c.yaml"].into_iter();
    let (notices, lost) = handle(three.fold(written, |event, path| event.add_path(path.into())));
    assert_eq!((notices.len(), lost), (2, true));
}

#[test]
fn a_wait_ends_at_its_deadline_and_when_it_is_stopped() {
    let dir = TempDir::new();
    let mut watch = Watch::new(dir.path());
    let waited = watch.wait(Instant::now());
    assert!(matches!(waited, Waited::Notices { notices, lost: false } if notices.is_empty()));
    watch.stop().stop();
    assert!(matches!(watch.wait(Instant::now() + Duration::from_secs(60)), Waited::Stopped));
}

#[test]
fn a_directory_that_was_moved_away_and_back_or_made_anew_is_watched_again() {
    let (dir, aside) = (TempDir::new(), TempDir::new());
    dir.write("sub/below/a.yaml", "");
    let (sub, below) = (dir.file("sub"), dir.file("sub/below"));
    let id = |path: &std::path::Path| FileId::of(&std::fs::metadata(path).unwrap());
    let mut watch = Watch::new(dir.path());
    for directory in [dir.path(), &sub, &below] {
        watch.enter(directory, id(directory));
    }
    let mut heard = |what: &dyn Fn(), name: &str| {
        what();
        for directory in [&sub, &below] {
            watch.enter(directory, id(directory));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let until = Instant::now() + Duration::from_millis(50);
            let Waited::Notices { notices, .. } = watch.wait(until) else { panic!("nobody stopped it") };
            if notices.iter().any(|notice| notice.path.ends_with(name) && notice.what == What::Complete) {
                return true;
            }
            // What the folder does at such a notice: it looks through all directories.
            for directory in [&sub, &below] {
                watch.enter(directory, id(directory));
            }
            if notices.is_empty() {
                dir.write(&format!("sub/below/{name}"), "");
            }
        }
        false
    };
    let moved = || {
        std::fs::rename(&sub, aside.file("sub")).unwrap();
        std::fs::rename(aside.file("sub"), &sub).unwrap();
    };
    assert!(heard(&moved, "b.yaml"), "moved away and back");
    let anew = || {
        std::fs::remove_dir_all(&sub).unwrap();
        std::fs::create_dir_all(&below).unwrap();
    };
    assert!(heard(&anew, "c.yaml"), "made anew");
}
