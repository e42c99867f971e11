//! Each type of frame with what it must not hold: RFC 9113 §6.

use e2e::h2_client::{
    ACK, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, GOAWAY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, PADDED, PING,
    PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, WITH_PRIORITY, frame,
};

use super::{Case, End, Rules, block, case, end, get, held, post};

/// RFC 9113 §4.2 has a code for the wrong length of a frame.
const ONE_CODE: &str =
    "the library says PROTOCOL_ERROR for what it cannot read: the connection ends as it should";

/// A frame of a wrong length, which ends the connection.
fn wrong_length(section: &'static str, what: &'static str, send: Vec<u8>) -> Case {
    case(section, what, send, End::Connection(FRAME_SIZE_ERROR))
        .instead(End::Connection(PROTOCOL_ERROR), ONE_CODE)
}

#[test]
fn data_and_headers_with_padding_or_of_stream_0() {
    let protocol = End::Connection(PROTOCOL_ERROR);
    let body = |flags: u8, payload: &[u8]| [post(1), frame(DATA, flags, 1, payload)].concat();
    let whole = END_HEADERS | END_STREAM;
    let padded = |padding: u8, block: &[u8], rest: usize| {
        frame(HEADERS, whole | PADDED, 1, &[&[padding], block, &vec![0; rest]].concat())
    };
    let get_block = block("GET", "/");
    Rules::start().judge([
        case("6.1", "DATA of stream 0", frame(DATA, 0, 0, b"x"), protocol),
        case("6.1", "padding as long as the payload", body(PADDED, &[4, 1, 2, 3]), protocol),
        case("6.1", "padding longer than the payload", body(PADDED | END_STREAM, &[255, 1]), protocol),
        case("6.1", "nothing but padding", body(PADDED | END_STREAM, &[3, 0, 0, 0]), End::Answer(1, 200)),
        case("6.1", "padding of nothing", body(PADDED | END_STREAM, &[0, b'x']), End::Answer(1, 200)),
        case("6.1", "no DATA at all", body(END_STREAM, &[]), End::Answer(1, 200)),
        wrong_length("6.1", "padding without its length", body(PADDED, &[])),
        case("6.2", "HEADERS of stream 0", frame(HEADERS, whole, 0, &get_block), protocol),
        case("6.2", "padding of HEADERS", padded(9, &get_block, 9), End::Answer(1, 200)),
        case("6.2", "padding of HEADERS that is too long", padded(200, &[], 199), protocol),
        wrong_length(
            "6.2",
            "HEADERS without the length of their padding",
            frame(HEADERS, whole | PADDED, 1, &[]),
        ),
        wrong_length(
            "6.2",
            "HEADERS with half a priority",
            frame(HEADERS, whole | WITH_PRIORITY, 1, &[0, 0, 0]),
        ),
        case("6.2", "HEADERS of nothing", frame(HEADERS, whole, 1, &[]), End::Stream(1, PROTOCOL_ERROR)),
    ]);
}

