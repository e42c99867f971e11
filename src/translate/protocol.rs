//! How a backend is spoken to: what the object says, else what the Service's port says of itself. TLS that cannot be
//! had as it was asked for is refused, never left out.

use std::sync::Arc;

use api::{BackendProtocol, BackendTls, BackendValidation};
use ir::{Certificate, Trust, UpstreamProtocol, UpstreamTls, UpstreamVersion};

use crate::authority::authorities;
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};

/// What follows where TLS towards a backend cannot be had as asked for.
pub(crate) const NO_TLS: &str = "the backend's share of requests is answered 500";
/// The most names in the place of the one that is asked for.
const SUBJECT_ALT_NAMES_MAX: usize = 8;

/// What is known of a backend before the object has said anything of its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// By the Service port's `appProtocol`.
    pub(crate) protocol: BackendProtocol,
    /// What its certificate is for, if nothing else is said.
    pub(crate) server_name: Arc<str>,
}

/// TLS towards backends as an object asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsDemand {
    pub(crate) trust: Trust,
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) subject_alt_names: Vec<Arc<str>>,
    pub(crate) client_certificate: Option<Arc<Certificate>>,
}

impl Default for TlsDemand {
    fn default() -> Self {
        Self { trust: Trust::System, hostname: None, subject_alt_names: Vec::new(), client_certificate: None }
    }
}

/// What a Service's port says (KEP-3726 and the names that meshes use). What is unknown is plain HTTP/1.1.
pub(crate) fn of_app_protocol(text: Option<&str>) -> BackendProtocol {
    const KNOWN: [(&str, BackendProtocol); 6] = [
        ("kubernetes.io/h2c", BackendProtocol::H2c),
        ("kubernetes.io/ws", BackendProtocol::Http),
        ("kubernetes.io/wss", BackendProtocol::Https),
        ("http", BackendProtocol::Http),
        ("https", BackendProtocol::Https),
        ("grpc", BackendProtocol::Grpc),
    ];
    let text = text.unwrap_or_default();
    let known = KNOWN.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map_or(BackendProtocol::Http, |(_, protocol)| protocol)
}

/// `HTTP`, `H2C`, `HTTPS`, `GRPC` or `GRPCS`.
pub(crate) fn named(text: &str) -> Option<BackendProtocol> {
    match text {
        "HTTP" => Some(BackendProtocol::Http),
        "H2C" => Some(BackendProtocol::H2c),
        "HTTPS" => Some(BackendProtocol::Https),
        "GRPC" => Some(BackendProtocol::Grpc),
        "GRPCS" => Some(BackendProtocol::Grpcs),
        _ => None,
    }
}

/// Whether the protocol has TLS.
pub(crate) const fn has_tls(protocol: BackendProtocol) -> bool {
    match protocol {
        BackendProtocol::Http | BackendProtocol::H2c | BackendProtocol::Grpc => false,
        BackendProtocol::Https | BackendProtocol::Grpcs => true,
    }
}

/// The protocol towards a backend: the one that was `said`, else its own; with TLS where either has it or it is asked
/// for.
pub(crate) fn protocol(
    said: Option<BackendProtocol>,
    demand: Option<&TlsDemand>,
    offer: &Offer,
) -> UpstreamProtocol {
    let protocol = said.unwrap_or(offer.protocol);
    let version = match protocol {
        BackendProtocol::Http | BackendProtocol::Https => UpstreamVersion::Http1,
        BackendProtocol::H2c | BackendProtocol::Grpc | BackendProtocol::Grpcs => UpstreamVersion::Http2,
    };
    let tls = (has_tls(protocol) || demand.is_some()).then(|| {
        let demand = demand.cloned().unwrap_or_default();
        let server_name = demand.hostname.unwrap_or_else(|| Arc::clone(&offer.server_name));
        Arc::new(UpstreamTls {
            server_name,
            subject_alt_names: demand.subject_alt_names,
            trust: demand.trust,
            client_certificate: demand.client_certificate,
        })
    });
    UpstreamProtocol { version, tls }
}

