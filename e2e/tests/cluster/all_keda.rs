//! Autoscaling by KEDA, which takes a quarter of an hour to build: this file's tests run only with `make e2e-all`.

use e2e::cluster_release::{NAME, NAMESPACE, Release};
use e2e::cluster_tools::{cluster, kubectl, try_kubectl};

use crate::scaling::up_and_down;

#[test]
fn keda_scales_on_a_query_of_prometheus_up_and_down_without_a_lost_request() {
    cluster(&["addon", "coredns", "prometheus", "keda"]);
    let release = Release::with_values("keda.yaml", 0);
    release.settled(1);
    up_and_down("scaling-keda", 1, 1500, "by KEDA on a query");
    // The next tests set their own number: KEDA must be out of their way.
    Release::shared();
    assert!(
        try_kubectl(&["-n", NAMESPACE, "get", "scaledobject", NAME]).is_err(),
        "the ScaledObject is still there"
    );
    let hpas = kubectl(&["-n", NAMESPACE, "get", "hpa", "-o", "name"]);
    assert_eq!(hpas, "", "an autoscaler is still there");
}
