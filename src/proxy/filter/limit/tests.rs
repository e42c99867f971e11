//! How limits show.

use std::time::Duration;

use ir::{LimitCost, LimitHeaders, Rate};
use traffic::LimitVerdict;

use super::*;

fn rate(requests: u32, per: Duration) -> Rate {
    Rate { requests, per, burst: requests, counting: RateCounting::Gcra }
}

fn limit(rates: &[Rate]) -> Limit {
    Limit {
        name: "few".into(),
        when: None,
        keys: Vec::new(),
        rates: rates.to_vec(),
        cost: LimitCost::default(),
        concurrency: None,
        keys_max: 10,
        mode: LimitMode::Enforce,
        phase: LimitPhase::PreAuth,
    }
}

#[test]
fn the_state_names_the_policy_of_the_rate_that_it_is_of() {
    let limit = limit(&[rate(100, Duration::from_secs(1)), rate(5, Duration::from_secs(3600))]);
    let store = LimitStore::new(&limit);
    let quota = quota(&limit);
    for (left, want) in [("4", "\"few.2\""), ("3", "\"few.2\"")] {
        let verdict: LimitVerdict = store.check(LimitNow::default(), 1, 1);
        let mut notes = LimitNotes::default();
        notes.note(Shown { headers: LimitHeaders::Standard, limit: &limit, quota: &quota }, verdict);
        let mut headers = HeaderMap::new();
        notes.apply(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"few\";q=100;w=1, \"few.2\";q=5;w=3600");
        let said = headers["ratelimit"].to_str().unwrap();
        assert!(said.starts_with(&format!("{want};r={left};t=")), "{said}");
    }
}

#[test]
fn a_window_is_never_told_shorter_than_it_is() {
    for (per_ms, want) in [(1, 1), (1000, 1), (1001, 2), (1500, 2), (60_000, 60)] {
        let told = String::from_utf8(quota(&limit(&[rate(9, Duration::from_millis(per_ms))]))).unwrap();
        assert_eq!(told, format!("\"few\";q=9;w={want}"), "{per_ms} ms");
    }
}
