//! What a compile takes over from the one before, and what a route that cannot be compiled does.

use std::sync::Arc;

use ir::{Action, FailReason, ValueMatch};
use table::Table;

use crate::support::*;

fn three() -> ir::Config {
    config(["a", "b", "c"].map(|name| route(name, &[&format!("{name}.com")], vec![prefix("/")])).into())
}

fn slot(table: &Table, name: &str) -> Option<usize> {
    let route = table.compiled_routes().iter().find(|route| &*route.id().object.name == name);
    route.map(|route| route.slot().index())
}

#[test]
fn slots_stay_and_are_given_again_one_compile_later() {
    let all = three();
    let (first, _) = Table::compile(None, &all);
    let before = ["a", "b", "c"].map(|name| slot(&first, name));
    assert_eq!(first.slots_end(), 3);

    let mut fewer = all;
    fewer.routes.retain(|id, _| &*id.object.name != "b");
    let added = route("d", &["d.com"], vec![prefix("/")]);
    fewer.routes.insert(added.id.clone(), Arc::new(added));
    let (second, _) = Table::compile(Some(&first), &fewer);
    assert_eq!([slot(&second, "a"), slot(&second, "c"), slot(&second, "d")], [before[0], before[2], Some(3)]);

    let mut more = fewer;
    let added = route("e", &["e.com"], vec![prefix("/")]);
    more.routes.insert(added.id.clone(), Arc::new(added));
    let (third, _) = Table::compile(Some(&second), &more);
    assert_eq!(slot(&third, "e"), before[1]);
    assert_eq!(third.slots_end(), 4);
}

#[test]
fn a_changed_route_keeps_its_slot_and_loses_its_old_hosts() {
    let mut all = three();
    let (first, _) = Table::compile(None, &all);
    let moved = route("b", &["new.com"], vec![exact("/x")]);
    all.routes.insert(moved.id.clone(), Arc::new(moved));
    let (second, _) = Table::compile(Some(&first), &all);
    assert_eq!(slot(&second, "b"), slot(&first, "b"));
    assert_eq!(winner(&second, &get("b.com/")), None);
    assert_eq!(winner(&second, &get("new.com/x")).as_deref(), Some("b"));
    assert_eq!(winner(&first, &get("b.com/")).as_deref(), Some("b"));
}

#[test]
fn unchanged_routes_are_taken_over() {
    let mut all = three();
    let (first, _) = Table::compile(None, &all);
    let changed = route("b", &["b.com"], vec![exact("/x")]);
    all.routes.insert(changed.id.clone(), Arc::new(changed));
    let (second, _) = Table::compile(Some(&first), &all);
    let same: Vec<bool> = first
        .compiled_routes()
        .iter()
        .zip(second.compiled_routes())
        .map(|(a, b)| Arc::ptr_eq(a, b))
        .collect();
    assert_eq!(same, [true, false, true]);
}

