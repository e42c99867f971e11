//! Durations and quantities are read as their patterns say, and no further.

use serde_json::json;

use super::*;

#[test]
fn durations_are_read_as_gep_2257_says() {
    let rows = [
        ("0s", Some(0)),
        ("30s", Some(30_000)),
        ("250ms", Some(250)),
        ("1h30m", Some(5_400_000)),
        ("1h2m3s4ms", Some(3_723_004)),
        ("1s1s1s1s", Some(4_000)),
        ("99999h", Some(359_996_400_000)),
        ("", None),
        ("30", None),
        ("s", None),
        ("1.5s", None),
        ("-1s", None),
        ("100000s", None),
        ("1s1s1s1s1s", None),
        ("1d", None),
        (" 1s", None),
        ("1s ", None),
        ("1µs", None),
        ("٣s", None),
    ];
    for (text, want) in rows {
        assert_eq!(Duration::parse(text).map(|d| d.get().as_millis()), want, "{text:?}");
        assert_eq!(serde_json::from_value::<Duration>(json!(text)).is_ok(), want.is_some(), "{text:?}");
    }
}

#[test]
fn a_written_duration_reads_back_as_itself() {
    for millis in [0, 1, 999, 1_000, 59_999, 3_600_000, 3_723_004, 86_400_000, 2_678_400_000] {
        let duration = Duration::from_millis(millis);
        assert_eq!(Duration::parse(&duration.to_string()), Some(duration), "{millis}");
    }
}

#[test]
fn quantities_are_read_as_text_and_as_number() {
    let rows = [
        (json!("0"), Some(0)),
        (json!(0), Some(0)),
        (json!("8Mi"), Some(8 << 20)),
        (json!("500k"), Some(500_000)),
        (json!("2M"), Some(2_000_000)),
        (json!("1Gi"), Some(1 << 30)),
        (json!("999999Ti"), Some(999_999 << 40)),
        (json!("999999999999999"), Some(999_999_999_999_999)),
        (json!(4_294_967_296_u64), Some(4_294_967_296)),
        (json!(-1), None),
        (json!(1.5), None),
        (json!("-1"), None),
        (json!("1.5Mi"), None),
        (json!("1e3"), None),
        (json!("Mi"), None),
        (json!("1000000Ki"), None),
        (json!("1000000000000000"), None),
        (json!("1K"), None),
        (json!(""), None),
        (json!(true), None),
    ];
    for (value, want) in rows {
        assert_eq!(
            serde_json::from_value::<ByteQuantity>(value.clone()).ok().map(ByteQuantity::bytes),
            want,
            "{value}"
        );
    }
}
