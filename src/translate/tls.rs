//! TLS: what an object says of its hosts, and who has the word where several speak of one. The oldest object wins, as
//! with routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{GatewayRouteSpec, Hsts};
use http::HeaderValue;
use ir::{
    Certificate, ClientAuthMode, HostPattern, ObjectRef, RouteClient, RouteTls, Tls, TlsHost, TlsPolicy,
    TlsVersion,
};
use k8s_openapi::api::networking::v1::Ingress;

use crate::client_auth::{self, gateway_route_client, ingress_client};
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, ReportLine};
use crate::value::is_redirect;

/// What an Ingress redirects with, if it does not say otherwise.
const REDIRECT_STATUS: u16 = 308;
/// What follows where a certificate cannot be had.
const WITHOUT: &str = "its hosts are served with the default certificate, or not at all over TLS";

/// What one object asks for these hosts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TlsClaim {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) host: Arc<TlsHost>,
    /// As in [`ir::Route`].
    pub(crate) created: Option<i64>,
    /// Where the object says it.
    pub(crate) field: String,
}

/// Which hosts of an Ingress are served over TLS, and what its routes do without it.
#[derive(Debug, Default)]
pub(crate) struct IngressTls {
    pub(crate) claims: Vec<TlsClaim>,
    hosts: Vec<HostPattern>,
    every_host: bool,
    redirect_status: Option<u16>,
    client: Option<RouteClient>,
}

impl IngressTls {
    /// What holds for a route of these hosts.
    pub(crate) fn of_route(&self, hosts: &[HostPattern]) -> Option<RouteTls> {
        let is_ours =
            self.every_host || hosts.iter().any(|host| self.hosts.iter().any(|one| covers(one, host)));
        // A route of a host without TLS must not be the way around the certificate.
        (is_ours || self.client.is_some()).then(|| RouteTls {
            redirect_status: self.redirect_status.filter(|_| is_ours),
            hsts: None,
            client: self.client.clone(),
        })
    }
}

