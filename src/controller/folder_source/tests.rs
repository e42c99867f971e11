//! Tests of the whole way from a file to a published config, over real folders and the system's own notices.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Action, Config};
use tokio::sync::watch;
use translate::{Settings, Severity};

use super::{FolderSource, Running, load};
use crate::problem::Problems;
use crate::testing::{TempDir, check_certificate, limit_policy, route};

/// Far beyond what is promised: only a defect takes that long, not a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn start(dir: &TempDir) -> Running {
    let mut running =
        FolderSource::start(dir.path().to_owned(), Settings::folder(), check_certificate).unwrap();
    wait(&mut running.config, |config| config.generation == 1);
    running
}

/// Waits until the published value is as wanted.
fn wait<T: std::fmt::Debug>(receiver: &mut watch::Receiver<Arc<T>>, wanted: impl Fn(&T) -> bool) -> Arc<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found = runtime.block_on(async {
        let value = receiver.wait_for(|value| wanted(value));
        tokio::time::timeout(DEADLINE, value).await.map(|value| value.unwrap().clone())
    });
    found.unwrap_or_else(|_| panic!("not in time; last: {:#?}", receiver.borrow()))
}

/// The path that a route's first match takes, by name of the object.
fn path_of(config: &Config, name: &str) -> Option<String> {
    let route = config.routes.values().find(|route| &*route.id.object.name == name)?;
    Some(match &route.matches[0].path {
        ir::PathMatch::Exact { value, .. } | ir::PathMatch::Prefix { value, .. } => value.clone(),
        ir::PathMatch::Regex { pattern, .. } => pattern.clone(),
    })
}

fn wait_for_path(running: &mut Running, name: &str, path: Option<&str>) -> Arc<Config> {
    wait(&mut running.config, |config| path_of(config, name).as_deref() == path)
}

fn errors(problems: &Problems) -> usize {
    problems.count(Severity::Error)
}

#[test]
fn an_empty_folder_is_published_as_generation_1() {
    let dir = TempDir::new();
    let running = start(&dir);
    assert!(running.config.borrow().routes.is_empty());
    running.stop();
}

