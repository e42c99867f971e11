//! One table of routes and requests for each rule.

use http::Method;
use ir::ValueMatch;
use table::Table;

use crate::support::*;

/// Each case: what it shows, the request, and the object that must take it.
fn check(table: &Table, cases: &[(&str, Ask, Option<&str>)]) {
    for (name, ask, want) in cases {
        assert_eq!(winner(table, ask).as_deref(), *want, "{name}: {ask:?}");
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

#[test]
fn exact_hosts_come_before_the_longest_wildcard_before_none() {
    let table = table(vec![
        route("exact", &["b.a.com"], vec![prefix("/")]),
        route("long", &["*.a.com"], vec![prefix("/")]),
        route("short", &["*.com"], vec![prefix("/")]),
        route("none", &[], vec![prefix("/")]),
    ]);
    check(
        &table,
        &[
            ("exact", get("b.a.com/"), Some("exact")),
            ("longest wildcard", get("x.a.com/"), Some("long")),
            ("several labels", get("y.x.a.com/"), Some("long")),
            ("a wildcard does not take its own suffix", get("a.com/"), Some("short")),
            ("shorter wildcard", get("x.com/"), Some("short")),
            ("any host", get("x.org/"), Some("none")),
            ("no host", get("/"), Some("none")),
            ("an address", get("[::1]/"), Some("none")),
        ],
    );
}

#[test]
fn a_star_of_an_ingress_is_one_label() {
    let table = table(vec![
        route("one", &["?.a.com"], vec![prefix("/deep")]),
        route("many", &["*.a.com"], vec![prefix("/")]),
    ]);
    check(
        &table,
        &[
            ("one label: both compete by path", get("x.a.com/deep"), Some("one")),
            ("one label, other path", get("x.a.com/"), Some("many")),
            ("two labels", get("y.x.a.com/deep"), Some("many")),
        ],
    );
    let alone = self::table(vec![route("one", &["?.a.com"], vec![prefix("/")])]);
    check(&alone, &[("two labels, nothing else", get("y.x.a.com/"), None), ("suffix", get("a.com/"), None)]);
}

#[test]
fn a_request_falls_through_to_the_next_host() {
    let table = table(vec![
        route("exact", &["b.a.com"], vec![methods(prefix("/only"), &[Method::POST])]),
        route("wild", &["*.a.com"], vec![prefix("/wild")]),
        route("none", &[], vec![prefix("/")]),
    ]);
    check(
        &table,
        &[
            ("taken by the exact host", get("b.a.com/only").method(Method::POST), Some("exact")),
            ("method", get("b.a.com/only"), Some("none")),
            ("path", get("b.a.com/wild"), Some("wild")),
            ("both", get("b.a.com/else"), Some("none")),
        ],
    );
}

#[test]
fn a_last_resort_is_asked_after_everything() {
    let resort = |name: &str, hosts: &[&str]| ir::Route {
        last_resort: true,
        created: None,
        ..route(name, hosts, vec![prefix("/")])
    };
    let table = table(vec![
        resort("resort", &[]),
        resort("resort-host", &["a.com"]),
        route("weak", &[], vec![regex("/x.*")]),
    ]);
    check(
        &table,
        &[
            ("any route is stronger", get("a.com/xy"), Some("weak")),
            ("then by host", get("a.com/"), Some("resort-host")),
            ("on any host", get("b.com/"), Some("resort")),
        ],
    );
}

#[test]
fn exact_paths_come_before_the_longest_prefix_before_expressions() {
    let table = table(vec![
        route("exact", &[], vec![exact("/foo/bar")]),
        route("long", &[], vec![prefix("/foo/bar")]),
        route("short", &[], vec![methods(prefix("/foo"), &[Method::GET])]),
        route("regex", &[], vec![with_header(regex("/fo.*"), "x-a", ValueMatch::Absent)]),
    ]);
    check(
        &table,
        &[
            ("exact", get("h/foo/bar"), Some("exact")),
            ("a slash more is another path", get("h/foo/bar/"), Some("long")),
            ("longest prefix", get("h/foo/bar/x"), Some("long")),
            ("shorter prefix", get("h/foo/baz"), Some("short")),
            ("prefix itself", get("h/foo"), Some("short")),
            ("prefix with slash", get("h/foo/"), Some("short")),
            ("prefix by elements", get("h/foobar"), Some("regex")),
            ("case", get("h/FOO"), None),
            ("an escaped slash ends no element", get("h/foo%2Fbar"), Some("regex")),
            ("expressions match whole paths", get("h/x/foo"), None),
        ],
    );
}

#[test]
fn the_root_prefix_takes_every_path() {
    let table = table(vec![route("root", &["a.com"], vec![prefix("/")])]);
    for path in ["/", "/x", "/x/y/"] {
        assert_eq!(winner(&table, &get(&format!("a.com{path}"))).as_deref(), Some("root"), "{path}");
    }
}

#[test]
fn case_is_disregarded_where_a_route_says_so() {
    let table = table(vec![
        route("sensitive", &[], vec![exact("/Foo"), prefix("/Pre/x")]),
        route(
            "insensitive",
            &[],
            vec![any_case(exact("/fOO")), any_case(prefix("/pRE/X")), any_case(regex("/re.*"))],
        ),
        route("methods", &[], vec![methods(any_case(exact("/foo")), &[Method::PUT])]),
    ]);
    check(
        &table,
        &[
            ("equal path: by name", get("h/Foo"), Some("insensitive")),
            ("only one takes it", get("h/foo"), Some("insensitive")),
            ("equal path: by methods", get("h/Foo").method(Method::PUT), Some("methods")),
            ("prefix", get("h/PRE/x/y"), Some("insensitive")),
            ("expression", get("h/RExx"), Some("insensitive")),
        ],
    );
}

#[test]
fn a_path_that_is_not_canonical_is_compared_canonically() {
    let table = table(vec![
        route("slash", &[], vec![prefix("/a//b/./c/")]),
        route("hex", &[], vec![exact("/x%2fy")]),
        route("umlaut", &[], vec![exact("/é")]),
    ]);
    check(
        &table,
        &[
            ("merged", get("h/a/b/c/d"), Some("slash")),
            ("upper hex", get("h/x%2Fy"), Some("hex")),
            ("escaped", get("h/%C3%A9"), Some("umlaut")),
        ],
    );
}

#[test]
fn equal_paths_are_ranked_by_their_conditions() {
    let present = || ValueMatch::Present;
    let table = table(vec![
        route("0-plain", &[], vec![prefix("/")]),
        route("1-client", &[], vec![with_client(prefix("/"), "192.0.2.0/24")]),
        route("2-cookie", &[], vec![with_cookie(prefix("/"), "c", present())]),
        route("3-query", &[], vec![with_query(prefix("/"), "q", present())]),
        route("4-header", &[], vec![with_header(prefix("/"), "x-a", present())]),
        route(
            "5-headers",
            &[],
            vec![with_header(with_header(prefix("/"), "x-a", present()), "x-b", present())],
        ),
        route("6-method", &[], vec![methods(prefix("/"), &[Method::PUT, Method::POST])]),
    ]);
    let all = || get("h/").query("q").header("x-a", "1").header("x-b", "1").header("cookie", "c=1");
    check(
        &table,
        &[
            ("nothing", get("h/").client("10.0.0.1"), Some("0-plain")),
            ("address", get("h/"), Some("1-client")),
            ("cookie", get("h/").header("cookie", "c=1"), Some("2-cookie")),
            ("query", get("h/").header("cookie", "c=1").query("q"), Some("3-query")),
            ("header", get("h/").header("x-a", "1").query("q"), Some("4-header")),
            ("more headers", all(), Some("5-headers")),
            ("a method beats any number of headers", all().method(Method::PUT), Some("6-method")),
        ],
    );
}

#[test]
fn ties_go_to_the_oldest_then_by_name_then_by_place() {
    let aged =
        |name: &str, created: Option<i64>| ir::Route { created, ..route(name, &[], vec![prefix("/")]) };
    let in_namespace = |namespace: &str, name: &str| {
        let mut route = aged(name, Some(1));
        route.id.object.namespace = namespace.into();
        route
    };
    let rule = |rule: &str, rule_index: u32, path: &str| {
        let mut route = route("o", &[], vec![prefix(path)]);
        route.id.rule = rule.into();
        ir::Route { rule_index, ..route }
    };
    let cases = [
        ("older", vec![aged("a", Some(2)), aged("b", Some(1))], "shop/b/r"),
        ("no date is oldest", vec![aged("a", Some(-5)), aged("b", None)], "shop/b/r"),
        ("name", vec![aged("b", Some(1)), aged("a", Some(1))], "shop/a/r"),
        ("namespace before name", vec![in_namespace("b", "a"), in_namespace("a", "b")], "a/b/r"),
        ("as one text", vec![in_namespace("a", "x"), in_namespace("a-b", "x")], "a-b/x/r"),
        ("place of the rule, not its name", vec![rule("a", 1, "/"), rule("z", 0, "/")], "shop/o/z"),
    ];
    for (name, routes, want) in cases {
        let table = table(routes);
        let ask = get("h/");
        let decision = table.decide(&ask.head()).expect("some route");
        assert_eq!(&**decision.route.label(), want, "{name}");
    }
    let table = table(vec![route("m", &[], vec![exact("/y"), prefix("/"), prefix("/")])]);
    let ask = get("h/");
    assert_eq!(table.decide(&ask.head()).map(|decision| decision.match_index), Some(1));
}

#[test]
fn values_are_compared_whole() {
    let header = |value: ValueMatch| with_header(prefix("/"), "x-a", value);
    let rows = [
        ("exact", ValueMatch::Exact(text("a")), vec!["a"], true),
        ("exact, case", ValueMatch::Exact(text("a")), vec!["A"], false),
        ("exact of a list", ValueMatch::Exact(text("a,b")), vec!["a", "b"], true),
        ("one of a list is not the list", ValueMatch::Exact(text("a")), vec!["a", "b"], false),
        ("prefix", ValueMatch::Prefix(text("a")), vec!["ab"], true),
        ("no prefix", ValueMatch::Prefix(text("a")), vec!["ba"], false),
        ("expression", ValueMatch::Regex(text("a+")), vec!["aa"], true),
        ("expression of a part", ValueMatch::Regex(text("a+")), vec!["aab"], false),
        ("present", ValueMatch::Present, vec![""], true),
        ("not present", ValueMatch::Present, vec![], false),
        ("absent", ValueMatch::Absent, vec![], true),
        ("not absent", ValueMatch::Absent, vec![""], false),
        ("exact of nothing", ValueMatch::Exact(String::new()), vec![], false),
    ];
    for (name, value, values, want) in rows {
        let table = table(vec![route("x", &[], vec![header(value)])]);
        let ask = values.iter().fold(get("h/"), |ask, value| ask.header("x-a", value));
        assert_eq!(winner(&table, &ask).is_some(), want, "{name}");
    }
}

#[test]
fn a_query_and_cookies_are_compared_decoded() {
    let table = table(vec![
        route("query", &[], vec![with_query(prefix("/q"), "a b", ValueMatch::Exact(text("1 2")))]),
        route("cookie", &[], vec![with_cookie(prefix("/c"), "canary", ValueMatch::Exact(text("always")))]),
    ]);
    check(
        &table,
        &[
            ("escapes", get("h/q").query("x&a%20b=1+2"), Some("query")),
            ("the first counts", get("h/q").query("a+b=1&a+b=1+2"), None),
            ("no query", get("h/q"), None),
            ("cookie", get("h/c").header("cookie", "a=b; canary=always"), Some("cookie")),
            (
                "second header",
                get("h/c").header("cookie", "a=b").header("cookie", "canary=always"),
                Some("cookie"),
            ),
            ("part of a name", get("h/c").header("cookie", "xcanary=always"), None),
        ],
    );
}

#[test]
fn ten_thousand_routes_are_told_apart() {
    let mut routes = Vec::new();
    for index in 0..5_000 {
        routes.push(route(
            &format!("host-{index}"),
            &[&format!("h{index}.example.com")],
            vec![prefix("/api")],
        ));
        routes.push(route(
            &format!("path-{index}"),
            &["one.example.com"],
            vec![prefix(&format!("/p{index}/x"))],
        ));
    }
    let table = table(routes);
    for index in (0..5_000).step_by(37) {
        let cases = [
            (get(&format!("h{index}.example.com/api/v1")), Some(format!("host-{index}"))),
            (get(&format!("h{index}.example.com/apis")), None),
            (get(&format!("one.example.com/p{index}/x/y")), Some(format!("path-{index}"))),
            (get(&format!("one.example.com/p{index}/xy")), None),
        ];
        for (ask, want) in cases {
            assert_eq!(winner(&table, &ask), want, "{ask:?}");
        }
    }
}

#[test]
fn a_path_of_many_slashes_is_no_attack() {
    let mut routes: Vec<_> = (0..200)
        .map(|index| route(&format!("r{index}"), &[], vec![prefix(&"/a".repeat(index + 1))]))
        .collect();
    routes.push(route("root", &[], vec![prefix("/")]));
    let table = table(routes);
    let ask = get(&format!("h{}", "/a".repeat(500_000)));
    assert_eq!(winner(&table, &ask).as_deref(), Some("r199"));
    let ask = get(&format!("h{}", "/b".repeat(500_000)));
    assert_eq!(winner(&table, &ask).as_deref(), Some("root"));
}
