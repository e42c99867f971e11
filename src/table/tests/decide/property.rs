//! Random tables and requests: the table against the oracle, explanations against decisions, and incremental
//! compiles against fresh ones.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use table::Table;

use crate::oracle;
use crate::support::{Ask, config, host, route};

const HOSTS: [&str; 6] = ["a.com", "b.a.com", "c.b.a.com", "com", "x.org", ""];
const PATTERNS: [&str; 9] =
    ["a.com", "b.a.com", "c.b.a.com", "*.a.com", "?.a.com", "*.com", "?.com", "?.b.a.com", "x.org"];
const REGEXES: [&str; 7] = ["/a.*", "/[ab]/.*", ".*", "/a|/b", "/(?:a|ab)/b", "/ab?/A", "/(?i)A"];

fn path() -> impl Strategy<Value = String> {
    let element = select(vec!["a", "b", "A", "ab", "a%2Fb"]);
    (prop::collection::vec(element, 0..4), any::<bool>()).prop_map(|(elements, slash)| {
        let end = if slash && !elements.is_empty() { "/" } else { "" };
        format!("/{}{end}", elements.join("/"))
    })
}

fn path_match() -> impl Strategy<Value = ir::PathMatch> {
    prop_oneof![
        2 => (path(), any::<bool>())
            .prop_map(|(value, case_sensitive)| ir::PathMatch::Exact { value, case_sensitive }),
        4 => (path(), any::<bool>()).prop_map(|(path, case_sensitive)| {
            let trimmed = path.trim_end_matches('/');
            let value = if trimmed.is_empty() { "/" } else { trimmed }.to_owned();
            ir::PathMatch::Prefix { value, case_sensitive }
        }),
        1 => (select(REGEXES.to_vec()), any::<bool>()).prop_map(|(pattern, case_sensitive)| {
            ir::PathMatch::Regex { pattern: pattern.to_owned(), case_sensitive }
        }),
    ]
}

fn value_match() -> impl Strategy<Value = ir::ValueMatch> {
    prop_oneof![
        select(vec!["1", "2", "1,2", "a b", ""]).prop_map(|text| ir::ValueMatch::Exact(text.to_owned())),
        select(vec!["1", "a", ""]).prop_map(|text| ir::ValueMatch::Prefix(text.to_owned())),
        select(vec!["[12]", "1|2", ".*b"]).prop_map(|text| ir::ValueMatch::Regex(text.to_owned())),
        Just(ir::ValueMatch::Present),
        Just(ir::ValueMatch::Absent),
    ]
}

/// Most matches have few conditions, so that many of them take a request and have to be ranked.
fn few<T: std::fmt::Debug + Clone>(one: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2)].prop_flat_map({
        let one = Arc::new(one);
        move |count| prop::collection::vec(Arc::clone(&one), count)
    })
}

fn names() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "a b"])
}

pub(crate) fn one_match() -> impl Strategy<Value = ir::Match> {
    let headers = (select(vec!["x-a", "x-b"]), value_match())
        .prop_map(|(name, value)| ir::HeaderMatch { name: HeaderName::from_static(name), value });
    let query =
        (names(), value_match()).prop_map(|(name, value)| ir::QueryMatch { name: name.to_owned(), value });
    let cookies = (select(vec!["a", "b"]), value_match())
        .prop_map(|(name, value)| ir::CookieMatch { name: name.into(), value });
    let methods = prop_oneof![
        2 => Just(Vec::new()),
        1 => subsequence(vec![Method::GET, Method::POST, Method::PUT], 1..3),
    ];
    let nets = prop_oneof![
        3 => Just(Vec::new()),
        1 => select(vec!["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"])
            .prop_map(|net| vec![net.parse().expect("a network")]),
    ];
    (path_match(), methods, few(headers), few(query), few(cookies), nets).prop_map(
        |(path, methods, headers, query, cookies, client_cidrs)| ir::Match {
            path,
            methods,
            headers,
            query,
            cookies,
            client_cidrs,
        },
    )
}

fn one_route() -> impl Strategy<Value = ir::Route> {
    let id = (
        select(vec![ir::Kind::Ingress, ir::Kind::GatewayRoute]),
        select(vec!["n", "n-m"]),
        select(vec!["p", "q", "a"]),
        0..2_u32,
    );
    (
        id,
        prop_oneof![Just(None), (1..3_i64).prop_map(Some)],
        subsequence(PATTERNS.to_vec(), 0..3),
        prop::collection::vec(one_match(), 1..4),
        prop::bool::weighted(0.1),
    )
        .prop_map(|((kind, namespace, name, rule), created, hosts, matches, last_resort)| ir::Route {
            id: ir::RouteId {
                object: ir::ObjectRef::new(kind, namespace, name),
                rule: rule.to_string().into(),
            },
            created,
            rule_index: rule,
            hosts: hosts.into_iter().map(host).collect(),
            last_resort,
            ..route("", &[], matches)
        })
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let pair = (names(), select(vec!["1", "2", "1,2", "a+b", "a%20b", ""]))
        .prop_map(|(name, value)| format!("{}={value}", name.replace(' ', "+").replace('a', "%61")));
    let query = prop::option::of(prop::collection::vec(pair, 0..3).prop_map(|pairs| pairs.join("&")));
    let header = (select(vec!["x-a", "x-b"]), select(vec!["1", "2", "a b", ""]));
    let cookie = (select(vec!["a", "b"]), select(vec!["1", "2", "a b"]));
    (
        select(vec![Method::GET, Method::POST, Method::DELETE]),
        select(HOSTS.to_vec()),
        path(),
        query,
        prop::collection::vec(header, 0..3),
        prop::collection::vec(cookie, 0..3),
        select(vec!["10.1.2.3", "192.0.2.1", "2001:db8::1"]),
    )
        .prop_map(|(method, host, path, query, fields, cookies, client)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            for (name, value) in cookies {
                headers
                    .append("cookie", HeaderValue::try_from(format!("z=0; {name}={value}")).expect("text"));
            }
            let client: IpAddr = client.parse().expect("an address");
            Ask { method, host: host.to_owned(), path, query, headers, client, client_is_unsure: false }
        })
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    prop::collection::vec(ask(), 12)
}