#[test]
fn a_missing_folder_is_an_error() {
    let dir = TempDir::new();
    let error = FolderSource::start(dir.file("none"), Settings::folder(), check_certificate).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn every_way_of_changing_a_file_is_live_with_one_publication_and_no_gap() {
    let dir = TempDir::new();
    dir.write("a.yaml", &route("r", "/0"));
    dir.write("other.yaml", &route("s", "/s"));
    let mut running = start(&dir);
    type Way = fn(&TempDir, &str);
    let ways: [(&str, Way); 8] = [
        ("truncate and write", |dir, text| dir.write("a.yaml", text)),
        ("write beside and rename", |dir, text| dir.replace("a.yaml", text)),
        ("sed -i", |dir, text| {
            dir.write("sedX7Yz1", text);
            fs::rename(dir.file("sedX7Yz1"), dir.file("a.yaml")).unwrap();
        }),
        ("move away, write anew", |dir, text| {
            fs::rename(dir.file("a.yaml"), dir.file("a.yaml~")).unwrap();
            dir.write("a.yaml", text);
            dir.remove("a.yaml~");
        }),
        ("remove, write anew", |dir, text| {
            dir.remove("a.yaml");
            dir.write("a.yaml", text);
        }),
        ("write byte by byte", |dir, text| {
            let mut file = File::create(dir.file("a.yaml")).unwrap();
            for byte in text.as_bytes() {
                file.write_all(&[*byte]).unwrap();
            }
        }),
        ("symbolic link swapped", |dir, text| {
            let target = TempDir::new();
            // Kept for the life of the test process's folder: the link must lead somewhere.
            let kept = dir.file("..kept");
            fs::create_dir_all(&kept).unwrap();
            fs::write(kept.join("a"), text).unwrap();
            symlink(kept.join("a"), target.file("link")).unwrap();
            fs::rename(target.file("link"), dir.file("a.yaml")).unwrap();
        }),
        ("another name", |dir, text| {
            dir.remove("a.yaml");
            dir.replace("a.yaml", text);
        }),
    ];
    for (index, (way, change)) in ways.into_iter().enumerate() {
        let path = format!("/{}", index + 1);
        change(&dir, &route("r", &path));
        let config = wait_for_path(&mut running, "r", Some(&path));
        let want = u64::try_from(index).unwrap() + 2;
        assert_eq!(config.generation, want, "{way}: a state between was published");
        assert_eq!(errors(&running.problems.borrow()), 0, "{way}");
    }
    running.stop();
}

#[test]
fn a_mounted_config_map_changes_by_the_swap_of_its_data_link() {
    let dir = TempDir::new();
    let stage = |version: &str, files: &[(&str, String)]| {
        for (name, text) in files {
            dir.write(&format!("..2026_{version}/{name}"), text);
        }
        symlink(format!("..2026_{version}"), dir.file("..data_tmp")).unwrap();
        fs::rename(dir.file("..data_tmp"), dir.file("..data")).unwrap();
    };
    stage(
        "1",
        &[("a.yaml", route("a", "/1")), ("b.yaml", route("b", "/1")), ("sub/c.yaml", route("c", "/1"))],
    );
    for name in ["a.yaml", "b.yaml", "sub"] {
        symlink(format!("..data/{name}"), dir.file(name)).unwrap();
    }
    let mut running = start(&dir);
    assert_eq!(running.config.borrow().routes.len(), 3);
    stage(
        "2",
        &[("a.yaml", route("a", "/2")), ("b.yaml", route("b", "/1")), ("sub/c.yaml", route("c", "/2"))],
    );
    fs::remove_dir_all(dir.file("..2026_1")).unwrap();
    let config = wait_for_path(&mut running, "a", Some("/2"));
    assert_eq!((config.generation, config.routes.len()), (2, 3));
    assert_eq!(path_of(&config, "c").as_deref(), Some("/2"));
    running.stop();
}

#[test]
fn a_new_link_to_a_file_counts_at_once() {
    let dir = TempDir::new();
    dir.write("..kept/a", &route("a", "/1"));
    let mut running = start(&dir);
    let started = Instant::now();
    symlink(dir.file("..kept/a"), dir.file("a.yaml")).unwrap();
    wait_for_path(&mut running, "a", Some("/1"));
    assert!(started.elapsed() < Duration::from_millis(900), "nobody waits for a link to be closed");
    running.stop();
}

#[test]
fn temporary_files_of_editors_are_never_read() {
    let dir = TempDir::new();
    dir.write("a.yaml", &route("r", "/1"));
    let mut running = start(&dir);
    for name in [
        ".a.yaml.swp",
        ".#a.yaml",
        "a.yaml~",
        "4913",
        "a.tmp",
        "#a.yaml#",
        "sedAbc",
        ".git/x.yaml",
        "a.yaml.swp",
    ] {
        dir.write(name, "not: [yaml");
    }
    dir.write("a.yaml", &route("r", "/2"));
    let config = wait_for_path(&mut running, "r", Some("/2"));
    assert_eq!(config.generation, 2);
    assert!(running.problems.borrow().lines.is_empty(), "{:?}", running.problems.borrow());
    running.stop();
}

#[test]
fn a_broken_file_is_told_with_its_line_and_heals() {
    let dir = TempDir::new();
    dir.write("a.yaml", &route("r", "/1"));
    let mut running = start(&dir);
    dir.write("a.yaml", &format!("{}bad: [", route("r", "/2")));
    let problems = wait(&mut running.problems, |problems| problems.rejected_objects == 1);
    let line = problems.lines[0].to_string();
    assert!(line.starts_with(&format!("{}:", dir.file("a.yaml").display())), "{line}");
    assert_eq!(running.config.borrow().generation, 1);
    dir.write("a.yaml", &route("r", "/2"));
    wait_for_path(&mut running, "r", Some("/2"));
    wait(&mut running.problems, |problems| problems.lines.is_empty() && problems.rejected_objects == 0);
    running.stop();
}

#[test]
fn directories_are_followed_as_they_come_and_go() {
    let dir = TempDir::new();
    let mut running = start(&dir);
    dir.write("new/deep/a.yaml", &route("a", "/1"));
    wait_for_path(&mut running, "a", Some("/1"));
    dir.write("new/deep/a.yaml", &route("a", "/2"));
    wait_for_path(&mut running, "a", Some("/2"));
    let aside = TempDir::new();
    fs::rename(dir.file("new"), aside.file("new")).unwrap();
    wait_for_path(&mut running, "a", None);
    fs::rename(aside.file("new"), dir.file("back")).unwrap();
    wait_for_path(&mut running, "a", Some("/2"));
    dir.write("back/deep/a.yaml", &route("a", "/3"));
    wait_for_path(&mut running, "a", Some("/3"));
    running.stop();
}

#[test]
fn the_folder_itself_may_be_replaced() {
    let outer = TempDir::new();
    outer.write("live/a.yaml", &route("a", "/1"));
    outer.write("next/a.yaml", &route("a", "/2"));
    let mut running = FolderSource::start(outer.file("live"), Settings::folder(), check_certificate).unwrap();
    wait_for_path(&mut running, "a", Some("/1"));
    fs::rename(outer.file("live"), outer.file("old")).unwrap();
    fs::rename(outer.file("next"), outer.file("live")).unwrap();
    let config = wait_for_path(&mut running, "a", Some("/2"));
    assert_eq!(config.generation, 2);
    outer.write("live/a.yaml", &route("a", "/3"));
    let started = Instant::now();
    wait_for_path(&mut running, "a", Some("/3"));
    assert!(started.elapsed() < Duration::from_millis(1500), "the new folder is watched, not only scanned");
    running.stop();
}

#[test]
fn a_folder_behind_a_link_follows_the_link() {
    let outer = TempDir::new();
    outer.write("one/a.yaml", &route("a", "/1"));
    outer.write("two/a.yaml", &route("a", "/2"));
    symlink("one", outer.file("live")).unwrap();
    let mut running = FolderSource::start(outer.file("live"), Settings::folder(), check_certificate).unwrap();
    wait_for_path(&mut running, "a", Some("/1"));
    symlink("two", outer.file("swap")).unwrap();
    let started = Instant::now();
    fs::rename(outer.file("swap"), outer.file("live")).unwrap();
    wait_for_path(&mut running, "a", Some("/2"));
    assert!(started.elapsed() < Duration::from_millis(1500), "the link is watched, not only scanned");
    running.stop();
}

#[test]
fn a_file_that_is_held_open_half_written_changes_nothing_until_it_is_closed() {
    let dir = TempDir::new();
    let text = |path: &str| format!("{}---\n{}", route("a", path), route("b", path));
    dir.write("a.yaml", &text("/1"));
    dir.write("z.yaml", &route("z", "/1"));
    let mut running = start(&dir);
    let mut file = File::create(dir.file("a.yaml")).unwrap();
    file.write_all(route("a", "/2").as_bytes()).unwrap();
    // Another file's change shows that the half file was seen and left alone.
    dir.write("z.yaml", &route("z", "/2"));
    let config = wait_for_path(&mut running, "z", Some("/2"));
    assert_eq!(path_of(&config, "b").as_deref(), Some("/1"));
    file.write_all(text("/2").strip_prefix(&route("a", "/2")).unwrap().as_bytes()).unwrap();
    drop(file);
    let config = wait_for_path(&mut running, "b", Some("/2"));
    assert_eq!(path_of(&config, "a").as_deref(), Some("/2"));
    running.stop();
}

#[test]
fn a_refused_policy_makes_its_route_answer_500_until_it_is_right() {
    let dir = TempDir::new();
    dir.write("r.yaml", &route("r", "/1"));
    dir.write("p.yaml", &limit_policy("p", "[{requests: many, per: 1m}]"));
    let mut running = start(&dir);
    let config = Arc::clone(&running.config.borrow());
    let route = config.routes.values().next().unwrap();
    assert!(matches!(route.action, Action::Fail(_)), "{route:?}");
    let problems = wait(&mut running.problems, |problems| problems.rejected_objects == 1);
    let found = problems.lines.iter().map(|line| (line.object.as_str(), line.line, line.field.as_str()));
    let want = ("RateLimitPolicy/shop/p", 10, "spec.limits[0].rates[0].requests");
    assert!(found.into_iter().any(|line| line == want), "{problems:#?}");
    dir.write("p.yaml", &limit_policy("p", "[{requests: 7, per: 1m}]"));
    let config = wait(&mut running.config, |config| config.generation == 2);
    let route = config.routes.values().next().unwrap();
    assert!(matches!(route.action, Action::Forward { .. }) && route.limits.len() == 1, "{route:?}");
    running.stop();
}

#[test]
fn what_translation_finds_has_the_line_of_its_field_and_follows_it() {
    let dir = TempDir::new();
    let wrong = route("r", "/1").replace("- {address: 127.0.0.1, port: 8080}", "- {name: none, port: 80}");
    dir.write("a.yaml", &format!("{}---\n{wrong}", route("s", "/")));
    let mut running = start(&dir);
    let of_route = |problems: &Problems| {
        problems.lines.iter().find(|line| line.object == "GatewayRoute/shop/r").map(|line| line.line)
    };
    wait(&mut running.problems, |problems| of_route(problems) == Some(43));
    dir.write("a.yaml", &format!("{}# one more line\n---\n{wrong}", route("s", "/")));
    wait(&mut running.problems, |problems| of_route(problems) == Some(44));
    assert_eq!(running.config.borrow().generation, 1);
    dir.write("a.yaml", &route("s", "/"));
    wait(&mut running.problems, |problems| problems.lines.is_empty());
    running.stop();
}

#[test]
fn loading_reads_folders_and_single_files_and_never_fails() {
    let dir = TempDir::new();
    dir.write("x/a.yaml", &route("a", "/1"));
    dir.write("b.json", "{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n \"metadata\": {\"name\": 3}}");
    let loaded =
        load(&[dir.file("x"), dir.file("b.json"), dir.file("none")], Settings::folder(), check_certificate);
    assert_eq!((loaded.config.generation, loaded.config.routes.len()), (1, 1));
    let mut lines: Vec<_> = loaded.problems.lines.iter().map(|line| (line.file.clone(), line.line)).collect();
    lines.sort();
    assert_eq!(lines, [(dir.file("b.json").into(), 2), (dir.file("none").into(), 0)]);
    assert_eq!(loaded.endpoints.backends.len(), 1);
}

#[test]
fn stopping_ends_both_threads_and_keeps_the_last_values() {
    let dir = TempDir::new();
    dir.write("a.yaml", &route("a", "/1"));
    let running = start(&dir);
    let config = running.config.clone();
    running.stop();
    assert!(config.has_changed().is_err(), "the sender is gone");
    assert_eq!(config.borrow().routes.len(), 1);
}

/// Ten thousand routes in the files that `name` says.
fn many(dir: &TempDir, name: impl Fn(usize) -> String) {
    let mut files = std::collections::BTreeMap::<String, String>::new();
    for index in 0..10_000 {
        let text = files.entry(name(index)).or_default();
        text.push_str("---\n");
        text.push_str(&route(&format!("r{index}"), "/1"));
    }
    for (name, text) in &files {
        dir.write(name, text);
    }
}

#[test]
fn ten_thousand_routes_are_live_soon_and_so_is_a_change_of_one() {
    for one_file in [false, true] {
        let dir = TempDir::new();
        let name = |index: usize| {
            if one_file { "all.yaml".to_owned() } else { format!("{}/{index}.yaml", index % 100) }
        };
        many(&dir, name);
        let started = Instant::now();
        let mut running = start(&dir);
        let ready = started.elapsed();
        assert_eq!(running.config.borrow().routes.len(), 10_000);
        let text = fs::read_to_string(dir.file(&name(4_242))).unwrap();
        let mut times = Vec::new();
        for round in 2..9 {
            let old = route("r4242", "/1");
            let changed = text.replace(&old, &route("r4242", &format!("/{round}")));
            let started = Instant::now();
            dir.replace(&name(4_242), &changed);
            wait_for_path(&mut running, "r4242", Some(&format!("/{round}")));
            times.push(started.elapsed());
        }
        times.sort();
        println!(
            "one file: {one_file}; ready {ready:?}; one change live: median {:?}, all {times:?}",
            times[3]
        );
        assert!(ready < Duration::from_secs(15) && times[3] < Duration::from_secs(1));
        running.stop();
    }
}
