//! Where the names of a backend's endpoints may lead, and that a name which leads elsewhere is told of once. Resolves none.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ir::Home;
use tracing::warn;

use crate::settings::BackendNames;

/// What one backend's names are held to.
#[derive(Debug)]
pub(crate) struct NameRule {
    /// The gateway's own addresses.
    own: Vec<IpAddr>,
    /// The backend's label.
    backend: Arc<str>,
    is_told: AtomicBool,
}

impl NameRule {
    /// `None`: they may lead anywhere.
    pub(super) fn new(names: &BackendNames, backend: &str) -> Option<Arc<Self>> {
        match names {
            BackendNames::Anywhere => None,
            BackendNames::Away(own) => Some(Arc::new(Self {
                own: own.clone(),
                backend: backend.into(),
                is_told: AtomicBool::new(false),
            })),
        }
    }

    /// Why an address that a name has led to is not asked. A name may lead elsewhere the next time.
    pub(super) fn refusal(&self, endpoint: &str, address: IpAddr) -> Option<Home> {
        let home = Home::of_address(address, &self.own)?;
        if !self.is_told.swap(true, Ordering::Relaxed) {
            warn!(
                backend = &*self.backend,
                endpoint,
                %address,
                why = home.meaning(),
                remedy = "name a host that leads elsewhere, or run the gateway with --allow-local-endpoints",
                "the name of a backend leads to an address that is not asked"
            );
        }
        Some(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_lead_anywhere_but_home_and_is_told_of_once() {
        assert!(NameRule::new(&BackendNames::Anywhere, "shop/web:80").is_none());
        let names = BackendNames::Away(vec!["10.244.0.7".parse().unwrap()]);
        let rule = NameRule::new(&names, "shop/web:80").unwrap();
        for (address, want) in [
            ("192.0.2.1", None),
            ("10.244.0.8", None),
            ("fd00:10::7", None),
            ("127.0.0.1", Some(Home::Loopback)),
            ("::1", Some(Home::Loopback)),
            ("::ffff:127.0.0.1", Some(Home::Loopback)),
            ("169.254.169.254", Some(Home::LinkLocal)),
            ("fe80::1", Some(Home::LinkLocal)),
            ("fd00:ec2::254", Some(Home::LinkLocal)),
            ("0.0.0.0", Some(Home::Unspecified)),
            ("::", Some(Home::Unspecified)),
            ("10.244.0.7", Some(Home::OwnAddress)),
            ("::ffff:10.244.0.7", Some(Home::OwnAddress)),
        ] {
            let is_told = rule.is_told.load(Ordering::Relaxed);
            assert_eq!(rule.refusal("api.example.com:443", address.parse().unwrap()), want, "{address}");
            assert_eq!(rule.is_told.load(Ordering::Relaxed), is_told || want.is_some(), "{address}");
        }
    }
}
