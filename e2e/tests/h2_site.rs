//! What the tests of HTTP/2 have in common: a host that is served by ALPN and by prior knowledge.

use std::net::SocketAddr;
use std::sync::Arc;

use e2e::certificate::Authority;
use e2e::h2_client::H2Connection;
use e2e::tls_client::{config, offering_h2};
use rustls::ClientConfig;

use crate::site::{HOST, Site, site_with};
use crate::tls_site::tls_route;

pub(crate) struct H2Site {
    pub(crate) site: Site,
    pub(crate) authority: Authority,
    /// Offers `h2` alone.
    pub(crate) client: Arc<ClientConfig>,
}

/// Everything of [`HOST`] to this upstream, with TLS and without.
pub(crate) fn h2_site(upstream: SocketAddr, flags: &[&str]) -> H2Site {
    h2_site_of(&tls_route("shop", HOST, "shop", "", upstream), flags)
}

/// These objects beside the Secret `shop` with a certificate of [`HOST`].
pub(crate) fn h2_site_of(yaml: &str, flags: &[&str]) -> H2Site {
    let authority = Authority::new();
    let site = site_with(&(authority.issue(&[HOST]).secret("shop") + yaml), flags);
    let client = offering_h2(config(&authority));
    H2Site { site, authority, client }
}

impl H2Site {
    /// Without TLS.
    pub(crate) fn plain(&self) -> H2Connection {
        H2Connection::plain(self.site.gateway.http).expect("a connection by prior knowledge")
    }

    pub(crate) fn tls(&self) -> H2Connection {
        H2Connection::tls(self.site.gateway.https, HOST, &self.client).expect("a connection by ALPN")
    }
}
