//! Tests of the folder's state over real files, with the time as an argument.

use std::time::{Duration, Instant};

use translate::{Object, RefusedTarget, Severity};

use super::{Folder, Write};
use crate::problem::Problem;
use crate::schema::Schemas;
use crate::source::{Batch, Change};
use crate::testing::{TempDir, limit_policy, route, service};

struct Fixture {
    dir: TempDir,
    folder: Folder,
    now: Instant,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> (Self, Batch) {
        let dir = TempDir::new();
        for (name, text) in files {
            dir.write(name, text);
        }
        let mut folder =
            Folder::new(vec![dir.path().to_owned()], Schemas::compile(crate::testing::check_certificate));
        let now = Instant::now();
        let batch = folder.first_scan(now, |_, _| {});
        (Self { dir, folder, now }, batch)
    }

    fn touch(&mut self, name: &str, write: Write) -> Batch {
        self.folder.touch(&self.dir.file(name), write, self.now);
        self.folder.work(self.now)
    }

    fn write(&mut self, name: &str, text: &str) -> Batch {
        self.dir.write(name, text);
        self.touch(name, Write::Closed)
    }

    fn later(&mut self, ms: u64) -> Batch {
        self.now += Duration::from_millis(ms);
        self.folder.work(self.now)
    }
}

/// Each change in a word; problems by severity.
fn words(batch: &Batch) -> Vec<String> {
    let mut words = Vec::new();
    for change in batch {
        match change {
            Change::Apply { object, origin } => {
                words.push(format!("apply {}:{}", object.object_ref(), origin.as_ref().unwrap().line))
            }
            Change::Move { object, origin } => words.push(format!("move {object}:{}", origin.line)),
            Change::Refuse { object, .. } => words.push(format!("refuse {object}")),
            Change::LeaveUnstapled { object, reason } => words.push(format!("unstapled {object}: {reason}")),
            Change::RefuseSecret { object, reason } => words.push(format!("refuse {object}: {reason}")),
            Change::Delete(object) => words.push(format!("delete {object}")),
            Change::Problems { problems, .. } => {
                words.extend(
                    problems.iter().map(|problem| format!("{:?} {}", problem.severity, problem.line)),
                );
            }
            Change::Synced => words.push("synced".to_owned()),
            Change::Copied => words.push("copied".to_owned()),
        }
    }
    words
}

fn problems(batch: &Batch) -> Vec<&Problem> {
    let problems = batch.iter().filter_map(|change| match change {
        Change::Problems { problems, .. } => Some(problems),
        Change::Apply { .. }
        | Change::Move { .. }
        | Change::Refuse { .. }
        | Change::RefuseSecret { .. }
        | Change::LeaveUnstapled { .. }
        | Change::Delete(_)
        | Change::Synced
        | Change::Copied => None,
    });
    problems.flatten().collect()
}

#[test]
fn the_first_scan_applies_all_objects_and_ends_with_synced() {
    let both = format!("{}---\n{}", service("a", 1), service("b", 1));
    let (_, batch) =
        Fixture::new(&[("z.yml", &service("c", 1)), ("sub/x.yaml", &both), ("README.md", "no: [")]);
    let want =
        ["apply Service/default/a:1", "apply Service/default/b:6", "apply Service/default/c:1", "synced"];
    assert_eq!(words(&batch), want);
}

#[test]
fn only_the_document_that_changed_is_applied_and_those_below_move() {
    let text = |port| format!("{}---\n{}---\n{}", service("a", 1), service("b", port), service("c", 1));
    let (mut f, _) = Fixture::new(&[("x.yaml", &text(1))]);
    assert_eq!(words(&f.write("x.yaml", &text(2))), ["apply Service/default/b:6"]);
    let longer = text(2).replace("---\nk", "k").replacen("---\n", "---\n# more\n", 1);
    assert_eq!(
        words(&f.write("x.yaml", &longer)),
        ["apply Service/default/b:7", "move Service/default/c:12"]
    );
    assert_eq!(words(&f.write("x.yaml", &longer)), [""; 0]);
}

#[test]
fn a_broken_file_keeps_all_its_objects_and_heals() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1))]);
    let broken = f.write("x.yaml", &format!("{}---\nkind: [\n", service("a", 2)));
    assert_eq!(words(&broken), ["Error 7"]);
    assert!(problems(&broken)[0].message.contains("column"), "{broken:?}");
    assert_eq!(words(&f.write("x.yaml", &service("a", 1))), [""; 0]);
    assert_eq!(words(&f.write("x.yaml", &service("a", 2))), ["apply Service/default/a:1"]);
}

