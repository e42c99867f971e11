//! How findings become conditions.

use ir::{Kind, ObjectRef};

use super::*;
use crate::report::{Fault, Field, Lines};

fn lines(faults: &[(Option<Fault>, &str)]) -> Vec<ReportLine> {
    let mut lines = Lines::new(ObjectRef::new(Kind::GatewayRoute, "n", "r"));
    for (fault, message) in faults {
        let field = Field::root("spec");
        match fault {
            Some(fault) => drop(lines.fault(*fault, field, *message, "do it")),
            None => lines.warning(field, *message, "do it"),
        }
    }
    lines.into_vec()
}

fn stands(faults: &[(Option<Fault>, &str)], extent: Extent) -> (bool, &'static str, bool, &'static str) {
    let standing = standing(&[&lines(faults)], extent, None);
    let Standing { accepted, resolved_refs } = &*standing;
    (accepted.holds, accepted.reason.as_str(), resolved_refs.holds, resolved_refs.reason.as_str())
}

#[test]
fn each_sort_of_fault_has_its_condition_and_reason() {
    use Extent::{NoTarget, Refused, Served};
    let fault = |fault| vec![(Some(fault), "m")];
    let cases = [
        ("nothing", vec![], Served, (true, "Accepted", true, "ResolvedRefs")),
        ("a warning", vec![(None, "m")], Served, (true, "Accepted", true, "ResolvedRefs")),
        ("a part", fault(Fault::Invalid), Served, (true, "PartiallyInvalid", true, "ResolvedRefs")),
        ("all", fault(Fault::Invalid), Refused, (false, "Invalid", true, "ResolvedRefs")),
        ("a target", fault(Fault::TargetNotFound), Served, (true, "Accepted", true, "ResolvedRefs")),
        ("a rule", fault(Fault::RuleNotFound), Served, (true, "PartiallyInvalid", true, "ResolvedRefs")),
        (
            "all targets",
            fault(Fault::TargetNotFound),
            NoTarget,
            (false, "TargetNotFound", true, "ResolvedRefs"),
        ),
        ("a Service", fault(Fault::BackendNotFound), Served, (true, "Accepted", false, "BackendNotFound")),
        ("a Secret", fault(Fault::InvalidReference), Served, (true, "Accepted", false, "InvalidReference")),
        ("no grant", fault(Fault::RefNotPermitted), Served, (true, "Accepted", false, "RefNotPermitted")),
        (
            "an address",
            fault(Fault::AddressNotPermitted),
            Served,
            (true, "Accepted", false, "AddressNotPermitted"),
        ),
        (
            "several: the worst names the reason",
            vec![
                (Some(Fault::BackendNotFound), "m"),
                (Some(Fault::InvalidReference), "m"),
                (Some(Fault::AddressNotPermitted), "m"),
                (Some(Fault::Invalid), "m"),
            ],
            Served,
            (true, "PartiallyInvalid", false, "AddressNotPermitted"),
        ),
    ];
    for (name, faults, extent, want) in cases {
        assert_eq!(stands(&faults, extent), want, "{name}");
    }
}

#[test]
fn messages_name_field_problem_and_remedy_and_how_many_more_there_are() {
    let found = lines(&[
        (Some(Fault::BackendNotFound), "no a"),
        (Some(Fault::Invalid), "bad b"),
        (None, "no matter"),
        (Some(Fault::RefNotPermitted), "no c"),
        (Some(Fault::Invalid), "bad d"),
        (Some(Fault::Invalid), "bad e"),
    ]);
    let standing = standing(&[&found], Extent::Served, None);
    assert_eq!(standing.accepted.message, "spec: bad b; do it (and 2 more)");
    assert_eq!(standing.resolved_refs.message, "spec: no c; do it | spec: no a; do it");
}

#[test]
fn messages_are_cut_at_a_whole_character() {
    // What stands around the text: "spec: " and "; do it".
    let around = 13;
    for letter in ["a", "é", "\u{1f600}"] {
        for length in 900..1100 {
            let text = "x".repeat(length % letter.len()) + &letter.repeat(length / letter.len());
            let found = lines(&[(Some(Fault::Invalid), &text), (Some(Fault::BackendNotFound), &text)]);
            let standing = standing(&[&found], Extent::Served, None);
            for message in [&standing.accepted.message, &standing.resolved_refs.message] {
                let fits = length + around <= MESSAGE_BYTES_MAX;
                assert_eq!(message.ends_with("; do it"), fits, "{letter} {length}");
                assert_eq!(message.ends_with('…'), !fits, "{letter} {length}");
                assert!(message.len() <= MESSAGE_BYTES_MAX, "{letter} {length}: {}", message.len());
                assert!(
                    fits || message.len() > MESSAGE_BYTES_MAX - 4,
                    "{letter} {length}: {}",
                    message.len()
                );
            }
        }
    }
}

#[test]
fn however_many_findings_there_are_the_message_is_bounded_and_counts_them() {
    let long = "é".repeat(600);
    let found =
        lines(&[(Some(Fault::Invalid), long.as_str()), (Some(Fault::BackendNotFound), "gone")].repeat(90));
    let standing = standing(&[&found], Extent::Refused, None);
    let (accepted, resolved) = (&standing.accepted.message, &standing.resolved_refs.message);
    assert!(accepted.ends_with("… (and 89 more)") && accepted.len() <= MESSAGE_BYTES_MAX, "{accepted}");
    assert!(resolved.ends_with('…') && resolved.len() <= MESSAGE_BYTES_MAX, "{resolved}");
    assert!(resolved.starts_with("spec: gone; do it | spec: gone; do it | "), "{resolved}");
}

#[test]
fn an_equal_standing_is_the_very_same_and_good_ones_are_all_one() {
    let found = lines(&[(Some(Fault::Invalid), "bad")]);
    let first = standing(&[&found], Extent::Served, None);
    assert!(Arc::ptr_eq(&first, &standing(&[&found], Extent::Served, Some(&first))));
    assert!(!Arc::ptr_eq(&first, &standing(&[&found], Extent::Refused, Some(&first))));
    let good = standing(&[], Extent::Served, None);
    assert!(Arc::ptr_eq(&good, &standing(&[&lines(&[(None, "so what")])], Extent::Served, Some(&first))));
}