fn decided(table: &Table, ask: &Ask) -> Option<(ir::RouteId, usize)> {
    table.decide(&ask.head()).map(|found| (found.route.id().clone(), found.match_index))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_decides_as_the_oracle(routes in prop::collection::vec(one_route(), 0..12), asks in asks()) {
        let config = config(routes);
        let (table, problems) = Table::compile(None, &config);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        for ask in &asks {
            let want = oracle::decide_all(&config, ask).into_iter().next();
            prop_assert_eq!(decided(&table, ask), want, "{:?}", ask);
        }
    }

    #[test]
    fn an_explanation_agrees_with_the_decision(routes in prop::collection::vec(one_route(), 0..12), asks in asks()) {
        let config = config(routes);
        let (table, _) = Table::compile(None, &config);
        for ask in &asks {
            let explained = table.explain(&ask.head());
            let decided = table.decide(&ask.head());
            let winner = decided.map(|found| (found.route.label().to_string(), found.route.id().object.clone()));
            prop_assert_eq!(explained.winner.map(|winner| (winner.route, winner.object)), winner);
            let others = config.routes.len() - usize::from(decided.is_some());
            prop_assert_eq!(explained.losers.len(), others);
            // Who is beaten would have taken the request, and nobody else.
            let beaten = explained.losers.iter().filter(|loser| loser.reason.starts_with("beaten by "));
            let taking: BTreeSet<_> = oracle::decide_all(&config, ask).into_iter().map(|(id, _)| id).collect();
            prop_assert_eq!(beaten.count(), taking.len().saturating_sub(1));
            prop_assert!(explained.losers.iter().all(|loser| !loser.reason.is_empty()));
        }
    }

    #[test]
    fn an_incremental_compile_is_as_good_as_a_fresh_one(
        steps in prop::collection::vec(prop::collection::vec(one_route(), 0..8), 1..5),
        asks in asks(),
    ) {
        let mut table = Table::default();
        let mut routes = std::collections::BTreeMap::new();
        for (step, changes) in steps.into_iter().enumerate() {
            // Each step changes or adds some routes and removes every third of the others.
            let mut place = 0;
            routes.retain(|_, _| { place += 1; (place + step) % 3 != 0 });
            routes.extend(changes.into_iter().map(|route| (route.id.clone(), Arc::new(route))));
            let config = ir::Config { generation: 1, routes: routes.clone(), ..ir::Config::default() };
            let (next, problems) = Table::compile(Some(&table), &config);
            let (fresh, fresh_problems) = Table::compile(None, &config);
            prop_assert_eq!(problems, fresh_problems);
            for ask in &asks {
                prop_assert_eq!(decided(&next, ask), decided(&fresh, ask), "{:?}", ask);
            }
            let mut slots = BTreeSet::new();
            for route in next.compiled_routes() {
                prop_assert!(slots.insert(route.slot()), "a slot is given twice");
                prop_assert!(route.slot().index() < next.slots_end());
                for old in table.compiled_routes().iter().filter(|old| old.id() == route.id()) {
                    prop_assert_eq!(old.slot(), route.slot());
                }
                // Not even a slot that became free right now goes to another route.
                let other = table.compiled_routes().iter().any(|old| old.slot() == route.slot() && old.id() != route.id());
                prop_assert!(!other, "a slot changes hands within one compile");
            }
            table = next;
        }
    }

    #[test]
    fn the_list_is_in_the_order_of_decisions(routes in prop::collection::vec(one_route(), 0..10), asks in asks()) {
        let config = config(routes);
        let (table, _) = Table::compile(None, &config);
        let rows = table.routes();
        let label = |id: &ir::RouteId| (id.object.clone(), id.label());
        for ask in &asks {
            // Of the routes that take a request, the winner has the first row among rows that fit it. Rows of
            // routes that do not take it say nothing.
            let taking: BTreeSet<_> = oracle::decide_all(&config, ask).iter().map(|(id, _)| label(id)).collect();
            let Some(winner) = table.decide(&ask.head()) else { continue };
            if taking.len() < 2 { continue }
            let single = |id: &(ir::ObjectRef, String)| {
                rows.iter().filter(|row| (row.object.clone(), row.route.clone()) == *id).count() == 1
            };
            if !taking.iter().all(single) { continue }
            let first = rows.iter().map(|row| (row.object.clone(), row.route.clone())).find(|id| taking.contains(id));
            prop_assert_eq!(first, Some(label(winner.route.id())));
        }
    }
}