/// Reads `spec.tls`. `rule_hosts` are those of all rules.
pub(crate) fn ingress_tls(
    ingress: &Ingress,
    created: Option<i64>,
    rule_hosts: &[HostPattern],
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> IngressTls {
    let entries = ingress.spec.as_ref().and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let client = ingress_client(ingress, reader, lines);
    let root = Field::root("spec");
    let root = root.key("tls");
    if entries.is_empty() {
        if client.is_some() {
            client_auth::without_tls(root, lines);
        }
        return IngressTls { client, ..IngressTls::default() };
    }
    let redirect_status = redirect_status(ingress, client.as_ref(), lines);
    let client_auth = client.as_ref().map(|client| Arc::clone(&client.auth));
    let mut tls = IngressTls { redirect_status, client, ..IngressTls::default() };
    for (index, entry) in entries.iter().enumerate() {
        let field = root.index(index);
        let named = entry.hosts.as_deref().unwrap_or_default();
        let hosts = if named.is_empty() {
            tls.every_host = true;
            rule_hosts.to_vec()
        } else {
            let hosts = field.key("hosts");
            named.iter().enumerate().filter_map(|(at, host)| pattern(host, hosts.index(at), lines)).collect()
        };
        let secret = entry.secret_name.as_deref().filter(|name| !name.is_empty());
        let certificate = secret.and_then(|name| certificate(name, field.key("secretName"), reader, lines));
        tls.hosts.extend_from_slice(&hosts);
        let source = lines.object().clone();
        let policy = TlsPolicy { min_version: TlsVersion::default(), client_auth: client_auth.clone() };
        let host = Arc::new(TlsHost { source, certificate, policy });
        tls.claims.push(TlsClaim { hosts, host, created, field: field.to_string() });
    }
    tls
}

/// Reads `spec.tls` of a GatewayRoute: its claim, and what holds for all its routes.
pub(crate) fn gateway_route_tls(
    spec: &GatewayRouteSpec,
    hosts: &[HostPattern],
    created: Option<i64>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Option<(TlsClaim, RouteTls)> {
    let tls = spec.tls.as_ref()?;
    let root = Field::root("spec");
    let field = root.key("tls");
    if hosts.is_empty() && tls.client_auth.is_some() {
        client_auth::without_tls(field.key("clientAuth"), lines);
    } else if hosts.is_empty() {
        let message = "the route names no hosts, so its certificate and version are asked for by no client";
        lines.warning(field, message, "name hosts, or set --default-tls-secret");
    }
    let reference = tls.secret_ref.as_ref();
    let certificate = reference.and_then(|secret| {
        let field = field.key("secretRef");
        certificate(&secret.name, field.key("name"), reader, lines)
    });
    let min_version = match tls.min_version {
        api::TlsVersion::V1_2 => TlsVersion::V1_2,
        api::TlsVersion::V1_3 => TlsVersion::V1_3,
    };
    let source = lines.object().clone();
    let client = tls
        .client_auth
        .as_ref()
        .map(|spec| gateway_route_client(spec, field.key("clientAuth"), reader, lines));
    let client_auth = client.as_ref().map(|client| Arc::clone(&client.auth));
    let host = Arc::new(TlsHost { source, certificate, policy: TlsPolicy { min_version, client_auth } });
    let claim = TlsClaim { hosts: hosts.to_vec(), host, created, field: field.to_string() };
    let redirect_status = tls.redirect_http.as_ref().map(|redirect| redirect.status_code);
    let redirect_status = redirect_status.map(|status| {
        if is_redirect(status) {
            return status;
        }
        let field = field.key("redirectHTTP");
        let message = format!("{status} is no status of a redirect; {REDIRECT_STATUS} is used");
        lines.error(field.key("statusCode"), message, "write 301, 302, 303, 307 or 308");
        REDIRECT_STATUS
    });
    // Without TLS there is no certificate to show.
    let requires = client.as_ref().is_some_and(|client| client.auth.mode == ClientAuthMode::Require);
    let redirect_status = redirect_status.or(requires.then_some(REDIRECT_STATUS));
    Some((claim, RouteTls { redirect_status, hsts: tls.hsts.as_ref().map(hsts), client }))
}

/// All claims together, with what is said of those that have no effect.
pub(crate) fn merge(claims: &[Arc<TlsClaim>], default: Option<Arc<Certificate>>) -> (Tls, Vec<ReportLine>) {
    let mut sorted: Vec<&TlsClaim> = claims.iter().map(Arc::as_ref).collect();
    // Stable: claims of one object stay in its order.
    sorted.sort_by(|a, b| (a.created, &a.host.source).cmp(&(b.created, &b.host.source)));
    let mut hosts: BTreeMap<HostPattern, Arc<TlsHost>> = BTreeMap::new();
    let mut findings = Vec::new();
    for claim in sorted {
        for pattern in &claim.hosts {
            match hosts.get(pattern) {
                None => drop(hosts.insert(pattern.clone(), Arc::clone(&claim.host))),
                Some(first) => findings.extend(conflict(pattern, first, claim)),
            }
        }
    }
    (Tls { hosts, default }, findings)
}

/// Two objects may well say the same of a host.
fn conflict(pattern: &HostPattern, first: &TlsHost, claim: &TlsClaim) -> Option<ReportLine> {
    let same = first.certificate == claim.host.certificate && first.policy == claim.host.policy;
    if same {
        return None;
    }
    let mut message = format!("'{pattern}' is served over TLS as {} says, which is older", first.source);
    if claim.host.policy.client_auth.is_some() && claim.host.policy.client_auth != first.policy.client_auth {
        message.push_str(", so no client is asked for the certificate that this object wants");
    }
    let mut lines = Lines::new(claim.host.source.clone());
    lines.warning(
        Field::root(&claim.field),
        message,
        "name the same Secret, or take the host out of one of them",
    );
    lines.into_vec().pop()
}

/// The certificate of a Secret in the object's namespace.
fn certificate(
    name: &str,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Option<Arc<Certificate>> {
    let namespace = Arc::clone(&lines.object().namespace);
    let refusal = reader.refusal(&namespace, name);
    let certificate = reader.certificate(&namespace, name);
    match (&certificate, refusal) {
        (Some(_), None) => {}
        (Some(_), Some(reason)) => {
            let message = format!(
                "the Secret '{name}' cannot be used as it stands ({reason}); its last good version is served"
            );
            lines.fault(Fault::InvalidReference, field, message, "correct the Secret");
        }
        (None, Some(reason)) => {
            let message = format!("the Secret '{name}' cannot be used ({reason}); {WITHOUT}");
            lines.fault(Fault::InvalidReference, field, message, "correct the Secret");
        }
        (None, None) if reader.secret(&namespace, name).is_some() => {
            let message = format!("the Secret '{name}' has no entries tls.crt and tls.key; {WITHOUT}");
            lines.fault(Fault::InvalidReference, field, message, "name a Secret of type kubernetes.io/tls");
        }
        (None, None) => {
            let message = format!("there is no Secret '{namespace}/{name}'; {WITHOUT}");
            lines.fault(Fault::CertificateNotFound, field, message, "create the Secret or correct the name");
        }
    }
    if certificate.is_some()
        && let Some(reason) = reader.unstapled(&namespace, name)
    {
        let key = api::TLS_OCSP_STAPLE_KEY;
        let message = format!(
            "the entry '{key}' of the Secret '{name}' is not stapled ({reason}); the certificate is served without it"
        );
        let remedy =
            "store a current OCSP response of the certificate's authority as DER, or take the entry out";
        lines.fault(Fault::OcspResponseUnusable, field, message, remedy);
    }
    certificate
}

fn redirect_status(ingress: &Ingress, client: Option<&RouteClient>, lines: &mut Lines) -> Option<u16> {
    let annotations = ingress.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(api::REDIRECT_HTTP_ANNOTATION))
    else {
        return Some(REDIRECT_STATUS);
    };
    let root = Field::root("metadata");
    let field = root.key("annotations");
    let field = field.quoted(api::REDIRECT_HTTP_ANNOTATION);
    match text.trim() {
        "false" if client.is_some_and(|client| client.auth.mode == ClientAuthMode::Require) => {
            let message = format!(
                "certificates of clients are required, so {REDIRECT_STATUS} is used for requests without TLS"
            );
            lines.error(field, message, "remove this annotation");
            return Some(REDIRECT_STATUS);
        }
        "false" => return None,
        "true" => return Some(REDIRECT_STATUS),
        number => {
            if let Some(status) = number.parse().ok().filter(|status| is_redirect(*status)) {
                return Some(status);
            }
        }
    }
    let message = format!("'{text}' is neither a status of a redirect nor false; {REDIRECT_STATUS} is used");
    let remedy = "write \"301\", \"302\", \"303\", \"307\", \"308\" or \"false\"";
    lines.error(field, message, remedy);
    Some(REDIRECT_STATUS)
}

fn hsts(spec: &Hsts) -> HeaderValue {
    let sub_domains = if spec.include_sub_domains { "; includeSubDomains" } else { "" };
    let preload = if spec.preload { "; preload" } else { "" };
    let text = format!("max-age={}{sub_domains}{preload}", spec.max_age.get().as_secs());
    // Digits and letters make a field value.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("max-age=31536000"))
}

/// A host of an Ingress. A star stands for exactly one label.
fn pattern(text: &str, field: Field<'_>, lines: &mut Lines) -> Option<HostPattern> {
    match HostPattern::parse(text, true) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("'{text}' is no host: {error}; it is not served over TLS");
            lines.error(field, message, "write a name like shop.example.com or *.example.com");
            None
        }
    }
}

/// Whether all names of `host` are names of `pattern`.
fn covers(pattern: &HostPattern, host: &HostPattern) -> bool {
    match (pattern, host) {
        (HostPattern::Wildcard { suffix, .. }, HostPattern::Exact(name)) => {
            let label = name.as_str().strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
            label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
        }
        (pattern, host) => pattern == host,
    }
}

/// What is said where the install's default certificate is not there.
pub(crate) fn missing_default(secret: &ObjectRef) -> Option<ReportLine> {
    let mut lines = Lines::new(secret.clone());
    let message = "there is no such Secret with entries tls.crt and tls.key: there is no default certificate";
    lines.warning(Field::root("data"), message, "create it, or correct --default-tls-secret");
    lines.into_vec().pop()
}
