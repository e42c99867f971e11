//! What an API server does to an object of our kinds before it stores it: pruning, defaults, the schema's
//! bounds and its CEL rules. Made once from the generated definitions. Knows nothing of references between
//! objects.

mod check;
mod hint;
mod node;
mod path;
mod prepare;
mod rule;
mod verdicts;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;

use ir::Kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_cel::KubeCelExt;
use kube_cel::cel::Context;
use serde_json::{Map, Value};

use node::Node;

/// How many unknown fields of a value are told.
const UNKNOWN_MAX: usize = 20;

/// Whether a certificate chain and its key (PEM) can be served now; why not, for people, without a byte of them. What is
/// found of one that can be is why its OCSP response (DER), if there is one, cannot be stapled. This room knows nothing of
/// cryptography: who wires it gives this.
pub type CertificateCheck =
    fn(chain_pem: &[u8], key_pem: &[u8], ocsp_response: Option<&[u8]>) -> Result<Option<String>, String>;

/// The compiled schemas of GatewayRoute, RateLimitPolicy and AuthPolicy, and the check of certificates.
pub(crate) struct Schemas {
    kinds: Vec<(Kind, Node)>,
    /// Of Secrets that hold a certificate.
    pub(crate) check_certificate: CertificateCheck,
    /// The functions that rules may call; without variables.
    context: Context<'static>,
}

/// An object as an API server would have stored it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    /// With the defaults, without the unknown fields and without nulls.
    pub(crate) object: Value,
    /// The unknown fields that were taken out, in the order of the text.
    pub(crate) pruned: Vec<FieldPath>,
}

/// The place of a field that the schema does not know, like `spec.rules[0].mathces`, and what to do about it.
/// Reads as the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath {
    path: String,
    /// What to do about the field.
    pub(crate) remedy: String,
}

/// Why an object is refused. Holds no text of the object but enum values, names of list entries and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field, like `spec.rules[0].matches[1].path.value`; empty: the object as a whole.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Schemas {
    /// Compiles the definitions of the `api` room, their patterns and their rules.
    #[expect(
        clippy::expect_used,
        reason = "the definitions are constants of this binary, and a test compiles them"
    )]
    pub(crate) fn compile(check_certificate: CertificateCheck) -> Self {
        Self::of(api::crds(), check_certificate)
            .expect("invariant: every definition of this binary can be enforced")
    }

    /// Fails where a definition holds a keyword, pattern or rule that this room could not enforce.
    fn of(crds: Vec<CustomResourceDefinition>, check_certificate: CertificateCheck) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for crd in crds {
            let name = crd.spec.names.kind;
            let kind = [Kind::GatewayRoute, Kind::RateLimitPolicy, Kind::AuthPolicy]
                .into_iter()
                .find(|kind| kind.as_str() == name)
                .ok_or_else(|| format!("{name}: unknown kind"))?;
            for version in crd.spec.versions {
                let schema = version.schema.and_then(|schema| schema.open_api_v3_schema);
                let schema = serde_json::to_value(schema).map_err(|error| format!("{name}: {error}"))?;
                kinds.push((kind, Node::compile(&schema, &name, "")?));
            }
        }
        Ok(Self { kinds, check_certificate, context: Context::default().with_all() })
    }

    /// Prunes, defaults and validates one object. An object of another kind passes as it is.
    ///
    /// # Errors
    /// Everything that is wrong with the object; never empty.
    pub(crate) fn admit(&self, kind: Kind, mut object: Value) -> Result<Admitted, Vec<Violation>> {
        let mut pruned = Vec::new();
        let Some((_, node)) = self.kinds.iter().find(|(candidate, _)| *candidate == kind) else {
            return Ok(Admitted { object, pruned });
        };
        prepare::root(node, &mut object, &mut pruned);
        let violations = check::root(node, &object, &self.context);
        if violations.is_empty() { Ok(Admitted { object, pruned }) } else { Err(violations) }
    }

    /// Defaults and validates one field of a GatewayRoute's rule. Paths begin in the field, and an unknown field in it is
    /// refused, too.
    ///
    /// # Errors
    /// Everything that is wrong with it; never empty.
    pub(crate) fn admit_rule_field(&self, field: &str, value: Value) -> Result<Value, Vec<Violation>> {
        let refused = |message: &str, remedy: &str| {
            vec![Violation { path: String::new(), message: message.to_owned(), remedy: remedy.to_owned() }]
        };
        let Some(node) = self.rule_node() else {
            return Err(refused("is not known", "use a GatewayRoute"));
        };
        let entries = [("name".to_owned(), Value::from("rule")), (field.to_owned(), value)];
        let mut rule = Value::Object(Map::from_iter(entries));
        let mut pruned = Vec::new();
        prepare::part(node, &mut rule, &mut pruned);
        let unknown = pruned.into_iter().take(UNKNOWN_MAX).map(|FieldPath { path, remedy }| Violation {
            path,
            message: "unknown field".to_owned(),
            remedy,
        });
        let mut violations: Vec<Violation> = unknown.collect();
        violations.extend(check::root(node, &rule, &self.context));
        for Violation { path, .. } in &mut violations {
            let inside = path.strip_prefix(field).unwrap_or(path);
            *path = inside.strip_prefix('.').unwrap_or(inside).to_owned();
        }
        match rule.get_mut(field).map(Value::take) {
            _ if !violations.is_empty() => Err(violations),
            Some(value) => Ok(value),
            None => Err(refused("is empty", "write a value, or remove it")),
        }
    }

    /// Of the rules of a GatewayRoute.
    fn rule_node(&self) -> Option<&Node> {
        let (_, root) = self.kinds.iter().find(|(kind, _)| *kind == Kind::GatewayRoute)?;
        root.property("spec")?.property("rules")?.element()
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|(kind, _)| kind)).finish()
    }
}

impl Deref for FieldPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.path
    }
}