#[test]
fn priority_reset_push_ping_and_goaway() {
    let protocol = End::Connection(PROTOCOL_ERROR);
    let push = [&[0, 0, 0, 2][..], &block("GET", "/")].concat();
    Rules::start().judge([
        case("6.3", "PRIORITY of stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), protocol),
        case(
            "6.3",
            "PRIORITY of four bytes",
            frame(PRIORITY, 0, 1, &[0; 4]),
            End::Stream(1, FRAME_SIZE_ERROR),
        )
        .instead(protocol, ONE_CODE),
        case(
            "6.3",
            "PRIORITY of six bytes",
            frame(PRIORITY, 0, 1, &[0; 6]),
            End::Stream(1, FRAME_SIZE_ERROR),
        )
        .instead(protocol, ONE_CODE),
        case("6.4", "RST_STREAM of stream 0", frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]), protocol),
        wrong_length(
            "6.4",
            "RST_STREAM of three bytes",
            [held(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        wrong_length("6.4", "RST_STREAM of five bytes", [held(1), frame(RST_STREAM, 0, 1, &[0; 5])].concat()),
        case("6.6", "PUSH_PROMISE", [held(1), frame(PUSH_PROMISE, END_HEADERS, 1, &push)].concat(), protocol),
        case("6.6", "PUSH_PROMISE of stream 0", frame(PUSH_PROMISE, END_HEADERS, 0, &push), protocol),
        case("6.7", "PING of a stream", frame(PING, 0, 1, &[0; 8]), protocol),
        wrong_length("6.7", "PING of six bytes", frame(PING, 0, 0, &[0; 6])),
        wrong_length("6.7", "PING of nine bytes", frame(PING, 0, 0, &[0; 9])),
        case("6.7", "an answer to no PING", frame(PING, ACK, 0, b"nobody's"), End::Nothing),
        case("6.8", "GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), protocol),
        wrong_length("6.8", "GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7])),
    ]);
}

/// SETTINGS with these entries.
fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

#[test]
fn settings_that_cannot_be() {
    let protocol = End::Connection(PROTOCOL_ERROR);
    let flow = End::Connection(FLOW_CONTROL_ERROR);
    let then_get = |entries: &[(u16, u32)]| [settings(entries), get(1)].concat();
    Rules::start().judge([
        case("6.5", "SETTINGS of nothing", settings(&[]), End::Nothing),
        case("6.5", "SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), protocol),
        wrong_length("6.5", "an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6])),
        wrong_length("6.5", "SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1])),
        case("6.5", "an acknowledgement of a stream", frame(SETTINGS, ACK, 1, &[]), protocol),
        case("6.5.2", "ENABLE_PUSH of 2", settings(&[(ENABLE_PUSH, 2)]), protocol),
        case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), flow)
            .instead(protocol, ONE_CODE),
        case("6.5.2", "MAX_FRAME_SIZE of 16383", settings(&[(MAX_FRAME_SIZE, 16_383)]), protocol),
        case("6.5.2", "MAX_FRAME_SIZE of 2^24", settings(&[(MAX_FRAME_SIZE, 1 << 24)]), protocol),
        case(
            "6.5.2",
            "an unknown setting",
            then_get(&[(0xffff, u32::MAX), (0x00aa, 0)]),
            End::Answer(1, 200),
        ),
        case("6.5.2", "a table of nothing", then_get(&[(HEADER_TABLE_SIZE, 0)]), End::Answer(1, 200)),
        case(
            "6.5.2",
            "a table of everything",
            then_get(&[(HEADER_TABLE_SIZE, u32::MAX)]),
            End::Answer(1, 200),
        ),
        case(
            "RFC 8441 3",
            "ENABLE_CONNECT_PROTOCOL of 2",
            settings(&[(ENABLE_CONNECT_PROTOCOL, 2)]),
            protocol,
        ),
    ]);
}

#[test]
fn settings_and_pings_are_answered_one_by_one() {
    // RFC 9113 §6.5.3 and §6.7.
    let rules = Rules::start();
    let mut connection = rules.connect();
    let bytes: Vec<u8> = (0..5u64)
        .flat_map(|number| {
            [settings(&[(MAX_FRAME_SIZE, 1 << 20)]), frame(PING, 0, 0, &number.to_be_bytes())].concat()
        })
        .collect();
    connection.send_raw(&bytes).unwrap();
    let (mut acknowledged, mut pongs) = (0, Vec::new());
    while pongs.len() < 5 || acknowledged < 6 {
        let frame = connection.turn().unwrap();
        match (frame.kind, frame.flags & ACK != 0) {
            // The first is for what came with the preface.
            (SETTINGS, true) => acknowledged += usize::from(frame.payload.is_empty()),
            (PING, true) => pongs.push(frame.payload),
            _ => {}
        }
    }
    let want: Vec<Vec<u8>> = (0..5u64).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(pongs, want);
    connection.send_raw(&[post(1), end(1)].concat()).unwrap();
    assert_eq!(connection.wait_for("an answer", |c| c.so_far(1)).unwrap().status(), Some(200));
}
