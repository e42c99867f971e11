//! Frames as such and the states of streams: RFC 9113 §3 to §5 and §8.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use e2e::backend::Backend;
use e2e::h2_client::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, GOAWAY,
    H2Connection, H2Request, HEADERS, NO_ERROR, PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, RST_STREAM,
    SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, WITH_PRIORITY, frame,
};
use e2e::hpack::encode;
use e2e::tls_client::{TlsConnection, connect};

use super::{Case, End, Rules, block, case, end, get, held, is_silence, post};
use crate::site::HOST;

/// The library has one code for what it takes for a broken connection.
const ONE_CODE: &str =
    "the library says PROTOCOL_ERROR where a closer code exists: the connection ends as it should";

const UNKNOWN: u8 = 0x16;

#[test]
fn frames_of_unknown_types_with_unknown_flags_or_of_a_wrong_size_do_as_the_rfc_says() {
    let reserved = 1 << 31;
    let long = vec![0; 16_385];
    let unknown_between = [post(1), frame(UNKNOWN, 0xff, 1, b"x"), end(1)].concat();
    let all_flags = END_HEADERS | END_STREAM | 0x42;
    // Only the head of a frame: nobody waits for what it announces.
    let announced = [0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1];
    Rules::start().judge([
        case("4.1", "an unknown type", frame(UNKNOWN, 0xff, 0, b"anything"), End::Nothing),
        case("4.1", "an unknown type on an idle stream", frame(UNKNOWN, 0, 1, b"x"), End::Nothing),
        case("4.1", "an unknown type between head and body", unknown_between, End::Answer(1, 200)),
        case("4.1", "unknown flags of PING", frame(PING, 0xfe, 0, b"8 bytes!"), End::Nothing),
        case(
            "4.1",
            "unknown flags of HEADERS",
            frame(HEADERS, all_flags, 1, &block("GET", "/")),
            End::Answer(1, 200),
        ),
        case("4.1", "the reserved bit of PING", frame(PING, 0, reserved, b"8 bytes!"), End::Nothing),
        case(
            "4.1",
            "the reserved bit of HEADERS",
            frame(HEADERS, END_HEADERS | END_STREAM, reserved | 1, &block("GET", "/")),
            End::Answer(1, 200),
        ),
        case(
            "4.2",
            "DATA of the largest size",
            [post(1), frame(DATA, END_STREAM, 1, &long[1..])].concat(),
            End::Answer(1, 200),
        ),
        case(
            "4.2",
            "DATA of one byte more",
            [post(1), frame(DATA, 0, 1, &long)].concat(),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        case(
            "4.2",
            "HEADERS that are too long",
            frame(HEADERS, 4, 1, &long),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        case(
            "4.2",
            "an unknown type that is too long",
            frame(UNKNOWN, 0, 0, &long),
            End::Connection(FRAME_SIZE_ERROR),
        ),
        case(
            "4.2",
            "16 MiB that are only announced",
            [&post(1)[..], &announced].concat(),
            End::Connection(FRAME_SIZE_ERROR),
        ),
    ]);
}

/// A header block of stream 1 that something cuts in two.
fn cut_by(between: &[u8]) -> Vec<u8> {
    let block = block("GET", "/");
    let (first, rest) = block.split_at(9);
    let first = frame(HEADERS, END_STREAM, 1, first);
    [&first, between, &frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
}

/// A header block in this many pieces, one in HEADERS.
fn in_pieces(count: usize) -> Vec<u8> {
    let block = block("GET", "/");
    let pieces: Vec<&[u8]> = block.chunks(block.len().div_ceil(count)).collect();
    let last = pieces.len() - 1;
    let of = |(number, piece): (usize, &&[u8])| match number {
        0 => frame(HEADERS, END_STREAM, 1, piece),
        _ => frame(CONTINUATION, if number == last { END_HEADERS } else { 0 }, 1, piece),
    };
    pieces.iter().enumerate().flat_map(of).collect()
}

#[test]
fn a_header_block_is_one_thing_and_nothing_stands_in_it() {
    let empty: Vec<u8> = (0..100).flat_map(|_| frame(CONTINUATION, 0, 1, &[])).collect();
    let cuts = [
        ("PING", frame(PING, 0, 0, b"8 bytes!")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("DATA", frame(DATA, 0, 1, b"x")),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
        ("a whole request", get(3)),
        ("HEADERS of the same stream", get(1)),
        ("CONTINUATION of another stream", frame(CONTINUATION, END_HEADERS, 3, b"")),
        // RFC 9113 §5.5.
        ("an unknown type", frame(UNKNOWN, 0, 1, b"x")),
    ];
    let cases =
        cuts.map(|(what, between)| case("6.10", what, cut_by(&between), End::Connection(PROTOCOL_ERROR)));
    let rules = Rules::start();
    rules.judge(cases);
    let post_cut = {
        let block = block("POST", "/");
        let (first, rest) = block.split_at(9);
        [frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest), end(1)].concat()
    };
    rules.judge([
        case("4.3", "in two pieces", cut_by(&[]), End::Answer(1, 200)),
        case("4.3", "in two pieces, with a body", post_cut, End::Answer(1, 200)),
        case("6.10", "in six pieces", in_pieces(6), End::Answer(1, 200)),
        // Hardening H203.
        case("10.5", "in sixty pieces", in_pieces(60), End::Connection(ENHANCE_YOUR_CALM)),
        case("10.5", "a hundred pieces of nothing", cut_by(&empty), End::Connection(ENHANCE_YOUR_CALM)),
        case(
            "6.10",
            "CONTINUATION behind a whole block",
            [post(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            End::Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10",
            "CONTINUATION behind DATA",
            [post(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            End::Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10",
            "CONTINUATION at first",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            End::Connection(PROTOCOL_ERROR),
        ),
        case(
            "6.10",
            "CONTINUATION of stream 0",
            frame(CONTINUATION, END_HEADERS, 0, &[]),
            End::Connection(PROTOCOL_ERROR),
        ),
    ]);
}

fn idle_and_open() -> Vec<Case> {
    let protocol = End::Connection(PROTOCOL_ERROR);
    vec![
        case("5.1", "DATA of an idle stream", end(1), protocol),
        case("5.1", "RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()), protocol),
        case("5.1", "WINDOW_UPDATE of an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), protocol),
        case("5.1", "PRIORITY of an idle stream", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), End::Nothing),
        case("5.1.1", "a stream of an even number", get(2), protocol),
        case("5.1.1", "a number that was passed over", [get(5), get(3)].concat(), protocol),
        case("5.1.1", "numbers with gaps", [held(1), get(7)].concat(), End::Answer(7, 200)),
        case(
            "8.1",
            "a second head that does not end the stream",
            [post(1), post(1)].concat(),
            End::Stream(1, PROTOCOL_ERROR),
        ),
        case(
            "8.1",
            "DATA behind trailers",
            [
                frame(HEADERS, END_HEADERS, 1, &block("POST", "/held")),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &encode([("x-sum", "1")])),
                end(1),
            ]
            .concat(),
            End::Stream(1, STREAM_CLOSED),
        )
        .instead(protocol, ONE_CODE),
    ]
}

/// The client has ended the stream and the server has not.
fn half_closed() -> Vec<Case> {
    let protocol = End::Connection(PROTOCOL_ERROR);
    let then = |next: Vec<u8>| [held(1), next].concat();
    let trailers = |flags| frame(HEADERS, END_HEADERS | flags, 1, &encode([("x-sum", "1")]));
    vec![
        case("5.1", "DATA when half closed", then(end(1)), End::Stream(1, STREAM_CLOSED))
            .instead(protocol, ONE_CODE),
        case("5.1", "trailers when half closed", then(trailers(END_STREAM)), End::Stream(1, STREAM_CLOSED))
            .instead(protocol, ONE_CODE),
        case("5.1", "HEADERS when half closed", then(trailers(0)), End::Stream(1, STREAM_CLOSED)).instead(
            End::Stream(1, PROTOCOL_ERROR),
            "the library looks for END_STREAM first: the stream ends as it should",
        ),
        case("5.1", "CONTINUATION when half closed", then(frame(CONTINUATION, 4, 1, &[])), protocol),
        case(
            "5.1",
            "WINDOW_UPDATE when half closed",
            then(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            End::Nothing,
        ),
        case("5.1", "PRIORITY when half closed", then(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])), End::Nothing),
        case(
            "5.1",
            "RST_STREAM when half closed",
            then(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
            End::Nothing,
        ),
    ]
}

/// Both have ended it, or one has reset it.
fn over() -> Vec<Case> {
    let protocol = End::Connection(PROTOCOL_ERROR);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &encode([("x-sum", "1")]));
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    let after_reset = |next: Vec<u8>| [held(1), reset(CANCEL), next].concat();
    vec![
        case("5.1", "DATA when closed", end(1), End::Stream(1, STREAM_CLOSED)).after(get(1)),
        case("5.1", "trailers when closed", trailers.clone(), End::Connection(STREAM_CLOSED))
            .after(get(1))
            .instead(protocol, ONE_CODE),
        case("5.1.1", "a number that was used", get(1), End::Connection(STREAM_CLOSED))
            .after(get(1))
            .instead(protocol, ONE_CODE),
        case("5.1", "CONTINUATION when closed", frame(CONTINUATION, END_HEADERS, 1, &[]), protocol)
            .after(get(1)),
        case("5.1", "WINDOW_UPDATE when closed", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), End::Nothing)
            .after(get(1)),
        case("5.1", "PRIORITY when closed", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), End::Nothing)
            .after(get(1)),
        case("5.1", "RST_STREAM when closed", reset(NO_ERROR), End::Nothing).after(get(1)),
        case("5.1", "DATA after RST_STREAM", after_reset(end(1)), End::Stream(1, STREAM_CLOSED)),
        case("5.1", "HEADERS after RST_STREAM", after_reset(trailers), End::Stream(1, STREAM_CLOSED))
            .instead(protocol, ONE_CODE),
        case("5.1", "RST_STREAM twice", after_reset(reset(CANCEL)), End::Nothing),
        case("7", "RST_STREAM with an unknown code", [held(1), reset(0xdead_beef)].concat(), End::Nothing),
    ]
}

#[test]
fn a_frame_that_does_not_fit_the_state_of_its_stream_is_an_error_of_it_or_of_the_connection() {
    let rules = Rules::start();
    rules.judge(idle_and_open());
    rules.judge(half_closed());
    rules.judge(over());
}

#[test]
fn a_connect_that_is_malformed_is_an_error_of_its_stream() {
    // RFC 9113 §8.5 and RFC 8441 §4.
    let connect = |fields: &[(&str, &str)]| {
        frame(HEADERS, END_HEADERS, 1, &encode([&[(":method", "CONNECT")], fields].concat()))
    };
    let (authority, scheme, path) = ((":authority", HOST), (":scheme", "http"), (":path", "/"));
    let protocol = (":protocol", "websocket");
    let malformed = End::Stream(1, PROTOCOL_ERROR);
    // An answer may come first (§8.1.1).
    let refused = End::Answer(1, 400);
    Rules::start().judge([
        case("8.5", "CONNECT without an authority", connect(&[]), refused),
        case("8.5", "CONNECT with a path", connect(&[authority, path]), malformed),
        case("8.5", "CONNECT with a scheme", connect(&[authority, scheme]), malformed),
        case("RFC 8441 4", "a protocol without a path", connect(&[protocol, scheme, authority]), malformed),
        case("RFC 8441 4", "a protocol without a scheme", connect(&[protocol, path, authority]), malformed),
        case("RFC 8441 4", "a protocol without an authority", connect(&[protocol, scheme, path]), refused),
    ]);
}

#[test]
fn priorities_are_read_and_mean_nothing() {
    // RFC 9113 §5.3.2: they are deprecated. RFC 7540 §5.3.1 made a stream that depends on itself an error of it, and the
    // library still does: a client that builds such a tree loses that stream.
    let with = |priority: &[u8]| [priority, &block("GET", "/")].concat();
    let flags = END_HEADERS | END_STREAM | WITH_PRIORITY;
    let own = "RFC 7540 §5.3.1 had it so, and no client sends it";
    let padded = [&[3][..], &with(&[0x80, 0, 0, 0, 255]), &[0; 3]].concat();
    Rules::start().judge([
        case(
            "5.3.2",
            "HEADERS with a priority",
            frame(HEADERS, flags, 1, &with(&[0; 5])),
            End::Answer(1, 200),
        ),
        case(
            "5.3.2",
            "a dependency that is exclusive",
            frame(HEADERS, flags, 5, &with(&[0x80, 0, 0, 3, 255])),
            End::Answer(5, 200),
        ),
        case(
            "6.2",
            "padding and a priority",
            frame(HEADERS, flags | PADDED, 1, &padded),
            End::Answer(1, 200),
        ),
        case(
            "5.3.2",
            "HEADERS that depend on themselves",
            frame(HEADERS, flags, 1, &with(&[0, 0, 0, 1, 255])),
            End::Answer(1, 200),
        )
        .instead(End::Stream(1, PROTOCOL_ERROR), own),
        case(
            "5.3.2",
            "PRIORITY of a stream on itself",
            [held(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 255])].concat(),
            End::Nothing,
        )
        .instead(End::Stream(1, PROTOCOL_ERROR), own),
    ]);
}

/// Whether these bytes, each sent by itself or all at once, get the upstream's body.
fn is_answered(http: SocketAddr, bytes: &[u8], at_once: usize) -> bool {
    let mut connection = connect(http).unwrap();
    for piece in bytes.chunks(at_once) {
        // It may be closed before all of it is sent.
        drop(connection.write_all(piece));
    }
    let mut seen = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        match connection.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => seen.extend_from_slice(&chunk[..count]),
            Err(error) => {
                assert!(!is_silence(&error), "neither answered nor closed after {seen:?}");
                return false;
            }
        }
        if seen.windows(2).any(|pair| pair == b"ok") {
            return true;
        }
    }
}

#[test]
fn a_connection_begins_with_the_preface() {
    // RFC 9113 §3.4.
    let rules = Rules::start();
    let http = rules.site.gateway.http;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let whole = [PREFACE, &settings, &get(1)].concat();
    for at_once in [1, 7, whole.len()] {
        assert!(is_answered(http, &whole, at_once), "{at_once} bytes at once");
    }
    // SETTINGS must follow. The library reads any frame there: a client that leaves them out has their defaults.
    assert!(is_answered(http, &[PREFACE, &get(1)].concat(), usize::MAX));
    for (what, preface) in [
        ("another word", &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..]),
        ("another version", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
        ("nothing", b""),
    ] {
        assert!(!is_answered(http, &[preface, &settings, &get(1)].concat(), usize::MAX), "{what}");
    }
}

#[test]
fn where_http2_was_agreed_on_anything_but_its_preface_is_closed() {
    let backend = Backend::named("ok");
    let site = crate::h2_site::h2_site(backend.address, &[]);
    let settings = frame(SETTINGS, 0, 0, &[]);
    for preface in [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", b""] {
        let mut connection = TlsConnection::open(site.site.gateway.https, HOST, &site.client).unwrap();
        drop(connection.send(&[preface, &settings, &get(1)].concat()));
        if let Err(error) = connection.rest() {
            assert!(!is_silence(&error), "{preface:?}: not closed");
        }
    }
    assert!(backend.arrived().is_empty(), "{:?}", backend.arrived());
}

#[test]
fn the_last_number_of_a_stream_is_as_good_as_the_first() {
    // RFC 9113 §5.1.1: then the client opens another connection.
    let rules = Rules::start();
    let mut connection = rules.connect();
    connection.go_on_with((1 << 31) - 1);
    assert_eq!(connection.get(HOST, "/").unwrap().text(), "ok");
    connection.ping().unwrap();
}

#[test]
fn after_a_goaway_of_the_client_its_requests_are_answered_and_the_connection_ends() {
    // RFC 9113 §6.8; an unknown code means nothing more (§7).
    let rules = Rules::start();
    for code in [NO_ERROR, 0xdead_beef] {
        let mut connection = rules.connect();
        let first = connection.open(&H2Request::new("POST", HOST, "/"), false).unwrap();
        connection.ping().unwrap();
        let goaway = [&[0; 4][..], &code.to_be_bytes(), b"goodbye"].concat();
        connection.send_frame(GOAWAY, 0, 0, &goaway).unwrap();
        connection.send_data(first, b"body", true).unwrap();
        assert_eq!(connection.response(first).unwrap().text(), "ok", "{code}");
        connection.until_closed().unwrap();
    }
    assert_eq!(H2Connection::plain(rules.site.gateway.http).unwrap().get(HOST, "/").unwrap().status, 200);
}
