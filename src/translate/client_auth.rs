//! Certificates of clients: who is asked for one, whose are believed and what backends are told. What cannot be had as
//! it was asked for refuses every client, never lets one through.

use std::sync::Arc;

use api::CaRef;
use ir::{ClientAuth, ClientAuthMode, ClientForward, ObjectRef, RouteClient};
use k8s_openapi::api::networking::v1::Ingress;

use crate::authority::{self, authorities, revocation_lists};
use crate::reader::Reader;
use crate::report::{Field, Lines};

/// What follows where there are no authorities.
const NOBODY: &str = "every TLS handshake for its hosts is refused";

/// Reads `clientAuth` of a GatewayRoute.
pub(crate) fn gateway_route_client(
    spec: &api::ClientAuth,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> RouteClient {
    let mode = match spec.mode {
        api::ClientAuthMode::Require => ClientAuthMode::Require,
        api::ClientAuthMode::Optional => ClientAuthMode::Optional,
    };
    let mut forward = ClientForward::default();
    for part in &spec.forward {
        add(&mut forward, *part);
    }
    let field = field.key("caRef");
    let fields = (field.key("name"), field.key("key"));
    RouteClient { auth: client_auth(mode, &spec.ca_ref, fields, reader, lines), forward }
}

/// Reads the annotations of an Ingress. `None`: it asks for no certificates.
pub(crate) fn ingress_client(
    ingress: &Ingress,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Option<RouteClient> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let root = Field::root("metadata");
    let root = root.key("annotations");
    let get = |name| annotations.get(name).map(|text| text.trim());
    let (mode, ca) = (get(api::CLIENT_AUTH_ANNOTATION), get(api::CLIENT_AUTH_CA_ANNOTATION));
    if mode.is_none() && ca.is_none() {
        if annotations.contains_key(api::CLIENT_AUTH_FORWARD_ANNOTATION) {
            let message = "backends are told of no certificate, for no client is asked for one";
            let remedy = "add gateway.baribhara.io/client-auth and client-auth-ca";
            lines.warning(root.quoted(api::CLIENT_AUTH_FORWARD_ANNOTATION), message, remedy);
        }
        return None;
    }
    let mode = match mode {
        None | Some("Require") => ClientAuthMode::Require,
        Some("Optional") => ClientAuthMode::Optional,
        Some(text) => {
            let message = format!("'{text}' is neither Require nor Optional; Require holds");
            lines.error(root.quoted(api::CLIENT_AUTH_ANNOTATION), message, "write Require or Optional");
            ClientAuthMode::Require
        }
    };
    let field = root.quoted(api::CLIENT_AUTH_CA_ANNOTATION);
    let auth = match ca.and_then(authority::written) {
        Some(reference) => client_auth(mode, &reference, (field, field), reader, lines),
        None => {
            let message = match ca {
                Some(text) => format!("'{text}' names no object with authorities; {NOBODY}"),
                None => format!("no authorities of clients are named; {NOBODY}"),
            };
            lines.error(field, message, "write configmap/NAME or secret/NAME");
            nobody(mode, lines.object().clone())
        }
    };
    let field = root.quoted(api::CLIENT_AUTH_FORWARD_ANNOTATION);
    let forward = get(api::CLIENT_AUTH_FORWARD_ANNOTATION).unwrap_or_default();
    Some(RouteClient { auth, forward: forwarded(forward, field, lines) })
}

/// What is said where the object's routes can never see a certificate.
pub(crate) fn without_tls(field: Field<'_>, lines: &mut Lines) {
    let message = "certificates of clients are asked for, and no host of the object has TLS; where one is required \
                   the rules answer 421";
    lines.error(field, message, "name the hosts that are served over TLS");
}

/// The object that holds the authorities of an Ingress's clients.
pub(crate) fn named(ingress: &Ingress, namespace: &Arc<str>) -> Option<ObjectRef> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    let written = authority::written(annotations.get(api::CLIENT_AUTH_CA_ANNOTATION)?.trim())?;
    Some(authority::source(&written, namespace))
}

fn client_auth(
    mode: ClientAuthMode,
    reference: &CaRef,
    fields: (Field<'_>, Field<'_>),
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Arc<ClientAuth> {
    let source = authority::source(reference, &lines.object().namespace);
    let Ok(found) = authorities(reference, fields, NOBODY, reader, lines) else {
        return nobody(mode, source);
    };
    match revocation_lists(reference, fields.0, NOBODY, reader, lines) {
        Ok(crl_pem) => Arc::new(ClientAuth { mode, source, ca_pem: found.pem, crl_pem }),
        Err(_) => nobody(mode, source),
    }
}

fn nobody(mode: ClientAuthMode, source: ObjectRef) -> Arc<ClientAuth> {
    Arc::new(ClientAuth { mode, source, ca_pem: Vec::new(), crl_pem: Vec::new() })
}

fn forwarded(text: &str, field: Field<'_>, lines: &mut Lines) -> ClientForward {
    let mut forward = ClientForward::default();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "Subject" => add(&mut forward, api::ClientForward::Subject),
            "Verify" => add(&mut forward, api::ClientForward::Verify),
            "Certificate" => add(&mut forward, api::ClientForward::Certificate),
            other => {
                let message = format!("'{other}' is no part of a certificate; backends are not told of it");
                lines.error(field, message, "write Subject, Verify or Certificate");
            }
        }
    }
    forward
}

fn add(forward: &mut ClientForward, part: api::ClientForward) {
    match part {
        api::ClientForward::Subject => forward.subject = true,
        api::ClientForward::Verify => forward.verify = true,
        api::ClientForward::Certificate => forward.certificate = true,
    }
}
