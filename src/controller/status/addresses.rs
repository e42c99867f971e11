//! The addresses that every Ingress of ours shows in its status. Talks to nobody.

use std::net::IpAddr;

use ir::{Kind, ObjectRef};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use translate::{Object, Snapshot};

use crate::replica::ReplicaSettings;

#[cfg(test)]
mod tests;

/// Where the addresses come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Publication {
    /// Ingresses show none.
    Nothing,
    /// Those of this Service.
    Service(ObjectRef),
    /// These.
    Addresses(Vec<IngressLoadBalancerIngress>),
}

impl Publication {
    /// Addresses that are given take the place of a Service's.
    pub(super) fn of(settings: &ReplicaSettings) -> Self {
        if !settings.publish_addresses.is_empty() {
            return Self::Addresses(settings.publish_addresses.iter().map(|text| entry(text)).collect());
        }
        match &settings.publish_service {
            Some((namespace, name)) => {
                Self::Service(ObjectRef::new(Kind::Service, namespace.as_str(), name.as_str()))
            }
            None => Self::Nothing,
        }
    }

    /// `None`: nothing is known, so what an Ingress shows stays.
    pub(super) fn addresses(&self, snapshot: &Snapshot) -> Option<Vec<IngressLoadBalancerIngress>> {
        match self {
            Self::Nothing => None,
            Self::Addresses(addresses) => Some(addresses.clone()),
            Self::Service(id) => match snapshot.object(id)? {
                Object::Service(service) => {
                    Some(of_service(&service)).filter(|addresses| !addresses.is_empty())
                }
                Object::Ingress(..)
                | Object::IngressClass(_)
                | Object::GatewayRoute(_)
                | Object::RateLimitPolicy(_)
                | Object::AuthPolicy(_)
                | Object::EndpointSlice(_)
                | Object::Secret(_)
                | Object::ConfigMap(_)
                | Object::ReferenceGrant(_) => None,
            },
        }
    }
}

/// The load balancer's, else those inside the cluster, else those that others lead here.
fn of_service(service: &Service) -> Vec<IngressLoadBalancerIngress> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let balanced: Vec<_> = entries
        .iter()
        .map(|entry| IngressLoadBalancerIngress {
            ip: entry.ip.clone(),
            hostname: entry.hostname.clone(),
            ports: None,
        })
        .filter(|entry| entry.ip.is_some() || entry.hostname.is_some())
        .collect();
    if !balanced.is_empty() {
        return balanced;
    }
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.iter().map(|name| entry(name)).collect();
    }
    let inside: Vec<_> = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter(|address| address.parse::<IpAddr>().is_ok())
        .map(|address| entry(address))
        .collect();
    if !inside.is_empty() {
        return inside;
    }
    // Old API servers fill only this one. A headless Service has the word None here.
    let first = spec.cluster_ip.iter().filter(|address| address.parse::<IpAddr>().is_ok());
    let inside: Vec<_> = first.map(|address| entry(address)).collect();
    if !inside.is_empty() {
        return inside;
    }
    spec.external_ips.iter().flatten().map(|address| entry(address)).collect()
}

/// An address as such, anything else as a name.
fn entry(text: &str) -> IngressLoadBalancerIngress {
    match text.parse::<IpAddr>() {
        Ok(address) => IngressLoadBalancerIngress {
            ip: Some(address.to_string()),
            ..IngressLoadBalancerIngress::default()
        },
        Err(_) => IngressLoadBalancerIngress {
            hostname: Some(text.to_owned()),
            ..IngressLoadBalancerIngress::default()
        },
    }
}
