//! Very many frames of which each by itself is allowed, or costs no more than its stream: RFC 9113 §10.5.

use e2e::h2_client::{
    CANCEL, DATA, ENHANCE_YOUR_CALM, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};

use super::{End, Rules, case, held, post};

/// The bytes of this many streams.
fn streams(count: u32, of: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| of(2 * number + 1)).collect()
}

#[test]
fn a_client_that_only_costs_is_sent_away_and_what_costs_nothing_is_borne() {
    let calm = End::Connection(ENHANCE_YOUR_CALM);
    let too_much = 0x7fff_ffff_u32.to_be_bytes();
    // Hardening H202, CVE-2025-8671: the server itself resets what the client has broken.
    let broken = |stream| [held(stream), frame(WINDOW_UPDATE, 0, stream, &too_much)].concat();
    // CVE-2023-44487, as it came. Hardening H201 goes further: the library counts what is reset before it is taken, and
    // not what is reset later.
    let reset = |stream| [held(stream), frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat();
    let repeated = |count: usize, frame: Vec<u8>| frame.repeat(count);
    let rules = Rules::start();
    rules.judge([
        case("10.5", "2,000 streams that the server must reset", streams(2_000, broken), calm),
        case("10.5", "10,000 streams that the client resets at once", streams(10_000, reset), calm),
        // CVE-2019-9518.
        case(
            "10.5",
            "20,000 times no DATA",
            [post(1), repeated(20_000, frame(DATA, 0, 1, &[]))].concat(),
            calm,
        ),
        case("10.5", "5,000 times SETTINGS", repeated(5_000, frame(SETTINGS, 0, 0, &[])), End::Nothing),
        case("10.5", "5,000 times PING", repeated(5_000, frame(PING, 0, 0, b"8 bytes!")), End::Nothing),
        case("10.5", "20,000 priorities", streams(20_000, |s| frame(PRIORITY, 0, s, &[0; 5])), End::Nothing),
    ]);
}
