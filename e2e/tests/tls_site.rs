//! What the tests of TLS have in common: routes and Ingresses with TLS, and what handshakes come to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use e2e::certificate::Issued;
use e2e::folder::route;
use e2e::tls_client::{TlsConnection, alert};
use rustls::{AlertDescription, ClientConfig};

use crate::site::address;

/// A GatewayRoute of this host with the certificate of a Secret and more fields of `spec.tls`.
pub(crate) fn tls_route(name: &str, host: &str, secret: &str, more: &str, backend: SocketAddr) -> String {
    let to = address(backend);
    let spec = format!(
        "hostnames: [\"{host}\"]
tls: {{secretRef: {{name: {secret}}}{more}}}
rules: [{{name: all, backendRefs: [{to}]}}]"
    );
    route(name, &spec)
}

/// An Ingress in namespace `shop` with a rule for each host, to the Service `web`.
pub(crate) fn ingress(name: &str, annotations: &str, tls: &str, hosts: &[&str]) -> String {
    let rules: String = hosts
        .iter()
        .map(|host| {
            format!(
                "  - host: \"{host}\"\n    http: {{paths: [{{path: /, pathType: Prefix, backend: \
                 {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
            )
        })
        .collect();
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: {name}, namespace: shop, annotations: {{{annotations}}}}}\n\
         spec:\n  ingressClassName: baribhara\n  tls: {tls}\n  rules:\n{rules}"
    )
}

/// The alert that refuses a handshake, or what happened instead.
pub(crate) fn refusal(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Result<AlertDescription, String> {
    match TlsConnection::open(address, name, config) {
        Ok(connection) => Err(format!("a handshake of {:?}", connection.tls().protocol_version())),
        Err(error) => alert(&error).ok_or_else(|| error.to_string()),
    }
}

/// Whether a new handshake shows this certificate.
pub(crate) fn shows(address: SocketAddr, name: &str, config: &Arc<ClientConfig>, want: &Issued) -> bool {
    TlsConnection::open(address, name, config).is_ok_and(|connection| *connection.certificate() == want.der)
}

/// The error of a read that found nothing in time, as opposed to an end.
pub(crate) fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
