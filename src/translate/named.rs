//! Which Secrets and ConfigMaps an object names. A source fetches exactly these. Reads none of them.

use ir::{Kind, ObjectRef};

use crate::snapshot::Object;

/// The Secrets and ConfigMaps that the translation of this object looks up: sorted, each once.
pub fn named_objects(object: &Object) -> Vec<ObjectRef> {
    let providers = match object {
        Object::GatewayRoute(route) => &route.spec.jwt_providers,
        Object::AuthPolicy(policy) => &policy.spec.jwt_providers,
        // `spec.tls[].secretName` of an Ingress is left out as long as nothing serves certificates.
        Object::Ingress(_)
        | Object::IngressClass(_)
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
    named.sort_unstable();
    named.dedup();
    named
}
