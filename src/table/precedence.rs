//! Which of two matches comes first when both take a request. Must not look at a request.
//!
//! Host and path stand before all this: they are levels of the index. Here are the rules for two matches of one
//! host and an equally specific path (GEP and HTTPRoute precedence, extended by cookies and addresses).

use std::cmp::{Ordering, Reverse};

/// One match of one route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked<'a> {
    pub(crate) route: &'a ir::Route,
    pub(crate) matched: &'a ir::Match,
    pub(crate) match_index: u32,
}

/// What made one match come before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Methods,
    Headers,
    QueryParameters,
    Cookies,
    ClientAddress,
    Older,
    Name,
    EarlierRule,
    EarlierMatch,
}

impl Why {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Methods => "methods",
            Self::Headers => "headers",
            Self::QueryParameters => "query parameters",
            Self::Cookies => "cookies",
            Self::ClientAddress => "client addresses",
            Self::Older => "older",
            Self::Name => "name",
            Self::EarlierRule => "earlier rule",
            Self::EarlierMatch => "earlier match",
        }
    }
}

/// `Less`: `a` comes first. Equal only for one match and itself.
pub(crate) fn compare(a: Ranked<'_>, b: Ranked<'_>) -> (Ordering, Why) {
    let count = |a: usize, b: usize| Reverse(a).cmp(&Reverse(b));
    let (left, right) = (a.matched, b.matched);
    let steps = [
        (Why::Methods, count(left.methods.len().min(1), right.methods.len().min(1))),
        (Why::Headers, count(left.headers.len(), right.headers.len())),
        (Why::QueryParameters, count(left.query.len(), right.query.len())),
        (Why::Cookies, count(left.cookies.len(), right.cookies.len())),
        (Why::ClientAddress, count(left.client_cidrs.len().min(1), right.client_cidrs.len().min(1))),
        // `None` sorts before `Some`: objects without a date count as oldest.
        (Why::Older, a.route.created.cmp(&b.route.created)),
        (Why::Name, compare_names(&a.route.id.object, &b.route.id.object)),
        (Why::EarlierRule, a.route.rule_index.cmp(&b.route.rule_index)),
        (Why::EarlierRule, a.route.id.rule.cmp(&b.route.id.rule)),
    ];
    for (why, order) in steps {
        if order != Ordering::Equal {
            return (order, why);
        }
    }
    (a.match_index.cmp(&b.match_index), Why::EarlierMatch)
}

/// Gateway API: by the text `namespace/name`. Two kinds may share it; then the kind decides.
fn compare_names(a: &ir::ObjectRef, b: &ir::ObjectRef) -> Ordering {
    fn text(object: &ir::ObjectRef) -> impl Iterator<Item = u8> + '_ {
        object.namespace.bytes().chain(std::iter::once(b'/')).chain(object.name.bytes())
    }
    text(a).cmp(text(b)).then_with(|| a.kind.cmp(&b.kind))
}
