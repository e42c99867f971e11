//! The folder: what a broken file does, and that it harms nobody else.

use e2e::backend::Backend;
use e2e::client::Request;
use e2e::folder::{Folder, route};
use e2e::gateway::Gateway;
use e2e::process::command;
use e2e::until::until;

use crate::site::{HOST, address, site, spec};

#[test]
fn a_broken_file_keeps_the_last_good_version_of_its_objects_and_says_so() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let folder = site.folder.path().display().to_string();
    let broken = [
        ("no YAML", "kind: [unclosed\n"),
        ("no object", "just text\n"),
        ("a schema violation", &route("shop", "hostnames: [\"not a host!\"]\nrules: [{name: all}]")),
        ("an unknown enumeration", &route("shop", &spec(backend.address, "loadBalancing: {policy: Best}"))),
    ];
    let told = || site.gateway.process.stderr().iter().filter(|line| line.contains("all.yaml")).count();
    for (what, yaml) in broken {
        let before = told();
        site.folder.write("all.yaml", yaml);
        until(&format!("{what}: the metric"), || {
            (site.gateway.metric("baribhara_config_rejected_objects") >= 1.0).then_some(())
        });
        assert_eq!(site.gateway.get(HOST, "/").status, 200, "{what}: the last good version serves");
        until(&format!("{what}: standard error names the file"), || (told() > before).then_some(()));
        let checked = command(&["check", &folder]).output().unwrap();
        assert_eq!(checked.status.code(), Some(1), "{what}");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.contains("all.yaml:"), "{what}: {said}");
        // A good file again.
        site.folder.write("all.yaml", &route("shop", &spec(backend.address, "")));
        until(&format!("{what}: the metric is back"), || {
            (site.gateway.metric("baribhara_config_rejected_objects") == 0.0).then_some(())
        });
    }
    assert_eq!(site.gateway.ask_admin("/readyz").unwrap().status, 200);
}

#[test]
fn a_broken_file_does_not_hold_up_the_others() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    site.folder.write("broken.yaml", "kind: [unclosed\n");
    let other = spec(backend.address, "").replace(HOST, "other.example.com");
    site.folder.write("other.yaml", &route("other", &other));
    site.gateway.until_status("other.example.com", "/", 200);
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
}

#[test]
fn a_bad_rule_harms_only_itself() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let site = site(&route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
rules:
- {{name: bad, matches: [{{path: {{type: PathPrefix, value: /bad}}, headers: [{{name: X, type: RegularExpression, value: \"(\"}}]}}], backendRefs: [{to}]}}
- {{name: rewrite, matches: [{{path: {{type: PathPrefix, value: /rewrite}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceRegex, regex: \"(\", substitution: x}}}}}}], backendRefs: [{to}]}}
- {{name: good, backendRefs: [{to}]}}"
        ),
    ));
    assert_eq!(site.gateway.get(HOST, "/rewrite").status, 500);
    assert_eq!(site.gateway.get(HOST, "/good").status, 200);
    assert_eq!(site.gateway.ask(&Request::get(HOST, "/other").header("X", "y")).status, 200);
}

#[test]
fn an_editors_temporary_files_are_not_read() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    for name in [".all.yaml.swp", "all.yaml~", "#all.yaml#", ".#all.yaml", "4913"] {
        std::fs::write(site.folder.path().join(name), "kind: [unclosed\n").unwrap();
    }
    // A change that is seen proves that those before it have been looked at.
    let other = spec(backend.address, "").replace(HOST, "other.example.com");
    site.folder.write("other.yaml", &route("other", &other));
    site.gateway.until_status("other.example.com", "/", 200);
    assert_eq!(site.gateway.metric("baribhara_config_rejected_objects"), 0.0);
}

#[test]
fn a_file_that_is_written_in_pieces_is_never_served_half() {
    use std::io::Write as _;
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let site = site(&route("shop", &spec(backend.address, "")));
    // Another status each time, so that the wait at the end is for this round's file.
    for status in 410..=415 {
        let direct = format!("{{type: DirectResponse, directResponse: {{statusCode: {status}, body: tea}}}}");
        let spec = format!(
            "hostnames: [{HOST}]
rules:
- {{name: all, backendRefs: [{to}]}}
- {{name: more, matches: [{{path: {{type: Exact, value: /more}}}}], filters: [{direct}]}}"
        );
        let mut file = std::fs::File::create(site.folder.path().join("all.yaml")).unwrap();
        for (number, piece) in route("shop", &spec).as_bytes().chunks(40).enumerate() {
            file.write_all(piece).unwrap();
            file.flush().unwrap();
            let answer = site.gateway.get(HOST, "/").status;
            assert_eq!(answer, 200, "{status}, piece {number}: {:#?}", site.gateway.process.stderr());
        }
        drop(file);
        site.gateway.until_status(HOST, "/more", status);
    }
}

#[test]
fn files_in_folders_below_and_several_documents_and_lists_are_read() {
    let backend = Backend::named("ok");
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("deep/er")).unwrap();
    let of =
        |name: &str| route(name, &spec(backend.address, "").replace(HOST, &format!("{name}.example.com")));
    std::fs::write(folder.path().join("deep/er/a.yaml"), of("a") + &of("b")).unwrap();
    std::fs::write(folder.path().join("c.yml"), of("c")).unwrap();
    let gateway = Gateway::start(folder.path(), &[]);
    for name in ["a", "b", "c"] {
        assert_eq!(gateway.get(&format!("{name}.example.com"), "/").status, 200, "{name}");
    }
    std::fs::create_dir_all(folder.path().join("new")).unwrap();
    std::fs::write(folder.path().join("new/d.yaml"), of("d")).unwrap();
    gateway.until_status("d.example.com", "/", 200);
}