/// Reads `tls` of a backend.
pub(crate) fn tls_demand(
    spec: &BackendTls,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<TlsDemand, Refused> {
    let none = BackendValidation::default();
    let validation = spec.validation.as_ref().unwrap_or(&none);
    let within = field.key("validation");
    let name = |text: &String, field: Field<'_>, lines: &mut Lines| server_name(text, field, lines);
    let hostname = validation.hostname.as_ref().map(|text| name(text, within.key("hostname"), lines));
    let names =
        crate::value::all(&validation.subject_alt_names, within.key("subjectAltNames"), |text, field| {
            name(text, field, lines)
        });
    let trust = match &validation.ca_ref {
        Some(_) if spec.insecure_skip_verify => {
            let message = format!("insecureSkipVerify and caRef stand together; {NO_TLS}");
            Err(lines.error(field.key("insecureSkipVerify"), message, "remove one of them"))
        }
        None if spec.insecure_skip_verify => Ok(Trust::Anyone),
        Some(reference) => {
            let field = within.key("caRef");
            let fields = (field.key("name"), field.key("key"));
            authorities(reference, fields, NO_TLS, reader, lines)
                .map(|found| Trust::Authorities { source: found.source, pem: found.pem })
        }
        None => Ok(Trust::System),
    };
    let client = spec.client_cert_ref.as_ref().map(|secret| {
        let field = field.key("clientCertRef");
        client_certificate(&secret.name, field.key("name"), reader, lines)
    });
    let subject_alt_names = names?;
    if subject_alt_names.len() > SUBJECT_ALT_NAMES_MAX {
        let message = format!("there are more than {SUBJECT_ALT_NAMES_MAX} names; {NO_TLS}");
        return Err(lines.error(within.key("subjectAltNames"), message, "name fewer"));
    }
    Ok(TlsDemand {
        trust: trust?,
        hostname: hostname.transpose()?,
        subject_alt_names,
        client_certificate: client.transpose()?,
    })
}

/// A host name, or an IP address, in the one form of it.
pub(crate) fn server_name(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<Arc<str>, Refused> {
    let folded = text.trim_end_matches('.').to_ascii_lowercase();
    if folded.parse::<std::net::IpAddr>().is_ok() || ir::HostName::parse(&folded).is_ok() {
        return Ok(folded.into());
    }
    let message = format!("'{text}' is no name that a certificate could be for; {NO_TLS}");
    Err(lines.error(field, message, "write a host name like web.example.com"))
}

/// What the gateway shows for itself: the certificate of a Secret in the object's namespace.
pub(crate) fn client_certificate(
    name: &str,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Arc<Certificate>, Refused> {
    let namespace = Arc::clone(&lines.object().namespace);
    let refusal = reader.refusal(&namespace, name);
    let certificate = reader.certificate(&namespace, name);
    match (certificate, refusal) {
        (Some(certificate), None) => Ok(certificate),
        (Some(certificate), Some(reason)) => {
            let message = format!(
                "the Secret '{name}' cannot be used as it stands ({reason}); its last good version is shown"
            );
            lines.fault(Fault::InvalidReference, field, message, "correct the Secret");
            Ok(certificate)
        }
        (None, Some(reason)) => {
            let message = format!("the Secret '{name}' cannot be used ({reason}); {NO_TLS}");
            Err(lines.fault(Fault::InvalidReference, field, message, "correct the Secret"))
        }
        (None, None) if reader.secret(&namespace, name).is_some() => {
            let message = format!("the Secret '{name}' has no entries tls.crt and tls.key; {NO_TLS}");
            let remedy = "name a Secret of type kubernetes.io/tls";
            Err(lines.fault(Fault::InvalidReference, field, message, remedy))
        }
        (None, None) => {
            let message = format!("there is no Secret '{namespace}/{name}'; {NO_TLS}");
            let remedy = "create the Secret or correct the name";
            Err(lines.fault(Fault::CertificateNotFound, field, message, remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_wins_over_the_port_and_tls_is_never_lost() {
        use BackendProtocol::{Grpc, Grpcs, H2c, Http, Https};
        let (h1, h2) = (UpstreamVersion::Http1, UpstreamVersion::Http2);
        for (said, demands, app, version, tls) in [
            (None, false, None, h1, false),
            (None, false, Some("unknown"), h1, false),
            (None, false, Some("http"), h1, false),
            (None, false, Some("kubernetes.io/ws"), h1, false),
            (None, false, Some("kubernetes.io/wss"), h1, true),
            (None, false, Some("https"), h1, true),
            (None, false, Some("HTTPS"), h1, true),
            (None, false, Some("kubernetes.io/h2c"), h2, false),
            (None, false, Some("grpc"), h2, false),
            (None, true, Some("grpc"), h2, true),
            (None, true, None, h1, true),
            (Some(Http), false, Some("https"), h1, false),
            (Some(H2c), false, None, h2, false),
            (Some(Grpc), false, Some("https"), h2, false),
            (Some(Grpcs), false, None, h2, true),
            (Some(Https), true, Some("grpc"), h1, true),
        ] {
            let offer = Offer { protocol: of_app_protocol(app), server_name: "web.shop.svc".into() };
            let demand = demands.then(TlsDemand::default);
            let got = protocol(said, demand.as_ref(), &offer);
            assert_eq!((got.version, got.tls.is_some()), (version, tls), "{said:?} {demands} {app:?}");
            assert!(
                got.tls.is_none_or(|tls| &*tls.server_name == "web.shop.svc" && tls.trust == Trust::System)
            );
        }
    }
}
