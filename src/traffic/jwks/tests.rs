//! The schedule of key sets, with the time in hand.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn schedule() -> KeysSchedule {
    KeysSchedule::new(Duration::from_secs(600), Duration::from_secs(24 * 3600), 0, None)
}

#[test]
fn keys_are_fetched_at_once_then_a_little_before_their_time() {
    let mut keys = schedule();
    assert!(keys.is_due(0) && !keys.is_usable(0), "nothing came yet");
    keys.succeeded(SECOND, 0);
    assert!(keys.is_usable(SECOND) && !keys.is_due(SECOND));
    assert_eq!(keys.next_ns(SECOND), 601 * SECOND);
    keys.succeeded(SECOND, u64::MAX);
    assert!(keys.next_ns(SECOND) > 540 * SECOND && keys.next_ns(SECOND) <= 542 * SECOND);
    assert!(keys.is_due(601 * SECOND));
}

#[test]
fn jw11_failures_wait_longer_each_time_and_the_keys_are_good_until_they_are_stale() {
    let mut keys = schedule();
    keys.succeeded(0, 0);
    let mut now = 600 * SECOND;
    let mut waits = Vec::new();
    while now < 24 * HOUR {
        assert!(keys.is_usable(now), "at {now}");
        assert!(keys.is_due(now));
        keys.failed(now, 0);
        let next = keys.next_ns(now);
        waits.push((next - now) / SECOND);
        now = next;
    }
    assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert!(!keys.is_usable(24 * HOUR), "then nothing passes");
    keys.succeeded(25 * HOUR, 0);
    assert!(keys.is_usable(25 * HOUR), "and all is well again");
    keys.failed(26 * HOUR, 0);
    assert_eq!(keys.next_ns(26 * HOUR) - 26 * HOUR, SECOND, "the back-off begins anew");
}

#[test]
fn jw13_an_unknown_key_id_has_one_fetch_in_ten_seconds() {
    let mut keys = schedule();
    keys.succeeded(0, 0);
    let mut fetches = 0;
    for millisecond in 0..60_000 {
        let now = millisecond * SECOND / 1000;
        // A thousand unknown ids a second.
        if keys.ask(now) {
            assert!(keys.is_due(now));
            fetches += 1;
            keys.succeeded(now, 0);
        }
        assert!(!keys.is_due(now));
    }
    assert_eq!(fetches, 6);
}

#[test]
fn a_scheduled_fetch_does_not_use_up_the_one_for_an_unknown_key_id() {
    let mut keys = schedule();
    keys.succeeded(0, 0);
    keys.succeeded(600 * SECOND, 0);
    assert!(keys.ask(601 * SECOND), "a rotation right after a refresh is seen");
}

#[test]
fn keys_that_were_there_already_are_used_while_the_first_fetch_is_due() {
    let keys = KeysSchedule::new(Duration::from_secs(10), Duration::from_secs(60), MINUTE, Some(MINUTE / 2));
    assert!(keys.is_due(MINUTE) && keys.is_usable(MINUTE));
    assert_eq!(keys.next_ns(MINUTE), MINUTE);
    assert!(!keys.is_usable(MINUTE + MINUTE / 2));
}

proptest! {
    /// Whatever happens: waits are bounded on both sides, nothing is used past its time, and asking is bounded.
    #[test]
    fn every_run_keeps_its_bounds(steps in prop::collection::vec((0..3u8, any::<u64>(), 0..90 * SECOND), 1..200)) {
        let mut keys = KeysSchedule::new(Duration::from_secs(30), Duration::from_secs(120), 0, None);
        let (mut now, mut good, mut asked) = (0, None, None::<u64>);
        for (step, random, pause) in steps {
            now += pause;
            match step {
                0 => {
                    keys.succeeded(now, random);
                    good = Some(now);
                    let wait = keys.next_ns(now).saturating_sub(now);
                    prop_assert!(wait <= 30 * SECOND);
                    prop_assert!(!keys.is_due(now + 26 * SECOND));
                }
                1 => {
                    keys.failed(now, random);
                    prop_assert!(!keys.is_due(now + SECOND / 4));
                    prop_assert!(keys.is_due(now + 30 * SECOND));
                }
                _ => {
                    if keys.ask(now) {
                        prop_assert!(asked.is_none_or(|last| now >= last + 10 * SECOND));
                        asked = Some(now);
                    }
                }
            }
            prop_assert_eq!(keys.is_usable(now), good.is_some_and(|good| now < good + 120 * SECOND));
            prop_assert!(keys.next_ns(now) <= now + 30 * SECOND);
        }
    }
}
