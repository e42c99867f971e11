//! Tests of what a query asks of the echo upstream.

use super::*;

#[test]
fn the_query_decides_status_delay_length_and_end_of_the_connection() {
    let plain = || Wish {
        status: StatusCode::OK,
        delay: Duration::ZERO,
        pattern_bytes: None,
        chunked: false,
        close: false,
    };
    let cases: &[(&str, Option<Wish>)] = &[
        ("", Some(plain())),
        ("a=b&c", Some(plain())),
        ("status=503", Some(Wish { status: StatusCode::SERVICE_UNAVAILABLE, ..plain() })),
        ("delay=200ms&close", Some(Wish { delay: Duration::from_millis(200), close: true, ..plain() })),
        ("bytes=20Mi&chunked", Some(Wish { pattern_bytes: Some(20 << 20), chunked: true, ..plain() })),
        ("status=99", None),
        ("status=101", None),
        ("status=x", None),
        ("delay=5", None),
        ("bytes=-1", None),
    ];
    for (query, want) in cases {
        assert_eq!(Wish::read(query).ok().as_ref(), want.as_ref(), "{query:?}");
    }
}
