//! Flow control: RFC 9113 §6.9. What a client grants is obeyed, what it cannot grant or must not send is an error.

use e2e::echo::Echo;
use e2e::folder::route;
use e2e::h2_client::{
    DATA, END_HEADERS, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, H2Connection, H2Request, HEADERS,
    INITIAL_WINDOW_SIZE, PROTOCOL_ERROR, SETTINGS, WINDOW_UPDATE, frame,
};
use e2e::sockets::Unreachable;

use super::{End, Rules, block, case, held};
use crate::site::{HOST, site, spec};

const MOST: u32 = (1 << 31) - 1;

fn grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn initial_window(bytes: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &bytes.to_be_bytes()].concat())
}

#[test]
fn a_window_that_cannot_be_is_an_error_of_what_it_is_for() {
    let one_code =
        "the library says PROTOCOL_ERROR for what it cannot read: the connection ends as it should";
    let protocol = End::Connection(PROTOCOL_ERROR);
    let wrong_length =
        |what, send| case("6.9", what, send, End::Connection(FRAME_SIZE_ERROR)).instead(protocol, one_code);
    Rules::start().judge([
        case("6.9", "nothing for the connection", grant(0, 0), protocol),
        case("6.9", "nothing for a stream", [held(1), grant(1, 0)].concat(), End::Stream(1, PROTOCOL_ERROR)),
        case("6.9", "the reserved bit alone", grant(0, 1 << 31), protocol),
        wrong_length("three bytes", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        wrong_length("five bytes", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 0, 1])),
        case(
            "6.9.1",
            "more than 2^31-1 for the connection",
            grant(0, MOST),
            End::Connection(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.1",
            "more in two steps",
            [grant(0, MOST - 65_535), grant(0, 1)].concat(),
            End::Connection(FLOW_CONTROL_ERROR),
        ),
        case("6.9.1", "2^31-1 and no more", grant(0, MOST - 65_535), End::Nothing),
        case(
            "6.9.1",
            "more than 2^31-1 for a stream",
            [held(1), grant(1, MOST)].concat(),
            End::Stream(1, FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.2",
            "SETTINGS by which a stream's window becomes more than 2^31-1",
            [held(1), grant(1, MOST - 65_535), initial_window(65_536)].concat(),
            End::Connection(FLOW_CONTROL_ERROR),
        ),
    ]);
}

#[test]
fn more_than_a_window_holds_is_an_error_of_flow_control() {
    // The upstream takes no connection, so that nothing of the body is read and nothing granted.
    let upstream = Unreachable::start();
    let site = site(&route("shop", &spec(upstream.address, "")));
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &block("POST", "/"));
    let mut connection = H2Connection::plain(site.gateway.http).unwrap();
    connection.settle().unwrap();
    let window = usize::try_from(connection.peer.initial_window).unwrap();
    let stream = connection.new_stream();
    let block = vec![0; 16_384];
    let mut bytes = open(stream);
    let mut left = window + 1;
    while left > 0 {
        let piece = left.min(block.len());
        bytes.extend(frame(DATA, 0, stream, &block[..piece]));
        left -= piece;
    }
    connection.send_raw(&bytes).unwrap();
    assert_eq!(
        connection.outcome(stream).unwrap().code(),
        Some(FLOW_CONTROL_ERROR),
        "a stream of {window} bytes"
    );
}

#[test]
fn a_window_that_shrinks_below_nothing_comes_back_byte_by_byte() {
    // RFC 9113 §6.9.2.
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    let mut connection = H2Connection::plain_with(site.gateway.http, &[(INITIAL_WINDOW_SIZE, 3)]).unwrap();
    connection.grants = false;
    let stream = connection.send(&H2Request::get(HOST, "/?bytes=10")).unwrap();
    connection.wait_for("three bytes", |c| (c.held(stream) == 3).then_some(())).unwrap();
    // One below nothing, then nothing, then one.
    connection.send_raw(&[initial_window(2), grant(stream, 1)].concat()).unwrap();
    connection.ping().unwrap();
    assert_eq!(connection.held(stream), 3);
    connection.grant(stream, 1).unwrap();
    connection.wait_for("a fourth byte", |c| (c.held(stream) == 4).then_some(())).unwrap();
    // Streams that are open get what the setting grows by, and of two entries the last counts (§6.5.3).
    let both = [(INITIAL_WINDOW_SIZE, 2u32), (INITIAL_WINDOW_SIZE, 4)]
        .map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .concat();
    connection.send_frame(SETTINGS, 0, 0, &both).unwrap();
    connection.wait_for("six bytes", |c| (c.held(stream) == 6).then_some(())).unwrap();
    connection.ping().unwrap();
    assert_eq!(connection.held(stream), 6);
    connection.grant(stream, 4).unwrap();
    assert_eq!(connection.response(stream).unwrap().body.len(), 10);
}
