//! Which protocols a client may change to on a route (RFC 9110 §7.8).

use serde::Serialize;

/// The names of the protocols in lower case, sorted. `h2c` is never among them (RFC 9113 §3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upgrades(Vec<String>);

const WEBSOCKET: &str = "websocket";

impl Default for Upgrades {
    /// WebSocket (RFC 6455) and nothing else.
    fn default() -> Self {
        Self(vec![WEBSOCKET.to_owned()])
    }
}

impl Upgrades {
    /// Folds the names and leaves `h2c` out.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        names.retain(|name| name != "h2c");
        names.sort();
        names.dedup();
        Self(names)
    }

    /// `name` in any case.
    pub fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn is_default(&self) -> bool {
        matches!(self.0.as_slice(), [only] if only == WEBSOCKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_h2c_is_never_one() {
        let upgrades = Upgrades::new(["WebSocket", "h2c", "H2C", "spdy/3.1", "websocket"]);
        assert_eq!(upgrades.names(), ["spdy/3.1", "websocket"]);
        assert!(upgrades.allows("WEBSOCKET") && !upgrades.allows("h2c") && !upgrades.allows("web"));
        assert!(Upgrades::default().is_default() && !upgrades.is_default());
    }
}
