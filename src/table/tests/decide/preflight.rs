//! Which route answers a CORS preflight.

use http::Method;
use ir::ValueMatch;

use crate::support::*;

fn with_cors(route: ir::Route) -> ir::Route {
    ir::Route { cors: Some(cors()), ..route }
}

#[test]
fn a_preflight_goes_to_the_route_of_the_request_that_it_asks_for() {
    let put = || methods(prefix("/"), &[Method::PUT]);
    let tagged = || with_header(prefix("/"), "x-v", ValueMatch::Exact("2".to_owned()));
    let cases = [
        ("the requested method counts", vec![with_cors(route("put", &[], vec![put()]))], Some("put")),
        (
            "a route of another method is passed over",
            vec![
                with_cors(route("get", &[], vec![methods(prefix("/"), &[Method::GET])])),
                with_cors(route("put", &[], vec![put()])),
            ],
            Some("put"),
        ),
        ("headers are not known yet", vec![with_cors(route("tagged", &[], vec![tagged()]))], Some("tagged")),
        (
            "cookies are not known yet",
            vec![with_cors(route("c", &[], vec![with_cookie(prefix("/"), "c", ValueMatch::Present)]))],
            Some("c"),
        ),
        (
            "a possible route without CORS gives way to the certain one with it",
            vec![route("tagged", &[], vec![tagged()]), with_cors(route("plain", &[], vec![prefix("/")]))],
            Some("plain"),
        ),
        (
            "queries are known",
            vec![with_cors(route("q", &[], vec![with_query(prefix("/"), "q", ValueMatch::Present)]))],
            None,
        ),
        ("no CORS anywhere: an OPTIONS request", vec![route("any", &[], vec![prefix("/")])], Some("any")),
        (
            "an OPTIONS route without CORS",
            vec![
                route("options", &[], vec![methods(prefix("/"), &[Method::OPTIONS])]),
                route("put", &[], vec![put()]),
            ],
            Some("options"),
        ),
        ("nothing takes OPTIONS", vec![route("put", &[], vec![put()])], None),
        (
            "nothing takes the requested method, so CORS of an OPTIONS route refuses it",
            vec![with_cors(route("o", &[], vec![methods(prefix("/"), &[Method::OPTIONS, Method::GET])]))],
            Some("o"),
        ),
        (
            "a less specific route does not answer for one without CORS",
            vec![
                route("admin", &[], vec![methods(prefix("/x"), &[Method::PUT])]),
                with_cors(route("open", &[], vec![prefix("/")])),
            ],
            None,
        ),
        (
            "a less specific host does not either",
            vec![route("admin", &["h"], vec![prefix("/")]), with_cors(route("open", &[], vec![prefix("/")]))],
            Some("admin"),
        ),
        ("expressions are asked too", vec![with_cors(route("re", &[], vec![regex("/y.*")]))], None),
    ];
    for (name, routes, want) in cases {
        let table = table(routes);
        let ask = get("h/x").method(Method::OPTIONS).header("origin", "https://a.com");
        let ask = ask.header("access-control-request-method", "PUT");
        let found = table.decide(&ask.head()).map(|found| found.route.label().to_string());
        let name_of = |label: &str| label.split('/').nth(1).map(str::to_owned);
        assert_eq!(found.as_deref().and_then(name_of).as_deref(), want, "{name}");
        let explained = table.explain(&ask.head());
        assert_eq!(explained.winner.map(|winner| winner.route), found, "{name}: explain says the same");
    }
}
