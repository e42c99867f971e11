//! Lines are valid JSON that says what the record says.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::*;

fn record() -> AccessRecord<'static> {
    AccessRecord {
        time_unix_ms: 1_764_000_000_123,
        request_id: Some(b"01J"),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: "GET",
        host: "shop.example",
        path: "/cart",
        protocol: "HTTP/1.1",
        user_agent: None,
        status: 200,
        duration_us: 1234,
        bytes_in: 0,
        bytes_out: 5_000_000_000,
        route: "unmatched",
        upstream: None,
        attempts: 0,
        decision: None,
        reason: None,
        refused_by: None,
    }
}

fn line(record: &AccessRecord<'_>) -> String {
    let mut out = Vec::new();
    write(&mut out, record);
    String::from_utf8(out).unwrap()
}

fn parsed(record: &AccessRecord<'_>) -> Value {
    serde_json::from_str(&line(record)).unwrap()
}

#[test]
fn a_record_becomes_one_json_object_on_one_line() {
    let full = AccessRecord {
        client: IpAddr::V6(Ipv6Addr::LOCALHOST),
        user_agent: Some(b"curl/8"),
        route: "shop/cart/0",
        upstream: Some("10.0.0.1:80"),
        attempts: 2,
        decision: Some("d1"),
        reason: Some("rate-limited"),
        refused_by: Some("AuthPolicy/shop/floor office"),
        ..record()
    };
    let want = json!({
        "time": "2025-11-24T16:00:00.123Z", "request_id": "01J", "client": "::1", "method": "GET",
        "host": "shop.example", "path": "/cart", "protocol": "HTTP/1.1", "user_agent": "curl/8",
        "status": 200, "duration_us": 1234, "bytes_in": 0, "bytes_out": 5_000_000_000u64,
        "route": "shop/cart/0", "upstream": "10.0.0.1:80", "attempts": 2, "decision": "d1", "reason": "rate-limited",
        "refused_by": "AuthPolicy/shop/floor office",
    });
    assert_eq!(parsed(&full), want);
    let text = line(&full);
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
}

#[test]
fn what_is_none_is_left_out() {
    let value = parsed(&AccessRecord { request_id: None, ..record() });
    for key in ["user_agent", "request_id", "upstream", "decision", "reason"] {
        assert!(value.get(key).is_none(), "{key}");
    }
    assert_eq!(value["client"], "192.0.2.7");
}

#[test]
fn a_query_is_never_written() {
    let text = line(&AccessRecord { path: "/login?access_token=hunter2&x=?", ..record() });
    assert!(!text.contains("hunter2") && text.contains("\"path\":\"/login\""), "{text}");
}

#[test]
fn strings_survive_the_escapes() {
    let cases: &[(&[u8], &str)] = &[
        (b"", ""),
        (b"plain ~", "plain ~"),
        (b"a\"b\\c", "a\"b\\c"),
        (b"line\nfeed\r\ttab", "line\nfeed\r\ttab"),
        (b"\x00\x1b[31mred\x7f", "\u{0}\u{1b}[31mred\u{7f}"),
        ("grün 日本 🦀".as_bytes(), "grün 日本 🦀"),
        ("c1 \u{9b}31m".as_bytes(), "c1 \u{9b}31m"),
        ("sep\u{2028}x".as_bytes(), "sep\u{2028}x"),
        (b"latin \xe9\xff", "latin éÿ"),
        (b"\x9b raw c1", "\u{9b} raw c1"),
    ];
    for (input, want) in cases {
        let record = AccessRecord { user_agent: Some(input), request_id: Some(input), ..record() };
        let value = parsed(&record);
        assert_eq!(value["user_agent"], *want, "{input:?}");
        assert_eq!(value["request_id"], *want, "{input:?}");
        let raw = line(&record);
        assert!(raw.trim_end_matches('\n').chars().all(|c| !c.is_control() && c != '\u{2028}'), "{raw:?}");
    }
}

#[test]
fn every_single_byte_gives_valid_json() {
    for byte in 0..=u8::MAX {
        let value = parsed(&AccessRecord { user_agent: Some(&[b'x', byte, b'y']), ..record() });
        assert_eq!(value["user_agent"], format!("x{}y", char::from(byte)), "{byte:#x}");
    }
}

#[test]
fn long_values_are_cut_at_a_character() {
    let long = "a".repeat(10_000);
    let value = parsed(&AccessRecord { path: &long, user_agent: Some(long.as_bytes()), ..record() });
    assert_eq!(value["path"], format!("{}…", "a".repeat(PATH_BYTES_MAX)));
    assert_eq!(value["user_agent"], format!("{}…", "a".repeat(USER_AGENT_BYTES_MAX)));
    let exact = "a".repeat(USER_AGENT_BYTES_MAX);
    assert_eq!(parsed(&AccessRecord { user_agent: Some(exact.as_bytes()), ..record() })["user_agent"], exact);
    // 255 bytes and then a character of two, four or three that stands across the border.
    for character in ["é", "日", "🦀"] {
        let torn = format!("{}{}", "a".repeat(USER_AGENT_BYTES_MAX - 1), character.repeat(20));
        let value = parsed(&AccessRecord { user_agent: Some(torn.as_bytes()), ..record() });
        assert_eq!(value["user_agent"], format!("{}…", "a".repeat(USER_AGENT_BYTES_MAX - 1)), "{character}");
    }
}

#[test]
fn the_longest_line_has_a_bound() {
    let nasty = "\u{1}".repeat(1 << 20);
    let bytes = nasty.as_bytes();
    let text = line(&AccessRecord {
        request_id: Some(bytes),
        method: &nasty,
        host: &nasty,
        path: &nasty,
        protocol: &nasty,
        user_agent: Some(bytes),
        ..record()
    });
    assert!(text.len() < 20 << 10, "{}", text.len());
}

#[test]
fn timestamps_are_those_of_the_calendar() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
        (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (4_107_456_000_000, "2100-02-28T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (unix_ms, want) in cases {
        let mut out = Vec::new();
        timestamp(&mut out, unix_ms);
        assert_eq!(String::from_utf8(out).unwrap(), want, "{unix_ms}");
    }
}

#[test]
fn every_day_of_four_centuries_follows_the_one_before() {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..146_097u64 {
        let mut out = Vec::new();
        timestamp(&mut out, days * 86_400_000);
        let want = format!("{year:04}-{month:02}-{day:02}T");
        assert!(out.starts_with(want.as_bytes()), "{want} {}", String::from_utf8_lossy(&out));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > length {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
}
