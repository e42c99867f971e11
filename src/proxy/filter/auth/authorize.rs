//! Authorization by claims, clients, users, method and address: the first rule that matches decides, and none means no.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;
use ir::{Authorization, AuthorizationAction, AuthorizationRule, ClaimCondition, ClaimOperator, ObjectRef};
use serde_json::Value;

use super::claims;
use super::stage::Identity;
use super::verifier::{Verdict, VerifierId};

/// The rules of one object, with providers resolved to verifiers.
pub(super) struct Rules {
    source: ObjectRef,
    rules: Vec<Rule>,
    trusted: Trusted,
}

/// Whose clients and users count: the places of demands.
#[derive(Default)]
pub(super) struct Trusted {
    pub(super) clients: Vec<usize>,
    pub(super) users: Vec<usize>,
}

struct Rule {
    rule: AuthorizationRule,
    /// Beside each condition of the rule: whose claims count.
    whose: Vec<Vec<VerifierId>>,
}

impl Rules {
    /// `whose` finds the verifiers that a condition of the object means which names this provider or none.
    pub(super) fn new(
        (authorization, source): (&Authorization, &ObjectRef),
        trusted: Trusted,
        whose: impl Fn(Option<&str>) -> Vec<VerifierId>,
    ) -> Self {
        let rules = authorization
            .rules
            .iter()
            .map(|rule| Rule {
                rule: rule.clone(),
                whose: rule.claims.iter().map(|condition| whose(condition.provider.as_deref())).collect(),
            })
            .collect();
        Self { source: source.clone(), rules, trusted }
    }

    /// Whether a request of this client may pass.
    ///
    /// # Errors
    /// The place of the rule that denies; `None`: no rule takes it.
    pub(super) fn allow(
        &self,
        method: &Method,
        client: Option<IpAddr>,
        identity: &Identity,
    ) -> Result<(), Option<usize>> {
        // An IPv4 client of a dual-stack listener is an IPv4 client.
        let client = client.map(|client| client.to_canonical());
        let first =
            self.rules.iter().position(|rule| rule.matches(method, client, (identity, &self.trusted)));
        match first.and_then(|place| self.rules.get(place)).map(|rule| rule.rule.action) {
            Some(AuthorizationAction::Allow) => Ok(()),
            Some(AuthorizationAction::Deny) | None => Err(first),
        }
    }

    /// Whether a rule asks for a user.
    pub(super) fn name_users(&self) -> bool {
        self.rules.iter().any(|rule| !rule.rule.users.is_empty())
    }

    /// The object, and the rule of it, by name.
    pub(super) fn describe(&self, rule: Option<usize>) -> String {
        match rule.and_then(|place| self.rules.get(place)) {
            Some(rule) => format!("{} {}", self.source, rule.rule.name),
            None => self.source.to_string(),
        }
    }
}

impl Rule {
    fn matches(
        &self,
        method: &Method,
        client: Option<IpAddr>,
        (identity, trusted): (&Identity, &Trusted),
    ) -> bool {
        let tokens = identity.verdicts();
        (self.rule.methods.is_empty() || self.rule.methods.contains(method))
            && self.takes_address(client)
            && (self.rule.clients.is_empty() || self.names_client(identity, &trusted.clients))
            && (self.rule.users.is_empty() || self.names_user(identity, &trusted.users))
            && self.rule.claims.iter().zip(&self.whose).all(|(condition, whose)| {
                tokens
                    .clone()
                    .filter(|token| whose.contains(&token.judge.verifier))
                    .any(|token| holds(condition, token))
            })
    }
}

impl Rule {
    /// A client that can't be told is in the networks of a rule that denies, and in none of one that allows.
    fn takes_address(&self, client: Option<IpAddr>) -> bool {
        match client {
            Some(client) => self.rule.takes_address(client),
            None => self.rule.client_cidrs.is_empty() || self.rule.action == AuthorizationAction::Deny,
        }
    }

    fn names_client(&self, identity: &Identity, trusted: &[usize]) -> bool {
        let mut known = identity.clients.iter().filter(|(demand, _)| trusted.contains(demand));
        known.any(|(_, id)| self.rule.clients.iter().any(|named| id == named.as_str()))
    }

    fn names_user(&self, identity: &Identity, trusted: &[usize]) -> bool {
        let mut known = identity.users().filter(|(demand, _)| trusted.contains(demand));
        known.any(|(_, name)| self.rule.users.iter().any(|named| **name == *named.as_bytes()))
    }
}

/// Whether this token says what is asked for.
pub(super) fn holds(condition: &ClaimCondition, token: &Verdict) -> bool {
    let Some(claim) = claims::at(&token.claims, &condition.path) else { return false };
    let listed = |text: &str| condition.values.iter().any(|value| value == text);
    match condition.operator {
        ClaimOperator::Exists => true,
        ClaimOperator::In => any_element(claim, Blanks::Keep, listed),
        ClaimOperator::NotIn => !any_element(claim, Blanks::Keep, listed),
        ClaimOperator::ContainsAny => any_element(claim, Blanks::Split, listed),
        ClaimOperator::ContainsAll => condition
            .values
            .iter()
            .all(|wanted| any_element(claim, Blanks::Split, |element| element == wanted.as_str())),
    }
}

/// Whether a string is one element or a list like `scope` (RFC 6749 §3.3).
#[derive(Clone, Copy)]
enum Blanks {
    Keep,
    Split,
}

/// Asks for each element as text: those of an array, else the claim itself. An array counts by its elements for `In`
/// and `NotIn` too, so that a rule against `groups In [banned]` is not passed by wrapping the value into a list.
fn any_element(claim: &Value, blanks: Blanks, is_wanted: impl Fn(&str) -> bool) -> bool {
    match (claim, blanks) {
        (Value::Array(elements), _) => {
            elements.iter().filter_map(claims::text).any(|element| is_wanted(&element))
        }
        (Value::String(list), Blanks::Split) => list.split_ascii_whitespace().any(is_wanted),
        (Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_), _) => {
            claims::text(claim).as_ref().map(Cow::as_ref).is_some_and(is_wanted)
        }
    }
}
