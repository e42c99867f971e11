//! That unchanged hosts are taken over whole.

use super::*;

fn route(name: &str, hosts: &[&str]) -> ir::Route {
    let object = ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", name);
    let path = ir::PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true };
    let (methods, headers, query) = (Vec::new(), Vec::new(), Vec::new());
    let name = |host: &&str| ir::HostPattern::Exact(ir::HostName::parse(host).expect("a host name"));
    ir::Route {
        id: ir::RouteId { object, rule: "r".into() },
        created: None,
        rule_index: 0,
        hosts: hosts.iter().map(name).collect(),
        matches: vec![ir::Match {
            path,
            methods,
            headers,
            query,
            cookies: Vec::new(),
            client_cidrs: Vec::new(),
        }],
        last_resort: false,
        tls: None,
        cors: None,
        ip_access: ir::IpAccess::default(),
        request_body_bytes_max: None,
        limits: Vec::new(),
        auth: Vec::new(),
        identity_headers: Vec::new(),
        header_edits: ir::HeaderEdits::default(),
        timeouts: ir::Timeouts::default(),
        action: ir::Action::Fail(ir::FailReason::InvalidRule),
        extras: None,
    }
}

#[test]
fn one_changed_route_rebuilds_only_its_hosts() {
    let routes =
        [route("a", &["a.com", "shared.com"]), route("b", &["b.com", "shared.com"]), route("c", &["c.com"])];
    let routes = routes.into_iter().map(|route| (route.id.clone(), Arc::new(route)));
    let mut config = ir::Config { generation: 1, routes: routes.collect(), ..ir::Config::default() };
    let (first, _) = Table::compile(None, &config);
    let changed = ir::Route { created: Some(1), ..route("b", &["b.com", "shared.com", "new.com"]) };
    config.routes.insert(changed.id.clone(), Arc::new(changed));
    let (second, _) = Table::compile(Some(&first), &config);
    let same = |host: &str| match (first.exact_host(host), second.exact_host(host)) {
        (Some(before), Some(after)) => Some(Arc::ptr_eq(before, after)),
        _ => None,
    };
    assert_eq!(["a.com", "c.com"].map(same), [Some(true), Some(true)]);
    assert_eq!(["b.com", "shared.com"].map(same), [Some(false), Some(false)]);
    assert!(first.exact_host("new.com").is_none() && second.exact_host("new.com").is_some());

    let (third, _) = Table::compile(Some(&second), &config);
    for host in ["a.com", "b.com", "c.com", "shared.com", "new.com"] {
        let (before, after) = (second.exact_host(host), third.exact_host(host));
        assert!(before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(before, after)), "{host}");
    }

    config.routes.retain(|id, _| &*id.object.name != "b");
    let (fourth, _) = Table::compile(Some(&third), &config);
    assert!(fourth.exact_host("b.com").is_none() && fourth.exact_host("new.com").is_none());
    assert_eq!(fourth.exact_host("shared.com").map(|table| table.routes().len()), Some(1));
}

#[test]
fn a_table_may_be_shared_by_all_workers() {
    fn shared<T: Send + Sync>() {}
    shared::<Table>();
}
