//! Tests of the copy: what is written is what is read, and nobody else reads it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Kind, ObjectRef};
use serde_json::{Value, json};
use tokio::sync::watch;
use translate::{Object, RefusedPolicy, RefusedTarget, Snapshot};

use super::{FILE, NEW_FILE, keep, read, write};
use crate::document;
use crate::outlook::{Marks, Outlook};
use crate::schema::Schemas;
use crate::source::{Batch, Change};
use crate::testing::TempDir;
use crate::yaml;

fn object(kind: Kind, name: &str, rest: Value) -> Object {
    let mut value = rest;
    value["metadata"] = json!({"name": name, "resourceVersion": "7", "uid": "u"});
    if kind.is_namespaced() {
        value["metadata"]["namespace"] = json!("shop");
    }
    Object::from_json(kind, value).unwrap()
}

fn target() -> Value {
    json!([{"group": "gateway.baribhara.io", "kind": "GatewayRoute", "name": "r", "sectionName": "main"}])
}

/// One object of each kind, and a refused policy.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let backend = json!([{"address": "127.0.0.1", "port": 1}]);
    let limit = json!([{"name": "all", "rates": [{"requests": 1, "per": "1s"}]}]);
    let objects = [
        (
            Kind::Ingress,
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 1}}}}}),
        ),
        (Kind::IngressClass, json!({"spec": {"controller": "gateway.baribhara.io/controller"}})),
        (Kind::GatewayRoute, json!({"spec": {"rules": [{"name": "main", "backendRefs": backend}]}})),
        (Kind::RateLimitPolicy, json!({"spec": {"targetRefs": target(), "limits": limit}})),
        (
            Kind::AuthPolicy,
            json!({"spec": {"targetRefs": target(), "auth": {"authorization": {"rules": [
                {"name": "in", "action": "Allow", "methods": ["GET"]}
            ]}}}}),
        ),
        (Kind::Service, json!({"spec": {"ports": [{"port": 1}]}})),
        (Kind::EndpointSlice, json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})),
        (Kind::Secret, json!({"data": {"jwks.json": "e30="}})),
        (Kind::ConfigMap, json!({"data": {"jwks.json": "{}"}})),
        (Kind::ReferenceGrant, json!({"spec": {"from": [], "to": [{"group": "", "kind": "Service"}]}})),
    ];
    assert_eq!(objects.len(), Kind::ALL.len());
    for (kind, rest) in objects {
        snapshot.apply(object(kind, "o", rest));
    }
    snapshot.refused.insert(ObjectRef::new(Kind::AuthPolicy, "shop", "refused"), refused_policy());
    snapshot
}

fn refused_policy() -> RefusedPolicy {
    let section = Some("main".to_owned());
    RefusedPolicy { targets: vec![RefusedTarget { kind: Kind::GatewayRoute, name: "r".to_owned(), section }] }
}

fn json_of(object: &Object) -> (ObjectRef, Value) {
    (object.object_ref(), object.to_json().unwrap())
}

fn taken(batch: &Batch) -> Vec<(ObjectRef, Value)> {
    let applied = batch.iter().filter_map(|change| match change {
        Change::Apply { object, .. } => Some(json_of(object)),
        Change::Move { .. }
        | Change::Refuse { .. }
        | Change::RefuseSecret { .. }
        | Change::LeaveUnstapled { .. }
        | Change::Delete(_)
        | Change::Problems { .. }
        | Change::Synced
        | Change::Copied => None,
    });
    applied.collect()
}

#[test]
fn every_kind_and_every_refused_policy_comes_back_as_it_was() {
    let (dir, snapshot) = (TempDir::new(), snapshot());
    write(dir.path(), &snapshot).unwrap();
    let batch = read(dir.path(), &Schemas::compile(crate::testing::check_certificate)).unwrap();
    assert_eq!(taken(&batch), snapshot.objects().map(|object| json_of(&object)).collect::<Vec<_>>());
    let refused: Vec<_> = batch.iter().filter(|change| matches!(change, Change::Refuse { .. })).collect();
    let [Change::Refuse { object, policy, .. }] = refused[..] else { panic!("{refused:?}") };
    assert_eq!((object.to_string().as_str(), policy), ("AuthPolicy/shop/refused", &refused_policy()));
    assert!(matches!(batch.last(), Some(Change::Copied)));
}

#[test]
fn only_its_owner_may_read_it_whatever_was_left_behind() {
    let dir = TempDir::new();
    let copy = dir.file("copy/deep");
    write(&copy, &snapshot()).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&copy), mode(&copy.join(FILE))), (0o700, 0o600));
    std::fs::write(copy.join(NEW_FILE), "left behind").unwrap();
    std::fs::set_permissions(copy.join(NEW_FILE), PermissionsExt::from_mode(0o644)).unwrap();
    write(&copy, &snapshot()).unwrap();
    assert_eq!(mode(&copy.join(FILE)), 0o600);
    assert!(!copy.join(NEW_FILE).exists());
}

