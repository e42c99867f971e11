//! The tables of the Gateway API for path rewrites and redirects, and PN07.

use super::*;

fn prepared(rewrite: &PathRewrite) -> PreparedPath {
    PreparedPath::new(rewrite).expect("valid rewrite")
}

#[test]
fn a_prefix_is_replaced_by_elements() {
    let cases = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar/", "/foo", "/", "/bar/"),
        ("/", "", "/xyz", "/xyz/"),
        ("/bar", "", "/xyz", "/xyz/bar"),
        ("/bar", "", "/", "/bar"),
        ("/foo/bar", "/foo", "/a/../b//c", "/b/c/bar"),
        ("/foo/a%2Fb", "/foo", "/x", "/x/a%2Fb"),
    ];
    for (path, prefix, replacement, want) in cases {
        let rewrite = prepared(&PathRewrite::ReplacePrefixMatch(replacement.to_owned()));
        let got = rewrite.apply(path, prefix.len());
        assert_eq!(got.as_deref(), Ok(want), "{path}: {prefix} -> {replacement}");
    }
}

#[test]
fn a_full_path_is_replaced() {
    let rewrite = prepared(&PathRewrite::ReplaceFullPath("/new//place/".to_owned()));
    assert_eq!(rewrite.apply("/old", 1).as_deref(), Ok("/new/place/"));
}

#[test]
fn the_first_match_of_an_expression_is_replaced() {
    let cases = [
        ("^/api/(.*)$", "/${1}", "/api/v1/x", Ok("/v1/x")),
        ("a", "b", "/a/a", Ok("/b/a")),
        ("^/(\\w+)/(\\w+)", "/${2}/$1", "/x/y/z", Ok("/y/x/z")),
        ("^/nothing", "/x", "/a", Ok("/a")),
        ("^/(.*)", "$1", "/a", Ok("/a")),
        ("^/strip/(.*)", "/x/${1}", "/strip/", Ok("/x/")),
        ("^/up/", "/../", "/up/a", Ok("/a")),
        ("^/join(.*)", "/a/${1}", "/join/b", Ok("/a/b")),
        ("^/bad", "/a\\", "/bad", Err(PathError::Backslash)),
        ("^/query", "/a?b", "/query", Err(PathError::Delimiter)),
        ("^/zero", "/%00", "/zero", Err(PathError::ControlCharacter)),
        ("^(.*)X(.*)$", "$1$2", "/.X./admin", Ok("/admin")),
    ];
    for (regex, substitution, path, want) in cases {
        let rewrite =
            PathRewrite::ReplaceRegex { regex: regex.to_owned(), substitution: substitution.to_owned() };
        assert_eq!(prepared(&rewrite).apply(path, 0).as_deref(), want.as_ref().copied(), "{regex}: {path}");
    }
}

#[test]
fn a_bad_rewrite_is_named_when_compiled() {
    for rewrite in [
        PathRewrite::ReplaceFullPath("no-slash".to_owned()),
        PathRewrite::ReplacePrefixMatch("/a?b=c".to_owned()),
        PathRewrite::ReplaceRegex { regex: "(".to_owned(), substitution: String::new() },
    ] {
        assert!(PreparedPath::new(&rewrite).is_err(), "{rewrite:?}");
    }
}

fn redirect(scheme: Option<Scheme>, hostname: Option<&str>, port: Option<u16>) -> ir::Redirect {
    let hostname = hostname.map(|name| ir::HostName::parse(name).expect("valid host"));
    ir::Redirect { scheme, hostname, port, path: None, status: 302 }
}

#[test]
fn the_port_of_a_redirect_follows_the_gateway_api() {
    use Scheme::{Http, Https};
    let cases = [
        ("nothing named, well-known", redirect(None, None, None), Http, 80, "http://a.com/p?q=1"),
        ("nothing named, other port", redirect(None, None, None), Http, 8080, "http://a.com:8080/p?q=1"),
        ("443 is not well-known for http", redirect(None, None, None), Http, 443, "http://a.com:443/p?q=1"),
        ("scheme named", redirect(Some(Https), None, None), Http, 8080, "https://a.com/p?q=1"),
        ("scheme and port", redirect(Some(Https), None, Some(8443)), Http, 80, "https://a.com:8443/p?q=1"),
        ("scheme and its port", redirect(Some(Https), None, Some(443)), Http, 80, "https://a.com/p?q=1"),
        ("port only", redirect(None, None, Some(8080)), Http, 80, "http://a.com:8080/p?q=1"),
        ("port 80 left out", redirect(None, None, Some(80)), Http, 8080, "http://a.com/p?q=1"),
        ("host only, https listener", redirect(None, Some("b.org"), None), Https, 443, "https://b.org/p?q=1"),
        (
            "host only, other listener",
            redirect(None, Some("b.org"), None),
            Https,
            8443,
            "https://b.org:8443/p?q=1",
        ),
    ];
    for (name, redirect, scheme, port, want) in cases {
        let prepared = PreparedRedirect::new(&redirect).expect(name);
        let from = RedirectFrom {
            scheme,
            host: "a.com",
            port,
            path: "/p",
            query: Some("q=1"),
            matched_prefix_bytes: 0,
        };
        assert_eq!(prepared.location(&from).expect(name), want, "{name}");
    }
}

#[test]
fn a_redirect_rewrites_the_path_and_keeps_the_query() {
    let path = Some(PathRewrite::ReplacePrefixMatch("/new".to_owned()));
    let prepared =
        PreparedRedirect::new(&ir::Redirect { path, ..redirect(None, None, None) }).expect("valid");
    let from = RedirectFrom {
        scheme: Scheme::Http,
        host: "[::1]",
        port: 80,
        path: "/old/x",
        query: Some("a=é b#"),
        matched_prefix_bytes: 4,
    };
    assert_eq!(prepared.location(&from).expect("a place"), "http://[::1]/new/x?a=%C3%A9%20b%23");
    let nowhere = RedirectFrom { host: "", query: None, ..from };
    assert_eq!(prepared.location(&nowhere), Err(RedirectError::NoHost));
}
