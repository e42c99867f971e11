//! That routes share what is equal, and nothing else.

use ir::{Trust, UpstreamVersion};

use super::*;

fn wanted(version: UpstreamVersion, server_name: &str) -> UpstreamProtocol {
    let tls = UpstreamTls {
        server_name: server_name.into(),
        subject_alt_names: Vec::new(),
        trust: Trust::Anyone,
        client_certificate: None,
    };
    UpstreamProtocol { version, tls: Some(Arc::new(tls)) }
}

#[test]
fn what_is_equal_is_made_once_and_forgotten_when_no_route_holds_it() {
    let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
    let mut protocols = Protocols::default();
    let first = protocols.get(&id, &wanted(UpstreamVersion::Http2, "a.example"));
    let key = first.key;
    let mut key_of = |version, name| protocols.get(&id, &wanted(version, name)).key;
    assert_eq!(key_of(UpstreamVersion::Http2, "a.example"), key);
    assert_ne!(key_of(UpstreamVersion::Http1, "a.example"), key, "another ALPN");
    assert_ne!(key_of(UpstreamVersion::Http2, "b.example"), key, "another name");
    protocols.forget_unused();
    assert_eq!(protocols.secured.values().map(Vec::len).sum::<usize>(), 1);
    drop(first);
    protocols.forget_unused();
    assert!(protocols.secured.is_empty());
}

#[test]
fn plain_protocols_are_always_the_same() {
    let id = BackendId::Service { namespace: "n".into(), name: "s".into(), port: 80 };
    let mut protocols = Protocols::default();
    let mut key_of = |version| protocols.get(&id, &UpstreamProtocol { version, tls: None }).key;
    assert_eq!(key_of(UpstreamVersion::Http1), key_of(UpstreamVersion::Http1));
    assert_ne!(key_of(UpstreamVersion::Http1), key_of(UpstreamVersion::Http2));
}
