//! Which of the patterns that cover a name counts.

use ir::TlsVersion;

use super::*;
use crate::tls::builder::{TlsBuilder, TlsRuntime};
use crate::tls::testing::{Issued, host, tls};

/// A store in which each pattern stands for itself: found again by the address of its key.
fn store(patterns: &[&str]) -> (Store, Vec<Arc<Loaded>>) {
    let key = Issued::of(&["any.example"]);
    let make = || {
        let chain_pem = key.chain_pem.concat();
        Arc::new(Loaded::new(chain_pem.as_bytes(), key.key_pem.as_bytes()).unwrap())
    };
    let mut keys = vec![make()];
    let mut store = Store::new(Some(Arc::clone(&keys[0])));
    for pattern in patterns {
        let key = make();
        store.insert(&host(pattern), Some(Arc::clone(&key)), 0);
        keys.push(key);
    }
    (store, keys)
}

#[test]
fn the_most_specific_pattern_counts() {
    let patterns =
        ["a.example.com", "?.example.com", "*.example.com", "*.b.example.com", "?.only.com", "10.0.0.1"];
    let (store, keys) = store(&patterns);
    let deep = format!("{}example.com", "x.".repeat(121));
    for (name, want) in [
        (Some("a.example.com"), "a.example.com"),
        (Some("b.example.com"), "?.example.com"),
        (Some("x.a.example.com"), "*.example.com"),
        (Some("x.b.example.com"), "*.b.example.com"),
        (Some("y.x.b.example.com"), "*.b.example.com"),
        (Some(&deep), "*.example.com"),
        (Some("x.only.com"), "?.only.com"),
        (Some("y.x.only.com"), "default"),
        (Some("only.com"), "default"),
        (Some("example.com"), "default"),
        (Some("xexample.com"), "default"),
        (Some("10.0.0.1"), "default"),
        (Some("com"), "default"),
        (Some(""), "default"),
        (None, "default"),
    ] {
        let found = store.find(name).certificate.as_ref().unwrap();
        let index = keys.iter().position(|key| Arc::ptr_eq(key, found)).unwrap();
        let got = if index == 0 { "default" } else { patterns[index - 1] };
        assert_eq!(got, want, "{name:?}");
    }
}

#[test]
fn names_are_folded_as_the_router_folds_them() {
    for (name, want) in [
        ("a.example", Some("a.example")),
        ("A.Example", Some("a.example")),
        ("a.example.", Some("a.example")),
        ("10.0.0.1", None),
        ("[::1]", None),
        ("a..example", None),
        ("a b", None),
        ("", None),
    ] {
        assert_eq!(fold_server_name(name).as_deref(), want, "{name:?}");
    }
}

fn two_hosts_of_one_certificate() -> Arc<TlsRuntime> {
    let (one, two) = (Issued::of(&["a.example", "b.example"]), Issued::of(&["c.example"]));
    let (one, copy, two) = (one.secret("one"), one.secret("copy"), two.secret("two"));
    let hosts = [
        ("a.example", Some(&one), TlsVersion::V1_2),
        ("b.example", Some(&one), TlsVersion::V1_2),
        ("copy.example", Some(&copy), TlsVersion::V1_2),
        ("strict.example", Some(&one), TlsVersion::V1_3),
        ("c.example", Some(&two), TlsVersion::V1_2),
        ("none.example", None, TlsVersion::V1_2),
    ];
    TlsBuilder::default().build(&tls(&hosts, Some(&two)))
}

#[test]
fn a_connection_carries_requests_for_hosts_with_the_same_certificate_and_policy() {
    let runtime = two_hosts_of_one_certificate();
    for (server_name, host, want) in [
        (Some("a.example"), "a.example", true),
        (Some("a.example"), "b.example", true),
        (Some("a.example"), "copy.example", true),
        (Some("a.example"), "strict.example", false),
        (Some("a.example"), "c.example", false),
        (Some("a.example"), "unknown.example", false),
        (Some("a.example"), "", false),
        (Some("c.example"), "unknown.example", true),
        (Some("unknown.example"), "other.example", true),
        (Some("none.example"), "c.example", true),
        (None, "c.example", true),
        (None, "10.0.0.1", true),
        (None, "", true),
        (None, "a.example", false),
    ] {
        assert_eq!(runtime.serves_alike(server_name, host), want, "{server_name:?} {host:?}");
    }
}
