//! Values by the hosts that they are for, found in a time that does not grow with their number. Knows nothing of what it
//! holds.

use hashbrown::HashMap;
use ir::HostPattern;

/// Of the patterns that cover a name the most specific counts: the name itself, else the wildcard with the longest
/// suffix, and of two equal ones that for a single label.
#[derive(Debug)]
pub(crate) struct ByHost<T> {
    exact: HashMap<Box<str>, T>,
    /// By suffix.
    wildcards: HashMap<Box<str>, Wildcards<T>>,
}

/// The two kinds of `*.suffix`.
#[derive(Debug)]
struct Wildcards<T> {
    one_label: Option<T>,
    any: Option<T>,
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new() }
    }
}

impl<T> ByHost<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    /// A literal address is left out: no client names one in its handshake (RFC 6066 §3).
    pub(crate) fn insert(&mut self, host: &HostPattern, value: T) {
        match host {
            HostPattern::Exact(name) if is_address(name.as_str()) => {}
            HostPattern::Exact(name) => {
                self.exact.insert(name.as_str().into(), value);
            }
            HostPattern::Wildcard { suffix, one_label } => {
                let none = || Wildcards { one_label: None, any: None };
                let wildcards = self.wildcards.entry(suffix.as_str().into()).or_insert_with(none);
                let slot = if *one_label { &mut wildcards.one_label } else { &mut wildcards.any };
                *slot = Some(value);
            }
        }
    }

    /// `name` is folded as the router folds it.
    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        if let Some(value) = self.exact.get(name) {
            return Some(value);
        }
        let mut one_label = true;
        let mut rest = name;
        // A name has at most 127 labels (RFC 1035 §2.3.4).
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(wildcards) = self.wildcards.get(suffix) {
                let single = wildcards.one_label.as_ref().filter(|_| one_label);
                if let Some(value) = single.or(wildcards.any.as_ref()) {
                    return Some(value);
                }
            }
            (rest, one_label) = (suffix, false);
        }
        None
    }
}

pub(super) fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}