#[test]
fn a_copy_that_is_not_whole_is_not_used_at_all() {
    let (dir, schemas) = (TempDir::new(), Schemas::compile(crate::testing::check_certificate));
    assert!(read(dir.path(), &schemas).is_none(), "there is none");
    write(dir.path(), &snapshot()).unwrap();
    let whole = std::fs::read_to_string(dir.file(FILE)).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let cases = [
        ("empty", String::new()),
        ("a line less", lines[..lines.len() - 1].join("\n")),
        ("half of a line", whole[..whole.len() - 20].to_owned()),
        ("no first line", lines[1..].join("\n")),
        ("an object that does not fit", whole.replace("\"data\":{\"jwks.json\":\"e30=\"}", "\"data\":7")),
        ("no text", "\u{0}".repeat(100)),
    ];
    for (name, text) in cases {
        assert_ne!(text, whole, "{name}");
        dir.write(FILE, &text);
        assert!(read(dir.path(), &schemas).is_none(), "{name}");
    }
}

#[test]
fn the_folder_source_reads_it_too() {
    let dir = TempDir::new();
    let mut snapshot = snapshot();
    snapshot.refused.clear();
    write(&dir.file("copy"), &snapshot).unwrap();
    let text = std::fs::read_to_string(dir.file("copy").join(FILE)).unwrap();
    assert!(yaml::split(&text, yaml::Format::Json).iter().all(|chunk| yaml::parse(chunk).error.is_none()));
    let loaded =
        crate::load(&[dir.file("copy")], translate::Settings::folder(), crate::testing::check_certificate);
    assert_eq!(loaded.problems.rejected_objects, 0, "{:?}", loaded.problems);
    let served: Vec<_> = loaded.config.routes.keys().map(ToString::to_string).collect();
    assert_eq!(served, ["GatewayRoute/shop/o/main"], "the Ingress has no class");
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn it_is_written_soon_after_a_change_then_seldom_and_once_more_before_the_end() {
    let dir = TempDir::new();
    let (outlook, receiver) = watch::channel(Arc::new(Outlook::default()));
    let (stop, stopping) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(keep(dir.path().to_owned(), receiver, stopping));
    let publish = |snapshot: Snapshot| {
        let last = Arc::clone(&outlook.borrow());
        let next = last.next(1, &Marks::default(), &snapshot, Arc::default());
        outlook.send_replace(Arc::new(next));
    };
    // Without the first line, which only counts.
    let objects =
        || std::fs::read_to_string(dir.file(FILE)).ok().map(|text| text.lines().count().saturating_sub(1));
    let until = async |want: usize| {
        let start = Instant::now();
        while objects() != Some(want) {
            assert!(start.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let sleep = tokio::time::sleep;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(objects(), None, "the value from before the first publication is no state");
    publish(Snapshot::default());
    until(0).await;
    publish(snapshot());
    let start = tokio::time::Instant::now();
    until(11).await;
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    publish(Snapshot::default());
    stop.send_replace(true);
    assert!(tasks.join_next().await.unwrap().is_ok());
    assert_eq!(objects(), Some(0));
}

#[test]
fn a_large_copy_is_read_in_no_time() {
    let (dir, mut snapshot) = (TempDir::new(), Snapshot::default());
    for number in 0..2_000 {
        let backend = json!([{"address": "127.0.0.1", "port": 1}]);
        let rules = json!({"spec": {"hostnames": [format!("h{number}.example.com")], "rules": [
            {"name": "main", "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backend}
        ]}});
        snapshot.apply(object(Kind::GatewayRoute, &format!("r{number}"), rules));
    }
    write(dir.path(), &snapshot).unwrap();
    let schemas = Schemas::compile(crate::testing::check_certificate);
    let start = Instant::now();
    assert_eq!(read(dir.path(), &schemas).unwrap().len(), 2_001);
    let time = start.elapsed();
    println!("2,000 routes in {time:?}");
    assert!(time < Duration::from_secs(4), "{time:?}");
}

#[test]
fn what_annotations_of_an_ingress_say_comes_back_too() {
    let (dir, schemas) = (TempDir::new(), Schemas::compile(crate::testing::check_certificate));
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "a", "namespace": "shop", "annotations": {
            api::RETRY_ANNOTATION: "{attempts: 3}", api::TIMEOUTS_ANNOTATION: "soon",
        }},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    });
    let read_object = document::read(ingress, &schemas, false).object.unwrap();
    let document::Outcome::Good(object) = read_object.outcome else { panic!("{read_object:?}") };
    let mut snapshot = Snapshot::default();
    snapshot.apply(object);
    write(dir.path(), &snapshot).unwrap();
    let batch = read(dir.path(), &schemas).unwrap();
    let [Change::Apply { object: Object::Ingress(_, Some(notes)), .. }, _] = &batch[..] else {
        panic!("{batch:?}")
    };
    assert_eq!(notes.rule.retry.as_ref().map(|retry| retry.attempts), Some(3));
    assert_eq!(notes.refused.len(), 1);
}
