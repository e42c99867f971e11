//! Tests of the owner of the snapshot, fed by hand.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use ir::{ControlState, Kind, ObjectRef};
use serde_json::json;
use tokio::sync::watch;
use translate::{Object, Settings, Severity};

use super::{Control, Inlets, Outlets};
use crate::outlook::MarkScope;
use crate::problem::Problem;
use crate::source::{Change, Origin, Place};

fn control() -> (Control, Inlets) {
    let (outlets, inlets) = Outlets::new();
    (Control::new(Settings::folder(), outlets), inlets)
}

fn origin() -> Origin {
    Origin {
        file: Path::new("/none/a.yaml").into(),
        line: 7,
        place: Place { chunk: 1, document: 0, item: None },
    }
}

/// A route that leads to 127.0.0.1 at this port.
fn route(name: &str, port: u16) -> Change {
    let value = json!({
        "apiVersion": "gateway.baribhara.io/v1alpha1",
        "kind": "GatewayRoute",
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"rules": [{"name": "main", "backendRefs": [{"address": "127.0.0.1", "port": port}]}]},
    });
    Change::Apply { object: Object::from_json(Kind::GatewayRoute, value).unwrap(), origin: Some(origin()) }
}

#[test]
fn nothing_is_published_before_all_objects_were_seen() {
    let (mut control, Inlets { config, endpoints, .. }) = control();
    control.take_in(vec![route("a", 1)]);
    control.publish();
    assert_eq!((config.borrow().generation, endpoints.borrow().backends.len()), (0, 0));
    control.take_in(vec![route("b", 1), Change::Synced]);
    control.publish();
    assert_eq!((config.borrow().generation, config.borrow().routes.len()), (1, 2));
}

#[test]
fn only_a_change_is_published_and_counts() {
    let (mut control, Inlets { mut config, .. }) = control();
    control.take_in(vec![route("a", 1), Change::Synced]);
    control.publish();
    config.mark_unchanged();
    control.take_in(vec![route("a", 1)]);
    control.publish();
    assert!(!config.has_changed().unwrap());
    control.take_in(vec![route("a", 2)]);
    control.publish();
    assert_eq!(config.borrow_and_update().generation, 2);
    control.take_in(vec![Change::Delete(ObjectRef::new(Kind::GatewayRoute, "n", "a"))]);
    control.publish();
    assert_eq!((config.borrow().generation, config.borrow().routes.len()), (3, 0));
}

#[test]
fn problems_of_sources_and_of_translation_stand_in_one_list() {
    let (mut control, Inlets { problems, .. }) = control();
    let file: Arc<Path> = Path::new("/none/b.yaml").into();
    let problem = Problem {
        file: Arc::clone(&file),
        line: 3,
        object: "Service/n/s".to_owned(),
        field: "spec".to_owned(),
        severity: Severity::Error,
        message: "wrong".to_owned(),
        remedy: "right it".to_owned(),
    };
    assert_eq!(problem.to_string(), "/none/b.yaml:3: Service/n/s: spec: wrong; right it");
    let value = json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"rules": [{"name": "main", "backendRefs": [{"name": "none", "port": 1}]}]},
    });
    let missing = Object::from_json(Kind::GatewayRoute, value).unwrap();
    control.take_in(vec![
        Change::Apply { object: missing, origin: Some(origin()) },
        Change::Problems { file: Arc::clone(&file), problems: vec![problem], rejected_objects: 1 },
        Change::Synced,
    ]);
    control.publish();
    let told: Vec<_> = problems.borrow().lines.iter().map(|line| (line.file.clone(), line.line)).collect();
    assert_eq!(told, [(origin().file, 7), (Arc::clone(&file), 3)]);
    assert_eq!(problems.borrow().rejected_objects, 1);
    control.take_in(vec![Change::Problems { file, problems: Vec::new(), rejected_objects: 0 }]);
    control.take_in(vec![Change::Delete(ObjectRef::new(Kind::GatewayRoute, "n", "a"))]);
    control.publish();
    assert_eq!(**problems.borrow(), crate::Problems::default());
}