#[test]
fn a_route_that_cannot_be_compiled_fails_alone_and_is_named() {
    let rewrite = |regex: &str| {
        let rewrite = ir::PathRewrite::ReplaceRegex { regex: regex.to_owned(), substitution: String::new() };
        Action::Forward {
            backends: Vec::new(),
            rewrite: Some(ir::Rewrite { hostname: None, path: Some(rewrite) }),
            retry: ir::Retry::default(),
            circuit_breaker: ir::CircuitBreaker::default(),
            load_balancing: ir::LoadBalancing::default(),
            passive_health: None,
            active_health: None,
            upgrades: ir::Upgrades::default(),
            grpc_web: false,
        }
    };
    let bad_value = with_header(prefix("/h"), "x-a", ValueMatch::Regex("(".to_owned()));
    let routes = vec![
        route("good", &[], vec![prefix("/")]),
        route("bad-path", &[], vec![regex("("), exact("/ok")]),
        route("bomb", &[], vec![regex("a{1000}{1000}")]),
        route("bad-header", &[], vec![bad_value]),
        route("never", &[], vec![exact("/a\\b")]),
        ir::Route { action: rewrite("("), ..route("bad-rewrite", &[], vec![prefix("/rewrite")]) },
    ];
    let config = config(routes);
    let (table, problems) = Table::compile(None, &config);
    let named: Vec<&str> = problems.iter().map(|problem| &*problem.route.object.name).collect();
    assert_eq!(named, ["bad-header", "bad-path", "bad-rewrite", "bomb", "never"]);
    assert!(problems.iter().all(|problem| !problem.message.is_empty()));
    let cases = [
        ("others are not harmed", get("h/"), "good", false),
        ("a bad expression takes no path", get("h/any"), "good", false),
        ("the rest of its route answers 500", get("h/ok"), "bad-path", true),
        ("a bad value condition does not let through", get("h/h").header("x-a", "1"), "bad-header", true),
        ("but takes nothing without a value", get("h/h"), "good", false),
        ("a bad rewrite", get("h/rewrite"), "bad-rewrite", true),
    ];
    for (name, ask, want, fails) in cases {
        let head = ask.head();
        let decision = table.decide(&head).expect(name);
        assert_eq!(&*decision.route.id().object.name, want, "{name}");
        assert_eq!(decision.route.route.action == Action::Fail(FailReason::InvalidRule), fails, "{name}");
        assert_eq!(decision.route.problem().is_some(), fails, "{name}");
    }
    let (_, again) = Table::compile(Some(&table), &config);
    assert_eq!(again, problems, "a problem is reported as long as it is there");
}

#[test]
fn a_compiled_route_answers_from_its_prepared_filters() {
    let backend = |weight: u32| ir::WeightedBackend {
        target: ir::BackendTarget::Backend(ir::BackendId::Address { host: "h".into(), port: 80 }),
        weight,
        protocol: ir::UpstreamProtocol::default(),
    };
    let forward = Action::Forward {
        backends: vec![backend(0), backend(1)],
        rewrite: Some(ir::Rewrite {
            hostname: None,
            path: Some(ir::PathRewrite::ReplacePrefixMatch("/new".to_owned())),
        }),
        retry: ir::Retry::default(),
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
        active_health: None,
        upgrades: ir::Upgrades::default(),
        grpc_web: false,
    };
    let redirect = ir::Redirect {
        scheme: Some(ir::Scheme::Https),
        hostname: None,
        port: None,
        path: Some(ir::PathRewrite::ReplacePrefixMatch("/to".to_owned())),
        status: 308,
    };
    let table = table(vec![
        ir::Route {
            action: forward,
            cors: Some(cors()),
            ..route("f", &[], vec![exact("/one"), prefix("/old")])
        },
        ir::Route { action: Action::Redirect(redirect), ..route("r", &[], vec![prefix("/from")]) },
    ]);
    let cases = [("/old/x", "/new/x"), ("/old", "/new"), ("/one", "/new")];
    for (path, want) in cases {
        let ask = get(&format!("h{path}"));
        let head = ask.head();
        let decision = table.decide(&head).expect(path);
        assert_eq!(decision.route.upstream_path(decision.match_index, path).as_deref(), Ok(want), "{path}");
        assert_eq!(decision.route.pick_backend(u64::MAX), Some(1));
        assert!(decision.route.cors().is_some() && decision.route.rewrites_path());
    }
    let ask = get("h/from/x");
    let head = ask.head();
    let decision = table.decide(&head).expect("the redirect");
    let from = table::RedirectFrom {
        scheme: ir::Scheme::Http,
        host: "h",
        port: 8080,
        path: "/from/x",
        query: Some("q"),
        matched_prefix_bytes: decision.route.matched_prefix_bytes(decision.match_index, "/from/x"),
    };
    let location = decision.route.redirect_location(&from).expect("a redirect").expect("a place");
    assert_eq!(location, "https://h/to/x?q");
}