#[test]
fn an_object_that_is_refused_keeps_its_last_good_version_while_others_take_effect() {
    let text = |kind: &str, port| {
        format!("{}---\n{}", service("a", port), service("b", 1).replace("[{port: 1}]", kind))
    };
    let (mut f, _) = Fixture::new(&[("x.yaml", &text("[{port: 1}]", 1))]);
    let batch = f.write("x.yaml", &text("[{port: eighty}]", 2));
    assert_eq!(words(&batch), ["apply Service/default/a:1", "Error 9"]);
    let problem = problems(&batch)[0];
    assert_eq!(
        (problem.object.as_str(), problem.field.as_str()),
        ("Service/default/b", "spec.ports[0].port")
    );
    assert_eq!(words(&f.write("x.yaml", &text("[{port: 3}]", 2))), ["apply Service/default/b:6"]);
}

#[test]
fn a_removed_file_takes_its_objects_along_after_a_moment() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1))]);
    f.dir.remove("x.yaml");
    assert_eq!(words(&f.touch("x.yaml", Write::Closed)), [""; 0]);
    assert_eq!(words(&f.later(24)), [""; 0]);
    assert_eq!(words(&f.later(1)), ["delete Service/default/a"]);
    assert!(f.folder.next_due().is_none());
}

#[test]
fn a_file_that_comes_back_in_time_was_never_gone() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1))]);
    f.dir.remove("x.yaml");
    f.touch("x.yaml", Write::Closed);
    f.now += Duration::from_millis(10);
    assert_eq!(words(&f.write("x.yaml", &service("a", 2))), ["apply Service/default/a:1"]);
    assert_eq!(words(&f.later(100)), [""; 0]);
}

#[test]
fn a_renamed_file_hands_its_objects_over_without_a_gap_or_a_complaint() {
    let (mut f, _) = Fixture::new(&[("a.yaml", &service("a", 1))]);
    std::fs::rename(f.dir.file("a.yaml"), f.dir.file("b.yaml")).unwrap();
    f.folder.touch(&f.dir.file("a.yaml"), Write::Closed, f.now);
    assert_eq!(words(&f.touch("b.yaml", Write::Closed)), ["apply Service/default/a:1"]);
    assert_eq!(words(&f.later(30)), [""; 0]);
}

#[test]
fn an_emptied_file_counts_as_emptied_only_if_it_stays_so() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1))]);
    assert_eq!(words(&f.write("x.yaml", "")), [""; 0]);
    assert_eq!(words(&f.write("x.yaml", &service("a", 2))), ["apply Service/default/a:1"]);
    assert_eq!(words(&f.write("x.yaml", "\n")), [""; 0]);
    assert_eq!(words(&f.later(300)), [""; 0]);
    assert_eq!(words(&f.write("x.yaml", "")), [""; 0], "touched again: the wait starts anew");
    assert_eq!(words(&f.later(499)), [""; 0]);
    assert_eq!(words(&f.later(1)), ["delete Service/default/a"]);
}

#[test]
fn a_file_that_is_still_open_is_left_alone_until_it_is_closed_or_quiet_for_a_second() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &format!("{}---\n{}", service("a", 1), service("b", 1)))]);
    f.dir.write("x.yaml", &service("a", 2));
    f.touch("x.yaml", Write::Open);
    assert_eq!(words(&f.later(500)), [""; 0]);
    // A scan knows less than the notice.
    f.folder.scan(Write::Closed, f.now, |_, _| {});
    f.touch("x.yaml", Write::Open);
    assert_eq!(words(&f.later(999)), [""; 0]);
    assert_eq!(words(&f.later(1)), ["apply Service/default/a:1", "delete Service/default/b"]);
    f.dir.write("x.yaml", "kind: [");
    f.touch("x.yaml", Write::Open);
    f.dir.write("x.yaml", &service("a", 3));
    assert_eq!(words(&f.touch("x.yaml", Write::Closed)), ["apply Service/default/a:1"]);
}

