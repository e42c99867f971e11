//! Which addresses an Ingress shows, Service by Service.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn shown(service: &Value) -> Option<Vec<String>> {
    let mut snapshot = Snapshot::default();
    let mut value = service.clone();
    value["metadata"] = json!({"name": "gateway", "namespace": "gw"});
    snapshot.apply(Object::Service(Arc::new(serde_json::from_value(value).unwrap())));
    let settings = ReplicaSettings {
        publish_service: Some(("gw".to_owned(), "gateway".to_owned())),
        ..ReplicaSettings::default()
    };
    texts(Publication::of(&settings).addresses(&snapshot))
}

fn texts(addresses: Option<Vec<IngressLoadBalancerIngress>>) -> Option<Vec<String>> {
    let text = |entry: IngressLoadBalancerIngress| match (entry.ip, entry.hostname) {
        (Some(ip), None) => format!("ip {ip}"),
        (None, Some(name)) => format!("name {name}"),
        other => format!("{other:?}"),
    };
    addresses.map(|addresses| addresses.into_iter().map(text).collect())
}

#[test]
fn a_service_shows_the_best_addresses_it_has() {
    let rows = [
        ("nothing", json!({"spec": {}}), None),
        ("no spec", json!({}), None),
        ("headless", json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}), None),
        (
            "cluster",
            json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}),
            Some(vec!["ip 10.0.0.1"]),
        ),
        (
            "dual stack",
            json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}}),
            Some(vec!["ip 10.0.0.1", "ip fd00::1"]),
        ),
        ("one address alone", json!({"spec": {"clusterIP": "10.0.0.1"}}), Some(vec!["ip 10.0.0.1"])),
        (
            "balancer without an address yet",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}, "status": {"loadBalancer": {}}}),
            Some(vec!["ip 10.0.0.1"]),
        ),
        (
            "balancer",
            json!({
                "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]},
                "status": {"loadBalancer": {"ingress": [
                    {"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}, {"hostname": "lb.example.com"}, {},
                ]}},
            }),
            Some(vec!["ip 192.0.2.1", "name lb.example.com"]),
        ),
        (
            "external addresses of a headless one",
            json!({"spec": {"clusterIPs": ["None"], "externalIPs": ["192.0.2.9"]}}),
            Some(vec!["ip 192.0.2.9"]),
        ),
        (
            "a name",
            json!({"spec": {"type": "ExternalName", "externalName": "gw.example.com"}}),
            Some(vec!["name gw.example.com"]),
        ),
    ];
    for (name, service, want) in rows {
        let want = want.map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(shown(&service), want, "{name}");
    }
}

#[test]
fn given_addresses_come_before_a_service_and_names_are_told_from_addresses() {
    let settings = ReplicaSettings {
        publish_service: Some(("gw".to_owned(), "gateway".to_owned())),
        publish_addresses: vec!["192.0.2.1".to_owned(), "FD00::1".to_owned(), "gw.example.com".to_owned()],
        ..ReplicaSettings::default()
    };
    let shown = texts(Publication::of(&settings).addresses(&Snapshot::default()));
    assert_eq!(shown.unwrap(), ["ip 192.0.2.1", "ip fd00::1", "name gw.example.com"]);
}

#[test]
fn without_a_service_or_an_address_nothing_is_known() {
    let publication = Publication::of(&ReplicaSettings::default());
    assert_eq!(publication, Publication::Nothing);
    assert_eq!(publication.addresses(&Snapshot::default()), None);
    let missing = Publication::Service(ObjectRef::new(Kind::Service, "gw", "gateway"));
    assert_eq!(missing.addresses(&Snapshot::default()), None);
}
