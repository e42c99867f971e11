//! What the annotations of an Ingress say as fields of a GatewayRoute's rule, as whoever read their texts found them.
//! Decides nothing about what follows.

use api::RouteRule;

/// What [`api::RULE_ANNOTATIONS`] of one Ingress say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleNotes {
    /// A rule of which nothing counts but these fields. What the definition of GatewayRoute refuses is not in it.
    pub rule: RouteRule,
    /// What is wrong with annotations, of which nothing stands in `rule`.
    pub refused: Vec<RefusedNote>,
}

/// One thing that is wrong with an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedNote {
    /// The annotation's name.
    pub annotation: &'static str,
    /// The way to the field inside the value, like `[0].cors.maxAge`; empty: the value as a whole.
    pub field: String,
    /// What is wrong, without what follows from it.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}