#[test]
fn of_two_places_the_first_by_path_holds_the_object() {
    let (mut f, batch) = Fixture::new(&[("b.yaml", &service("a", 2)), ("a.yaml", &service("a", 1))]);
    assert_eq!(words(&batch), ["apply Service/default/a:1", "Error 1", "synced"]);
    let problem = problems(&batch)[0];
    assert_eq!(*problem.file, *f.dir.file("b.yaml"));
    assert!(problem.message.contains(&f.dir.file("a.yaml").display().to_string()), "{problem}");
    f.dir.remove("a.yaml");
    f.touch("a.yaml", Write::Closed);
    let batch = f.later(25);
    let [Change::Apply { object: Object::Service(service), .. }, ..] = batch.as_slice() else {
        panic!("{batch:?}")
    };
    assert_eq!(service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port, 2);
    assert!(problems(&batch).is_empty());
}

#[test]
fn one_file_may_not_hold_an_object_twice_either() {
    let (_, batch) = Fixture::new(&[("a.yaml", &format!("{}---\n{}", service("a", 1), service("a", 1)))]);
    assert_eq!(words(&batch), ["apply Service/default/a:1", "Error 6", "synced"]);
}

#[test]
fn a_refused_policy_without_a_good_version_fails_closed() {
    let wrong = limit_policy("p", "many").replace("v1alpha1", "v1beta7");
    let (mut f, batch) = Fixture::new(&[("p.yaml", &wrong)]);
    assert_eq!(words(&batch), ["refuse RateLimitPolicy/shop/p", "Error 1", "synced"]);
    let Change::Refuse { policy, .. } = &batch[0] else { panic!("{batch:?}") };
    let want = RefusedTarget { kind: ir::Kind::GatewayRoute, name: "r".to_owned(), section: None };
    assert_eq!(policy.targets, vec![want]);
    let good = f.write("p.yaml", &limit_policy("p", "[{requests: 1, per: 1s}]"));
    assert_eq!(words(&good), ["apply RateLimitPolicy/shop/p:1"]);
    // Now there is a good version, and it stays.
    assert_eq!(words(&f.write("p.yaml", &wrong)), ["Error 1"]);
    f.dir.remove("p.yaml");
    f.touch("p.yaml", Write::Closed);
    assert_eq!(words(&f.later(25)), ["delete RateLimitPolicy/shop/p"]);
}

#[test]
fn a_policy_in_a_file_that_was_never_good_counts_even_if_the_text_breaks_off_in_it() {
    let broken = format!("{}---\n{}", route("r", "/"), limit_policy("p", "[{requests: 1"));
    let (mut f, batch) = Fixture::new(&[("x.yaml", &broken)]);
    assert_eq!(words(&batch), ["refuse RateLimitPolicy/shop/p", "Error 33", "synced"]);
    let whole = broken.replace("requests: 1\n", "requests: 1, per: 1s}]\n");
    let mut healed = words(&f.write("x.yaml", &whole));
    healed.sort();
    assert_eq!(healed, ["apply GatewayRoute/shop/r:1", "apply RateLimitPolicy/shop/p:23"]);
}

#[test]
fn lists_are_unrolled_with_the_lines_of_their_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: Service\n  metadata:\n    name: b\n  spec:\n    ports: 3\n";
    let (_, batch) = Fixture::new(&[("x.yaml", text)]);
    assert_eq!(words(&batch), ["apply ConfigMap/default/a:4", "Error 12", "synced"]);
}

#[test]
fn foreign_kinds_are_named_and_harm_nothing() {
    let rows = [
        ("apps/v1", "Deployment", Some(Severity::Info)),
        ("serving.knative.dev/v1", "Service", Some(Severity::Warning)),
        ("kuadrant.io/v1", "AuthPolicy", Some(Severity::Warning)),
        ("networking.k8s.io/v1beta1", "Ingress", Some(Severity::Error)),
        ("extensions/v1beta1", "Ingress", Some(Severity::Error)),
        ("gateway.baribhara.io/v1alpha1", "GatewayRout", Some(Severity::Error)),
        ("v1", "ConfigMap", None),
    ];
    for (api_version, kind, want) in rows {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        let (_, batch) = Fixture::new(&[("x.yaml", &text)]);
        assert_eq!(problems(&batch).first().map(|problem| problem.severity), want, "{api_version} {kind}");
    }
}

