//! Which requests a limit counts: the same as a route with its match would take.

use ir::{LimitWhen, Match, PathMatch};
use proptest::prelude::*;
use table::When;

use crate::property::{ask, one_match};
use crate::support::{Ask, get, on, route, table, with_client};

fn when(matches: Vec<Match>, except: &[&str]) -> When {
    let except = except.iter().map(|net| net.parse().unwrap()).collect();
    When::new(Some(&LimitWhen { matches, except, claims: Vec::new() }))
}

fn prefix(value: &str) -> Match {
    on(PathMatch::Prefix { value: value.to_owned(), case_sensitive: true })
}

fn holds(when: &When, ask: &Ask) -> bool {
    when.holds(&ask.head())
}

#[test]
fn no_conditions_take_every_request() {
    assert!(When::new(None).is_always());
    assert!(holds(&When::new(None), &get("x.org/a")));
}

#[test]
fn excepted_clients_are_not_counted_whatever_else_holds() {
    let when = when(vec![prefix("/")], &["10.0.0.0/8", "2001:db8::/32"]);
    assert!(!when.is_always());
    assert!(!holds(&when, &get("x.org/a").client("10.1.2.3")));
    assert!(!holds(&when, &get("x.org/a").client("2001:db8::1")));
    assert!(holds(&when, &get("x.org/a").client("192.0.2.1")));
}

#[test]
fn a_client_that_cannot_be_told_is_in_no_network_that_takes_it_out_and_in_each_that_limits_it() {
    let ask = || get("x.org/a").client("10.1.2.3").unsure();
    assert!(holds(&when(vec![prefix("/")], &["10.0.0.0/8"]), &ask()));
    for net in ["10.0.0.0/8", "192.0.2.0/24"] {
        assert!(holds(&when(vec![with_client(prefix("/"), net)], &[]), &ask()), "{net}");
        assert!(!holds(&when(vec![with_client(prefix("/b"), net)], &[]), &ask()), "{net}");
        let table = table(vec![route("only", &["x.org"], vec![with_client(prefix("/"), net)])]);
        assert!(
            table.decide(&ask().head()).is_none(),
            "a route takes nobody by an address that is unsure: {net}"
        );
    }
}

#[test]
fn an_expression_that_cannot_be_compiled_counts_every_request() {
    let broken = on(PathMatch::Regex { pattern: "(".to_owned(), case_sensitive: true });
    assert!(holds(&when(vec![broken], &[]), &get("x.org/a")));
}

proptest! {
    /// The index of the routing table and a limit's conditions are two ways to ask the same.
    #[test]
    fn a_limit_counts_what_a_route_with_its_match_would_take(one in one_match(), ask in ask()) {
        let ask = Ask { host: "x.org".to_owned(), ..ask };
        let table = table(vec![route("only", &["x.org"], vec![one.clone()])]);
        // A preflight is decided by what it asks for; a limit counts it as the OPTIONS request that it is.
        prop_assume!(ask.head().preflight().is_none());
        prop_assert_eq!(holds(&when(vec![one], &[]), &ask), table.decide(&ask.head()).is_some());
    }
}
