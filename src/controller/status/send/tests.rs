//! What is applied, and what an answer means.

use std::borrow::Cow;

use api::Status;
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;

use super::super::target::Target;
use super::*;

fn write(kind: Kind, target: Target, said: Said<'static>) -> Write {
    Write { id: ObjectRef::new(kind, "shop", "x"), uid: Some("u".to_owned()), target, said, only_at: None }
}

fn nothing() -> Said<'static> {
    Said::Conditions(Cow::Owned(Status::default()))
}

#[test]
fn only_the_status_of_that_very_object_is_applied() {
    let resource = resource(Kind::GatewayRoute).unwrap();
    let mut write = write(Kind::GatewayRoute, Target::NoConditions, nothing());
    let want = |metadata: Value| json!({"apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "GatewayRoute", "metadata": metadata});
    let metadata = json!({"name": "x", "namespace": "shop", "uid": "u"});
    assert_eq!(document(&write, &resource, &nothing()), want(metadata));
    write.only_at = Some(7);
    let metadata = json!({"name": "x", "namespace": "shop", "uid": "u", "resourceVersion": "7"});
    assert_eq!(document(&write, &resource, &nothing()), want(metadata));
}

#[test]
fn addresses_stand_where_an_ingress_has_them() {
    let address = IngressLoadBalancerIngress { ip: Some("10.0.0.1".to_owned()), ..Default::default() };
    let resource = resource(Kind::Ingress).unwrap();
    let write =
        write(Kind::Ingress, Target::Addresses(vec![address.clone()]), Said::Addresses(Cow::default()));
    let body = document(&write, &resource, &Said::Addresses(Cow::Owned(vec![address])));
    assert_eq!(body["apiVersion"], "networking.k8s.io/v1");
    assert_eq!(body["status"], json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}));
    let body = document(&write, &resource, &Said::Addresses(Cow::default()));
    assert_eq!(body.get("status"), None);
}

#[test]
fn kinds_without_a_status_of_ours_are_never_written() {
    let written = Kind::ALL.into_iter().filter(|kind| resource(*kind).is_some());
    let want = [Kind::Ingress, Kind::GatewayRoute, Kind::RateLimitPolicy, Kind::AuthPolicy];
    assert_eq!(written.collect::<Vec<_>>(), want);
}

#[test]
fn an_answer_says_whether_to_try_again_and_when() {
    let id = ObjectRef::new(Kind::GatewayRoute, "shop", "x");
    let mut sender = Sender::default();
    for (code, want) in [
        (404, "Outdated"),
        (409, "Outdated"),
        (403, "Refused"),
        (422, "Refused"),
        (429, "Failed"),
        (500, "Failed"),
        (504, "Failed"),
    ] {
        let status = kube::core::Status { code, ..Default::default() };
        let outcome = sender.judge(&id, (nothing(), Some(Err(kube::Error::Api(Box::new(status))))));
        assert_eq!(format!("{outcome:?}"), want, "{code}");
    }
    assert!(matches!(sender.judge(&id, (nothing(), None)), Outcome::Failed));
    assert_eq!(sender.refused.len(), 2, "each complaint is remembered");
    let mut object = DynamicObject::new("x", &resource(Kind::GatewayRoute).unwrap());
    object.metadata.resource_version = Some("9".to_owned());
    let outcome = sender.judge(&id, (nothing(), Some(Ok(object))));
    assert!(matches!(outcome, Outcome::Written { version: Some(9), .. }));
    assert!(sender.refused.is_empty(), "it works again: the next refusal is news");
}