#[test]
fn what_is_no_object_breaks_its_file() {
    let rows = [
        ("- a\n", "not a Kubernetes object"),
        ("a: b\n", "kind is missing"),
        ("kind: Service\n", "apiVersion is missing"),
        ("apiVersion: v1\nkind: Service\n", "metadata is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", "name is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\n", "not a valid name"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a.b}\n", "name of a namespace"),
    ];
    for (text, message) in rows {
        let (_, batch) = Fixture::new(&[("x.yaml", text)]);
        let found = problems(&batch);
        assert!(found.len() == 1 && found[0].message.contains(message), "{text:?}: {found:?}");
        assert!(!words(&batch).iter().any(|word| word.starts_with("apply")), "{text:?}");
    }
}

#[test]
fn a_certificate_that_cannot_be_served_is_refused_and_the_one_before_it_stays() {
    let secret = |chain: &str| {
        format!(
            "kind: Secret\napiVersion: v1\nmetadata: {{name: a}}\nstringData: {{tls.crt: {chain}, tls.key: k}}\n"
        )
    };
    let (mut f, batch) = Fixture::new(&[("x.yaml", &secret("good"))]);
    assert_eq!(words(&batch), ["apply Secret/default/a:1", "synced"]);
    let batch = f.write("x.yaml", &secret("bad"));
    assert_eq!(words(&batch), ["Error 1"]);
    let problem = problems(&batch)[0];
    assert!(problem.message.contains("cannot be served: it is bad"), "{problem}");
    assert_eq!(words(&f.write("x.yaml", &secret("better"))), ["apply Secret/default/a:1"]);
}

#[test]
fn a_message_about_a_secret_never_quotes_it() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: canary-7531\n";
    let (_, batch) = Fixture::new(&[("x.yaml", text)]);
    assert_eq!(words(&batch), ["Error 4", "synced"]);
    assert!(!format!("{batch:?}").contains("canary-7531"));
}

#[test]
fn a_field_in_the_third_document_of_a_crlf_file_with_a_byte_order_mark_has_its_line() {
    let text = format!("\u{feff}{}---\n{}---\n# c\n{}", service("a", 1), service("b", 1), service("c", 1));
    let text = text.replace("name: c}", "name: C}").replace('\n', "\r\n");
    let (_, batch) = Fixture::new(&[("x.yaml", &text)]);
    let found = problems(&batch);
    assert_eq!((found[0].line, found[0].field.as_str()), (14, "metadata.name"));
}

#[test]
fn a_folder_that_is_away_keeps_everything_until_it_is_back() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1)), ("y.yaml", &service("b", 1))]);
    let aside = TempDir::new();
    std::fs::rename(f.dir.path(), aside.file("old")).unwrap();
    let batch = f.folder.scan(Write::Closed, f.now, |_, _| {});
    assert_eq!(words(&batch), ["Error 0"]);
    assert!(f.folder.lacks_a_root());
    f.touch("x.yaml", Write::Closed);
    assert_eq!(words(&f.later(1000)), [""; 0]);
    f.dir.write("y.yaml", &service("b", 2));
    let batch = f.folder.scan(Write::Closed, f.now, |_, _| {});
    assert_eq!(words(&batch), [""; 0]);
    let mut changes = words(&f.later(0));
    changes.extend(words(&f.later(25)));
    changes.sort();
    assert_eq!(changes, ["apply Service/default/b:1", "delete Service/default/a"]);
    assert!(!f.folder.lacks_a_root());
}

#[test]
fn a_file_beyond_the_bound_is_refused_unread() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1))]);
    std::fs::File::options().write(true).open(f.dir.file("x.yaml")).unwrap().set_len(33 << 20).unwrap();
    let batch = f.touch("x.yaml", Write::Closed);
    assert_eq!(words(&batch), ["Error 0"]);
    assert!(problems(&batch)[0].message.contains("larger than 32 MiB"));
}

#[test]
fn a_scan_finds_what_no_notice_told() {
    let (mut f, _) = Fixture::new(&[("x.yaml", &service("a", 1)), ("y.yaml", &service("b", 1))]);
    f.dir.replace("x.yaml", &service("a", 2));
    f.dir.remove("y.yaml");
    f.dir.write("sub/z.yaml", &service("c", 1));
    f.folder.scan(Write::Open, f.now, |_, _| {});
    f.later(0);
    let mut found = words(&f.later(25));
    found.extend(words(&f.later(1000)));
    found.sort();
    assert_eq!(found, ["apply Service/default/a:1", "apply Service/default/c:1", "delete Service/default/b"]);
}

/// A policy of this namespace as it is written in YAML.
fn policy_in(namespace: &str) -> String {
    limit_policy("p", "[{requests: 1, per: 1s}]")
        .replace("namespace: shop", &format!("namespace: {namespace}"))
}

