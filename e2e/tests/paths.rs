//! One canonical path and host, in every stage. The names PN01 … are those of the catalogue of attacks.

use e2e::backend::Backend;
use e2e::client::{Connection, Request};
use e2e::folder::route;

use crate::site::{HOST, Site, address, site};

/// `/admin` and all below is answered `admin` by the gateway; everything else goes to the backend.
fn guarded(backend: &Backend) -> Site {
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- name: admin
  matches: [{{path: {{type: PathPrefix, value: /admin}}}}]
  filters: [{{type: DirectResponse, directResponse: {{statusCode: 403, contentType: text/plain, body: admin}}}}]
- name: rest
  backendRefs: [{}]",
        address(backend.address)
    );
    site(&route("shop", &spec))
}

/// What became of a path.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The rule `admin` took it.
    Admin,
    /// The backend saw this path.
    Sent(&'static str),
    /// Refused with 400.
    Refused,
}

fn assert_fates(cases: &[(&str, Fate)]) {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    for (path, want) in cases {
        let before = backend.arrived().len();
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(&Request::get(HOST, path).bytes()).unwrap();
        let response = connection.response("GET").unwrap();
        let arrived = backend.arrived();
        let sent = arrived.get(before).map(|arrived| arrived.target().to_owned());
        match want {
            Fate::Admin => {
                assert_eq!((response.status, response.text().as_str(), sent), (403, "admin", None), "{path}");
            }
            Fate::Sent(target) => {
                assert_eq!(response.status, 200, "{path}: {}", response.text());
                assert_eq!(sent.as_deref(), Some(*target), "{path}");
            }
            Fate::Refused => assert_eq!((response.status, sent), (400, None), "{path}"),
        }
    }
}

#[test]
fn pn01_dot_segments_are_resolved_before_anything_looks_at_the_path() {
    assert_fates(&[
        ("/admin/../public", Fate::Sent("/public")),
        ("/public/../admin", Fate::Admin),
        ("/public/%2e%2e/admin", Fate::Admin),
        ("/%2e%2e/admin", Fate::Admin),
        ("/.%2e/admin", Fate::Admin),
        ("/%2E./admin/x", Fate::Admin),
        ("/../../../admin", Fate::Admin),
        ("/public/..;/admin", Fate::Refused),
    ]);
}

#[test]
fn pn02_double_slashes_and_single_dots_are_merged() {
    assert_fates(&[
        ("//admin", Fate::Admin),
        ("/./admin", Fate::Admin),
        ("///admin//x", Fate::Admin),
        ("/a//b/./c", Fate::Sent("/a/b/c")),
    ]);
}

#[test]
fn pn03_encoded_slashes_stay_and_controls_and_backslashes_are_refused() {
    assert_fates(&[
        ("/admin%2fx", Fate::Sent("/admin%2Fx")),
        ("/public%2f..%2fadmin", Fate::Sent("/public%2F..%2Fadmin")),
        ("/a%5cadmin", Fate::Refused),
        ("/a\\admin", Fate::Refused),
        ("/a%00", Fate::Refused),
        ("/a%0d%0aX: y", Fate::Refused),
        ("/a%0a", Fate::Refused),
        ("/a%7f", Fate::Refused),
    ]);
}

#[test]
fn pn04_prefixes_match_whole_segments_with_regard_to_case() {
    assert_fates(&[
        ("/admin", Fate::Admin),
        ("/admin/", Fate::Admin),
        ("/%61dmin", Fate::Admin),
        ("/adminx", Fate::Sent("/adminx")),
        ("/ADMIN", Fate::Sent("/ADMIN")),
        ("/admin.", Fate::Sent("/admin.")),
        ("/admin;x=1", Fate::Sent("/admin;x=1")),
        ("/admin%3bx", Fate::Sent("/admin%3Bx")),
    ]);
}

#[test]
fn pn05_escapes_are_decoded_once_and_bad_ones_are_refused() {
    assert_fates(&[
        ("/x/%252e%252e/admin", Fate::Sent("/x/%252e%252e/admin")),
        ("/%c0%ae%c0%ae/admin", Fate::Refused),
        ("/%zz", Fate::Refused),
        ("/%", Fate::Refused),
        ("/%e2%82", Fate::Refused),
        ("/%e2%82%ac", Fate::Sent("/%E2%82%AC")),
    ]);
}

#[test]
fn pn07_what_a_rewrite_makes_is_made_canonical_again() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- name: regex
  matches: [{{path: {{type: PathPrefix, value: /re}}}}]
  filters:
  - type: URLRewrite
    urlRewrite: {{path: {{type: ReplaceRegex, regex: \"^/re/a-(.*)$\", substitution: \"/data/${{1}}\"}}}}
  backendRefs: [{to}]
- name: strip
  matches: [{{path: {{type: PathPrefix, value: /strip}}}}]
  filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}}}]
  backendRefs: [{to}]",
        to = address(backend.address)
    );
    let site = site(&route("shop", &spec));
    let cases = [
        ("/re/a-x", "/data/x"),
        ("/re/a-../secret", "/secret"),
        ("/re/a-/x", "/data/x"),
        ("/strip/x", "/x"),
        ("/strip/", "/"),
        ("/strip", "/"),
        ("/strip//x", "/x"),
        ("/strip/%2e%2e/re/a-y", "/data/y"),
    ];
    for (path, want) in cases {
        assert_eq!(site.gateway.get(HOST, path).status, 200, "{path}");
        assert_eq!(backend.arrived().pop().unwrap().target(), want, "{path}");
    }
}

#[test]
fn pn08_hosts_are_folded_before_they_are_matched() {
    let backend = Backend::named("ok");
    let mut yaml = String::new();
    // Many hosts beside, so that a large table goes the same way as a small one.
    for number in 0..120 {
        yaml += &route(
            &format!("other-{number}"),
            &format!(
                "hostnames: [h{number}.example.com]\nrules: [{{name: a, backendRefs: [{}]}}]",
                address(backend.address)
            ),
        );
    }
    let site = site(
        &(yaml
            + &route(
                "shop",
                &format!(
                    "hostnames: [{HOST}, \"*.wild.example.com\"]\nrules: [{{name: a, backendRefs: [{}]}}]",
                    address(backend.address)
                ),
            )),
    );
    let cases = [
        ("shop.example.com", 200),
        ("SHOP.Example.COM", 200),
        ("shop.example.com.", 200),
        ("shop.example.com:443", 200),
        ("SHOP.example.com.:8080", 200),
        ("h77.EXAMPLE.com", 200),
        ("a.wild.example.com", 200),
        ("A.B.Wild.example.com:1", 200),
        ("wild.example.com", 404),
        ("shop.example.org", 404),
        ("xshop.example.com", 404),
        ("shop.example.com:99999", 400),
        ("shop..example.com", 400),
    ];
    for (host, status) in cases {
        assert_eq!(site.gateway.get(host, "/").status, status, "{host}");
    }
}

#[test]
fn the_canonical_path_is_what_the_access_log_says() {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    site.gateway.get(HOST, "/x/../log%65d//here?q=1");
    let line = site.gateway.access_line("the request in the log", |line| line["path"] == "/loged/here");
    assert_eq!(line["status"], 200);
}
