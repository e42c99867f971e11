//! Which Secrets and ConfigMaps an object names. A source fetches exactly these. Reads none of them.

use std::sync::Arc;

use ir::{Kind, ObjectRef};
use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::{Object, object_ref};

/// The Secrets and ConfigMaps that the translation of this object looks up: sorted, each once.
pub fn named_objects(object: &Object) -> Vec<ObjectRef> {
    let providers = match object {
        Object::GatewayRoute(route) => &route.spec.jwt_providers,
        Object::AuthPolicy(policy) => &policy.spec.jwt_providers,
        Object::Ingress(ingress) => return ingress_secrets(ingress),
        Object::IngressClass(_)
        | Object::RateLimitPolicy(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Secret(_)
        | Object::ConfigMap(_)
        | Object::ReferenceGrant(_) => return Vec::new(),
    };
    let namespace = object.object_ref().namespace;
    let mut named = Vec::new();
    for jwks in providers.iter().map(|provider| &provider.jwks) {
        let references = [(Kind::Secret, &jwks.secret_ref), (Kind::ConfigMap, &jwks.config_map_ref)];
        for (kind, reference) in references {
            if let Some(reference) = reference {
                named.push(ObjectRef::new(kind, namespace.clone(), reference.name.as_str()));
            }
        }
    }
    if let Object::GatewayRoute(route) = object
        && let Some(secret) = route.spec.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref())
    {
        named.push(ObjectRef::new(Kind::Secret, namespace, secret.name.as_str()));
    }
    sorted(named)
}

fn ingress_secrets(ingress: &Ingress) -> Vec<ObjectRef> {
    let namespace = object_ref(Kind::Ingress, ingress.metadata.namespace.as_deref(), "").namespace;
    let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    let names = entries.filter_map(|entry| entry.secret_name.as_deref()).filter(|name| !name.is_empty());
    sorted(names.map(|name| ObjectRef::new(Kind::Secret, Arc::clone(&namespace), name)).collect())
}

fn sorted(mut named: Vec<ObjectRef>) -> Vec<ObjectRef> {
    named.sort_unstable();
    named.dedup();
    named
}
