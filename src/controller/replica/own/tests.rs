//! The name, the content and the pace of a replica's Lease.

use super::*;

fn settings(lease: &str, pod: &str) -> ReplicaSettings {
    ReplicaSettings {
        pod_name: pod.to_owned(),
        namespace: "gw".to_owned(),
        lease_name: lease.to_owned(),
        ..ReplicaSettings::default()
    }
}

#[test]
fn the_name_is_made_of_both_names_and_is_never_too_long() {
    assert_eq!(name(&settings("baribhara-gateway", "gw-0")), "baribhara-gateway-gw-0");
    let long = "a".repeat(200);
    let one = name(&settings(&long, &format!("{}-one", "b".repeat(200))));
    let two = name(&settings(&long, &format!("{}-two", "b".repeat(200))));
    assert_eq!(one.len(), 253);
    assert_ne!(one, two, "what tells them apart is cut off");
    let dotted = name(&settings(&format!("{}.{}", "a".repeat(235), "b".repeat(9)), "pod"));
    assert!(dotted.len() <= 253 && !dotted.contains(".-") && !dotted.contains("--"), "{dotted}");
}

#[test]
fn the_lease_says_whose_it_is_and_how_far_the_replica_is() {
    let marks = serde_json::from_str(r#"{"GatewayRoute": 7}"#).unwrap();
    let progress = Progress { marks, is_ready: true };
    let wall = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
    let with_pod = ReplicaSettings { pod_uid: Some("u".to_owned()), ..settings("l", "p") };
    assert_eq!(
        document(&with_pod, &progress, wall),
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "l-p",
                "namespace": "gw",
                "labels": {"gateway.baribhara.io/replica": "true"},
                "annotations": {
                    "gateway.baribhara.io/lease-name": "l",
                    "gateway.baribhara.io/applied": "{\"GatewayRoute\":7}",
                    "gateway.baribhara.io/ready": "true",
                },
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
            },
            "spec": {
                "holderIdentity": "p",
                "leaseDurationSeconds": 20,
                "renewTime": "2023-11-14T22:13:20.123000Z",
            },
        })
    );
    let without = document(&settings("l", "p"), &Progress::default(), wall);
    assert_eq!(without["metadata"].get("ownerReferences"), None);
    assert_eq!(without["metadata"]["annotations"]["gateway.baribhara.io/ready"], "false");
}

#[test]
fn it_is_written_at_once_then_once_a_second_when_something_changes_and_every_five_seconds_else() {
    let start = Instant::now();
    let mut pace = Pace::default();
    let old = Progress::default();
    let new = Progress { is_ready: true, ..Progress::default() };
    assert_eq!(pace.due(start, &old), start);
    pace.done(start, Some(old.clone()));
    assert_eq!(pace.due(start, &old), start + Duration::from_secs(5));
    assert_eq!(pace.due(start, &new), start + Duration::from_secs(1));
    pace.done(start, None);
    assert_eq!(pace.due(start, &old), start + Duration::from_secs(1), "what failed is tried again soon");
}
