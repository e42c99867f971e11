//! Tests of which Secrets are taken by their labels.

use std::collections::HashMap;
use std::sync::Arc;

use ir::{Kind, ObjectRef};
use translate::Selection;

use super::super::resource::Target;
use super::super::selection::{Labels, Selections, Shift};
use super::secret;

fn labels(tier: &str) -> Labels {
    [("tier".to_owned(), tier.to_owned()), ("app".to_owned(), "shop".to_owned())].into()
}

fn gold() -> Selection {
    Selection { namespace: "shop".into(), labels: [("tier".to_owned(), "gold".to_owned())].into() }
}

fn everywhere() -> Target {
    Target { kind: Kind::Secret, namespace: None, name: None }
}

fn gained(names: &[&str]) -> Shift {
    Shift { gained: names.iter().map(|name| secret(name)).collect(), lost: Vec::new() }
}

fn lost(names: &[&str]) -> Shift {
    Shift { gained: Vec::new(), lost: names.iter().map(|name| secret(name)).collect() }
}

#[test]
fn secrets_are_taken_whichever_comes_first_the_list_or_the_selection() {
    let list = || -> HashMap<ObjectRef, Labels> {
        let foreign = ObjectRef::new(Kind::Secret, Arc::from("other"), "a");
        [(secret("a"), labels("gold")), (secret("b"), labels("silver")), (foreign, labels("gold"))].into()
    };
    let mut first = Selections::default();
    assert_eq!(first.listed(&everywhere(), list()), Shift::default());
    assert_eq!(first.add(vec![gold()]), gained(&["a"]));
    let mut second = Selections::default();
    assert_eq!(second.add(vec![gold()]), Shift::default());
    assert_eq!(second.listed(&everywhere(), list()), gained(&["a"]), "of its own namespace only");
    assert_eq!(second.taken_by(&[gold()]), [secret("a")]);
}

#[test]
fn labels_that_change_take_and_give_up() {
    let mut selections = Selections::default();
    selections.add(vec![gold()]);
    assert_eq!(selections.changed(&secret("a"), labels("silver")), Shift::default());
    assert_eq!(selections.changed(&secret("a"), labels("gold")), gained(&["a"]));
    assert_eq!(selections.changed(&secret("a"), labels("gold")), Shift::default());
    assert_eq!(selections.changed(&secret("a"), labels("silver")), lost(&["a"]));
    selections.changed(&secret("a"), labels("gold"));
    assert_eq!(selections.changed(&secret("a"), Labels::new()), lost(&["a"]), "it was deleted");
    selections.changed(&secret("b"), labels("gold"));
    assert_eq!(selections.listed(&everywhere(), HashMap::new()), lost(&["b"]), "a new list lacks it");
}

#[test]
fn a_selection_ends_with_the_last_object_that_asks_for_it() {
    let mut selections = Selections::default();
    selections.changed(&secret("a"), labels("gold"));
    assert_eq!(selections.add(vec![gold()]), gained(&["a"]));
    assert_eq!(selections.add(vec![gold()]), Shift::default());
    assert_eq!(selections.remove(vec![gold()]), Shift::default());
    assert_eq!(selections.remove(vec![gold()]), lost(&["a"]));
    assert!(selections.taken().is_empty());
}