/// Notes what was known of refused objects at the moment when it is woken.
struct Witness {
    state: watch::Receiver<ControlState>,
    seen: AtomicU64,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.seen.store(self.state.borrow().rejected_objects, Ordering::SeqCst);
    }
}

#[test]
fn whoever_is_woken_by_a_config_knows_already_what_was_refused_with_it() {
    let (mut control, Inlets { mut config, state, .. }) = control();
    let witness = Arc::new(Witness { state, seen: AtomicU64::new(u64::MAX) });
    let problem = Problem {
        file: Path::new("/none/b.yaml").into(),
        line: 3,
        object: "GatewayRoute/n/b".to_owned(),
        field: String::new(),
        severity: Severity::Error,
        message: "wrong".to_owned(),
        remedy: String::new(),
    };
    control.take_in(vec![
        route("a", 1),
        Change::Problems { file: Arc::clone(&problem.file), problems: vec![problem], rejected_objects: 1 },
        Change::Synced,
    ]);
    let waker = Waker::from(Arc::clone(&witness));
    let mut changed = pin!(config.changed());
    assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    control.publish();
    assert_eq!(witness.seen.load(Ordering::SeqCst), 1);
}

#[test]
fn an_old_copy_is_served_until_the_true_objects_are_all_there() {
    let (mut control, Inlets { config, state, outlook, .. }) = control();
    let routes = || config.borrow().routes.keys().map(ToString::to_string).collect::<Vec<_>>();
    control.take_in(vec![route("old", 1), route("kept", 1), Change::Copied]);
    assert_eq!(routes(), ["GatewayRoute/n/kept/main", "GatewayRoute/n/old/main"]);
    assert_eq!((state.borrow().published_generation, state.borrow().last_good_in_use), (1, true));
    control.take_in(vec![route("kept", 1)]);
    control.publish();
    assert_eq!(routes().len(), 2, "half of the truth is not served");
    assert!(outlook.borrow().standings.is_empty(), "nobody is told about a copy");
    control.take_in(vec![route("new", 1), Change::Synced]);
    control.publish();
    assert_eq!(routes(), ["GatewayRoute/n/kept/main", "GatewayRoute/n/new/main"]);
    assert_eq!((config.borrow().generation, state.borrow().published_generation), (2, 2));
    assert!(!state.borrow().last_good_in_use);
}

/// As a cluster tells of a route: this generation at this version, of which this was said.
fn told(generation: i64, version: u64, port: u16, said: &str) -> Change {
    let value = json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": generation,
            "resourceVersion": version.to_string()},
        "spec": {"rules": [{"name": "main", "backendRefs": [{"address": "127.0.0.1", "port": port}]}]},
        "status": {"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": said,
            "lastTransitionTime": "2026-01-02T03:04:05Z"}]},
    });
    Change::Apply { object: Object::from_json(Kind::GatewayRoute, value).unwrap(), origin: None }
}

#[test]
fn what_was_said_of_an_object_is_passed_on_and_translates_nothing() {
    let (mut control, Inlets { mut config, outlook, .. }) = control();
    let id = ObjectRef::new(Kind::GatewayRoute, "n", "a");
    control.take_in(vec![told(1, 5, 1, "new"), Change::Synced]);
    control.publish();
    config.mark_unchanged();
    let first = Arc::clone(&outlook.borrow());
    control.take_in(vec![told(1, 6, 1, "seen")]);
    control.publish();
    let second = Arc::clone(&outlook.borrow());
    assert!(Arc::ptr_eq(&first.standings, &second.standings), "it was translated again");
    assert!(!config.has_changed().unwrap());
    let Some(Object::GatewayRoute(route)) = second.snapshot.object(&id) else { panic!("it is gone") };
    assert_eq!(route.status.as_ref().unwrap().conditions[0].message, "seen");
    assert!(second.marks_of(1).unwrap().reach(MarkScope::Kind, &id, 6), "the version was not taken in");
    control.take_in(vec![told(2, 7, 2, "seen"), told(2, 8, 2, "again")]);
    control.publish();
    assert_eq!(config.borrow_and_update().generation, 2, "what was said last hides what was changed before");
}
