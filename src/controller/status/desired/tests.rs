//! The three conditions, row by row.

use super::*;

fn judgement(holds: bool, reason: ConditionReason) -> Judgement {
    Judgement { holds, reason, message: "said by translation".to_owned() }
}

#[test]
fn what_an_object_says_follows_from_how_it_stands_and_how_far_the_replicas_are() {
    use ConditionReason as R;
    let (yes, no) = (true, false);
    let rows = [
        // accepted, resolved, live, ready, Programmed: status, reason, message
        ((yes, R::Accepted), yes, 3, 3, (yes, R::Programmed, "live on 3/3 replicas")),
        ((yes, R::Accepted), yes, 2, 3, (no, R::Pending, "live on 2/3 replicas")),
        ((yes, R::Accepted), yes, 0, 1, (no, R::Pending, "live on 0/1 replicas")),
        ((yes, R::Accepted), yes, 0, 0, (no, R::Pending, "no replica is ready")),
        (
            (yes, R::Accepted),
            no,
            3,
            3,
            (
                yes,
                R::Programmed,
                "live on 3/3 replicas; some of what it names cannot be used, see condition ResolvedRefs",
            ),
        ),
        (
            (yes, R::PartiallyInvalid),
            yes,
            1,
            1,
            (
                yes,
                R::Programmed,
                "live on 1/1 replicas; some of its rules are refused, see condition Accepted",
            ),
        ),
        (
            (yes, R::PartiallyInvalid),
            no,
            1,
            1,
            (
                yes,
                R::Programmed,
                "live on 1/1 replicas; some of its rules are refused and some of what it names cannot be used, \
                 see the other conditions",
            ),
        ),
        ((yes, R::PartiallyInvalid), no, 1, 2, (no, R::Pending, "live on 1/2 replicas")),
        (
            (no, R::Invalid),
            yes,
            3,
            3,
            (no, R::Invalid, "not served as it is written: condition Accepted says why, and what to do"),
        ),
        (
            (no, R::TargetNotFound),
            no,
            0,
            3,
            (no, R::Invalid, "not served as it is written: condition Accepted says why, and what to do"),
        ),
    ];
    for row in rows {
        check(row);
    }
}

type Row = ((bool, ConditionReason), bool, usize, usize, (bool, ConditionReason, &'static str));

fn check(row: Row) {
    let ((holds, reason), resolved, live, ready, (status, why, message)) = row;
    let refs = if resolved { ConditionReason::ResolvedRefs } else { ConditionReason::BackendNotFound };
    let standing = Standing { accepted: judgement(holds, reason), resolved_refs: judgement(resolved, refs) };
    let said = "said by translation".to_owned();
    let want = [
        Verdict { about: ConditionType::Accepted, holds, reason, message: said.clone() },
        Verdict { about: ConditionType::ResolvedRefs, holds: resolved, reason: refs, message: said },
        Verdict { about: ConditionType::Programmed, holds: status, reason: why, message: message.to_owned() },
    ];
    assert_eq!(verdicts(&standing, Reach { live, ready }), want, "{row:?}");
}

#[test]
fn a_message_is_cut_between_letters() {
    assert_eq!(short(&"a".repeat(1000)).len(), 1000);
    for letter in ["a", "é", "€", "🦀"] {
        let cut = short(&letter.repeat(2000));
        assert!(cut.len() <= 1000 && cut.len() > 990 && cut.ends_with('…'), "{letter}: {}", cut.len());
    }
}
