//! Secrets that an object takes by their labels, of its own namespace only. Reads none of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::Object;

/// All Secrets of a namespace that have these labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection {
    pub namespace: Arc<str>,
    /// All must be there. Never empty.
    pub labels: BTreeMap<String, String>,
}

impl Selection {
    /// Whether it takes a Secret of this namespace with these labels.
    pub fn takes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        *self.namespace == *namespace
            && !self.labels.is_empty()
            && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// The Secrets that the translation of this object looks for by label: sorted, each selection once.
pub fn selected_secrets(object: &Object) -> Vec<Selection> {
    let namespace = object.object_ref().namespace;
    let selectors = crate::named::auths(object).filter_map(|auth| auth.api_key.as_ref());
    let selectors = selectors.map(|spec| &spec.secret_selector.match_labels);
    let mut selections: Vec<Selection> = selectors
        .filter(|labels| !labels.is_empty())
        .map(|labels| Selection { namespace: Arc::clone(&namespace), labels: labels.clone() })
        .collect();
    selections.sort_unstable();
    selections.dedup();
    selections
}
