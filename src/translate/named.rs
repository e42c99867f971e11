//! Which Secrets and ConfigMaps an object names. A source fetches exactly these. Reads none of them.

use std::sync::Arc;

use ir::{Kind, ObjectRef};
use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::{Object, object_ref};
use crate::{annotation, authority, basic, client_auth};

/// The Secrets and ConfigMaps that the translation of this object looks up: sorted, each once.
pub fn named_objects(object: &Object) -> Vec<ObjectRef> {
    let providers = match object {
        Object::GatewayRoute(route) => &route.spec.jwt_providers,
        Object::AuthPolicy(policy) => &policy.spec.jwt_providers,
        Object::Ingress(ingress, _) => return ingress_names(ingress),
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
    for basic in auths(object).filter_map(|auth| auth.basic.as_ref()) {
        named.push(ObjectRef::new(Kind::Secret, Arc::clone(&namespace), basic.secret_ref.name.as_str()));
    }
    for tls in auths(object).filter_map(|auth| auth.external.as_ref()?.backend_ref.tls.as_ref()) {
        named.extend(tls_names(tls, &namespace));
    }
    for jwks in providers.iter().map(|provider| &provider.jwks) {
        let ca = jwks.remote.as_ref().and_then(|remote| remote.ca_ref.as_ref());
        named.extend(ca.map(|ca| authority::source(ca, &namespace)));
        let references = [(Kind::Secret, &jwks.secret_ref), (Kind::ConfigMap, &jwks.config_map_ref)];
        for (kind, reference) in references {
            if let Some(reference) = reference {
                named.push(ObjectRef::new(kind, namespace.clone(), reference.name.as_str()));
            }
        }
    }
    if let Object::GatewayRoute(route) = object {
        if let Some(secret) = route.spec.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref()) {
            named.push(ObjectRef::new(Kind::Secret, Arc::clone(&namespace), secret.name.as_str()));
        }
        let clients = route.spec.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        named.extend(clients.map(|clients| authority::source(&clients.ca_ref, &namespace)));
        let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
        for tls in backends.filter_map(|backend| backend.tls.as_ref()) {
            named.extend(tls_names(tls, &namespace));
        }
    }
    sorted(named)
}

/// What TLS towards a backend takes from other objects.
fn tls_names(tls: &api::BackendTls, namespace: &Arc<str>) -> impl Iterator<Item = ObjectRef> {
    let ca = tls.validation.as_ref().and_then(|validation| validation.ca_ref.as_ref());
    let ca = ca.map(|ca| authority::source(ca, namespace));
    let secret = tls.client_cert_ref.as_ref();
    let secret =
        secret.map(|secret| ObjectRef::new(Kind::Secret, Arc::clone(namespace), secret.name.as_str()));
    ca.into_iter().chain(secret)
}

/// Every `auth` of the object.
pub(crate) fn auths(object: &Object) -> impl Iterator<Item = &api::Auth> {
    let (route, policy) = match object {
        Object::GatewayRoute(route) => (Some(&route.spec), None),
        Object::AuthPolicy(policy) => (None, Some(&policy.spec.auth)),
        Object::Ingress(..)
        | Object::IngressClass(_)
        | Object::RateLimitPolicy(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Secret(_)
        | Object::ConfigMap(_)
        | Object::ReferenceGrant(_) => (None, None),
    };
    let defaults = route.and_then(|spec| spec.defaults.as_ref()?.auth.as_ref());
    let rules = route.into_iter().flat_map(|spec| &spec.rules).filter_map(|rule| rule.auth.as_ref());
    policy.into_iter().chain(defaults).chain(rules)
}

fn ingress_names(ingress: &Ingress) -> Vec<ObjectRef> {
    let namespace = object_ref(Kind::Ingress, ingress.metadata.namespace.as_deref(), "").namespace;
    let entries = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    let names = entries.filter_map(|entry| entry.secret_name.as_deref()).filter(|name| !name.is_empty());
    let secret = |name: &str| ObjectRef::new(Kind::Secret, Arc::clone(&namespace), name);
    let mut named: Vec<ObjectRef> = names.map(secret).collect();
    let authorities = annotation::ca_ref(ingress, api::BACKEND_TLS_CA_ANNOTATION);
    named.extend(authorities.map(|ca| authority::source(&ca, &namespace)));
    named.extend(client_auth::named(ingress, &namespace));
    named.extend(basic::named(ingress, &namespace));
    let annotations = ingress.metadata.annotations.as_ref();
    let client = annotations.and_then(|all| all.get(api::BACKEND_TLS_CLIENT_CERT_ANNOTATION));
    named.extend(client.map(|name| name.trim()).filter(|name| !name.is_empty()).map(secret));
    sorted(named)
}

fn sorted(mut named: Vec<ObjectRef>) -> Vec<ObjectRef> {
    named.sort_unstable();
    named.dedup();
    named
}
