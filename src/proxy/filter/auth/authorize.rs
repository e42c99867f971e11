//! Authorization by claims, method and address: the first rule that matches decides, and none means no.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;
use ir::{Authorization, AuthorizationAction, AuthorizationRule, ClaimCondition, ClaimOperator};
use serde_json::Value;

use super::claims;
use super::verifier::{Verdict, VerifierId};

/// The rules of one object, with providers resolved to verifiers.
pub(super) struct Rules {
    rules: Vec<Rule>,
}

struct Rule {
    rule: AuthorizationRule,
    /// Beside each condition of the rule: whose claims count.
    whose: Vec<Vec<VerifierId>>,
}

impl Rules {
    /// `whose` finds the verifiers that a condition of the object means which names this provider or none.
    pub(super) fn new(
        authorization: &Authorization,
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
        Self { rules }
    }

    /// Whether a request with these verified tokens may pass.
    pub(super) fn allow<'v>(
        &self,
        method: &Method,
        client: IpAddr,
        tokens: &(impl Iterator<Item = &'v Verdict> + Clone),
    ) -> bool {
        // An IPv4 client of a dual-stack listener is an IPv4 client.
        let client = client.to_canonical();
        let first = self.rules.iter().find(|rule| rule.matches(method, client, tokens));
        match first.map(|rule| rule.rule.action) {
            Some(AuthorizationAction::Allow) => true,
            Some(AuthorizationAction::Deny) | None => false,
        }
    }
}

impl Rule {
    fn matches<'v>(
        &self,
        method: &Method,
        client: IpAddr,
        tokens: &(impl Iterator<Item = &'v Verdict> + Clone),
    ) -> bool {
        (self.rule.methods.is_empty() || self.rule.methods.contains(method))
            && self.rule.takes_address(client)
            && self.rule.claims.iter().zip(&self.whose).all(|(condition, whose)| {
                tokens
                    .clone()
                    .filter(|token| whose.contains(&token.judge.verifier))
                    .any(|token| holds(condition, token))
            })
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