#[test]
fn a_policy_whose_namespace_is_none_keeps_the_last_good_version_of_its_file() {
    for namespace in ["5", "[shop]", "Shop", "a.b", "''", "true"] {
        let (mut f, _) = Fixture::new(&[("p.yaml", &policy_in("shop"))]);
        assert_eq!(words(&f.write("p.yaml", &policy_in(namespace))), ["Error 3"], "{namespace}");
    }
}

#[test]
fn a_file_that_was_never_good_loses_no_policy_from_one_broken_version_to_the_next() {
    let refused = |name: &str| limit_policy(name, "many");
    let (p, q) = (refused("p"), refused("q"));
    let (mut f, batch) = Fixture::new(&[("x.yaml", &format!("{p}---\n{q}---\nkind: [\n"))]);
    assert!(words(&batch).starts_with(&[
        "refuse RateLimitPolicy/shop/p".to_owned(),
        "refuse RateLimitPolicy/shop/q".to_owned()
    ]));
    let batch = f.write("x.yaml", &format!("kind: [\n---\n{q}"));
    assert!(!words(&batch).iter().any(|word| word.starts_with("delete")), "{batch:?}");
    let batch = f.write("x.yaml", "kind: [\n");
    assert!(!words(&batch).iter().any(|word| word.starts_with("delete")), "{batch:?}");
    assert_eq!(
        words(&f.write("x.yaml", &service("a", 1))),
        ["delete RateLimitPolicy/shop/p", "delete RateLimitPolicy/shop/q", "apply Service/default/a:1"]
    );
}

#[test]
fn an_empty_file_is_no_good_version_that_a_broken_one_could_fall_back_to() {
    let (mut f, _) = Fixture::new(&[("x.yaml", "")]);
    let batch = f.write("x.yaml", &format!("{}---\nkind: [\n", limit_policy("p", "many")));
    assert_eq!(words(&batch)[0], "refuse RateLimitPolicy/shop/p");
}

#[test]
fn a_file_that_comes_back_takes_its_objects_back_from_the_duplicate() {
    let (mut f, _) = Fixture::new(&[("a.yaml", &service("a", 1)), ("b.yaml", &service("a", 2))]);
    std::fs::rename(f.dir.file("a.yaml"), f.dir.file("a.away")).unwrap();
    f.touch("a.yaml", Write::Closed);
    let taken = words(&f.write("b.yaml", &service("a", 3)));
    assert_eq!(taken[0], "apply Service/default/a:1");
    std::fs::rename(f.dir.file("a.away"), f.dir.file("a.yaml")).unwrap();
    let batch = f.touch("a.yaml", Write::Closed);
    let [Change::Apply { object: Object::Service(service), .. }, ..] = batch.as_slice() else {
        panic!("{batch:?}")
    };
    assert_eq!(service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port, 1);
    assert_eq!(*problems(&batch)[0].file, *f.dir.file("b.yaml"));
}

#[test]
fn no_message_quotes_the_tags_or_keys_of_a_secret() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n";
    for rest in [
        "stringData: {a: !canary-7531 x}\n",
        "stringData: {canary-7531: x, canary-7531: y}\n",
        "stringData: {canary-7531: [x]}\n",
        "stringData: !canary-7531 [x]\n",
    ] {
        let (_, batch) = Fixture::new(&[("x.yaml", &format!("{head}{rest}"))]);
        assert_eq!(words(&batch), ["Error 4", "synced"], "{rest}");
        assert!(!format!("{batch:?}").contains("canary-7531"), "{batch:?}");
    }
    let json = "{\"kind\": \"Secret\", \"canary-7531\": 1, \"canary-7531\": 1}";
    let (_, batch) = Fixture::new(&[("x.json", json)]);
    assert!(problems(&batch).len() == 1 && !format!("{batch:?}").contains("canary-7531"), "{batch:?}");
}

#[test]
fn the_field_that_does_not_fit_is_not_looked_for_in_a_very_large_object() {
    let schemas = Schemas::compile(crate::testing::check_certificate);
    for (bytes, field) in [(10, "data.k"), (17 << 20, "")] {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"k": 1, "text": "x".repeat(bytes)},
        });
        let reading = crate::document::read(value, &schemas, false);
        assert_eq!(reading.findings[0].field, field, "{bytes} bytes");
    }
}
