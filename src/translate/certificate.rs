//! The Secrets that hold certificates, each as one value however many objects name it. Parses nothing.

use std::sync::Arc;

use ir::{Certificate, Kind, ObjectRef, Redacted};
use k8s_openapi::api::core::v1::Secret;

use crate::snapshot::{ByName, Snapshot};
use crate::value;

/// The certificates of a snapshot by the names of their Secrets.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_secret: ByName<Entry>,
    /// The state of the Secrets that this was made of.
    stamp: Option<Arc<()>>,
}

#[derive(Debug)]
struct Entry {
    secret: Arc<Secret>,
    certificate: Arc<Certificate>,
}

impl Certificates {
    /// Takes in what changed; a certificate that did not keeps its `Arc`.
    pub(crate) fn refresh(&mut self, snapshot: &Snapshot) {
        let stamp = snapshot.secrets.stamp();
        if self.stamp.as_ref().is_some_and(|last| Arc::ptr_eq(last, &stamp)) {
            return;
        }
        let mut fresh = ByName::default();
        for (namespace, name, secret, last) in snapshot.secrets.iter_with(&self.by_secret) {
            let id = ObjectRef::new(Kind::Secret, Arc::clone(namespace), Arc::clone(name));
            let kept = last.filter(|last| Arc::ptr_eq(&last.secret, secret));
            let certificate = match kept {
                Some(last) => Some(Arc::clone(&last.certificate)),
                None => read(&id, secret).map(|read| match last {
                    Some(last) if *last.certificate == read => Arc::clone(&last.certificate),
                    Some(_) | None => Arc::new(read),
                }),
            };
            if let Some(certificate) = certificate {
                fresh.insert(&id, Entry { secret: Arc::clone(secret), certificate });
            }
        }
        self.by_secret = fresh;
        self.stamp = Some(stamp);
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Certificate>> {
        self.by_secret.get(namespace, name).map(|entry| &entry.certificate)
    }
}

/// `None`: the Secret lacks one of the two entries.
fn read(id: &ObjectRef, secret: &Secret) -> Option<Certificate> {
    let (chain, key) = chain_and_key(secret)?;
    Some(Certificate {
        source: id.clone(),
        chain_pem: chain.to_vec(),
        key_pem: Redacted::new(key.to_vec()),
        ocsp_response: ocsp_response(secret).map(<[u8]>::to_vec),
    })
}

/// Chain and key, where the Secret has both entries.
pub(crate) fn chain_and_key(secret: &Secret) -> Option<(&[u8], &[u8])> {
    let entries = (secret.string_data.as_ref(), secret.data.as_ref());
    Some((value::entry(entries, api::TLS_CERTIFICATE_KEY)?, value::entry(entries, api::TLS_PRIVATE_KEY_KEY)?))
}

/// What is to be stapled. An empty entry is none: whoever fetches responses may have none yet.
pub(crate) fn ocsp_response(secret: &Secret) -> Option<&[u8]> {
    let entries = (secret.string_data.as_ref(), secret.data.as_ref());
    value::entry(entries, api::TLS_OCSP_STAPLE_KEY).filter(|response| !response.is_empty())
}
