//! Header blocks that are none, and the table that both sides must keep alike: RFC 7541.

use e2e::h2_client::{
    COMPRESSION_ERROR, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, frame,
};
use e2e::hpack::encode;

use super::{Case, End, Rules, block, case};
use crate::site::HOST;

/// RFC 9113 §4.3 has a code for it.
const ONE_CODE: &str =
    "the library says PROTOCOL_ERROR for a block that cannot be read: the connection ends as it should";

/// `GET http://…/` by entries of the static table, with the host as a literal that no table takes (RFC 7541 §6.2.2).
fn request() -> Vec<u8> {
    [&[0x82, 0x86, 0x84, 0x01, HOST.len() as u8], HOST.as_bytes()].concat()
}

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A request with this behind its fields.
fn with(more: &[u8]) -> Vec<u8> {
    headers(1, &[&request(), more].concat())
}

fn broken(section: &'static str, what: &'static str, send: Vec<u8>) -> Case {
    case(section, what, send, End::Connection(COMPRESSION_ERROR))
        .instead(End::Connection(PROTOCOL_ERROR), ONE_CODE)
}

fn fine(section: &'static str, what: &'static str, send: Vec<u8>) -> Case {
    case(section, what, send, End::Answer(1, 200))
}

#[test]
fn a_block_that_cannot_be_read_ends_the_connection() {
    let long = |first: u8, bytes: usize| [&[first][..], &vec![0xff; bytes], &[0]].concat();
    Rules::start().judge([
        broken("6.1", "index 0", with(&[0x80])),
        broken("2.3.3", "an index of the empty table", with(&[0x80 | 62])),
        broken("2.3.3", "an index far behind the table", with(&[0xff, 0xff, 0x7f])),
        broken("6.2.1", "a name by an index of the empty table", with(&[0x40 | 62, 1, b'x'])),
        broken("6.2.2", "the same without indexing", with(&[0x0f, 62 - 15, 1, b'x'])),
        broken("5.1", "a number of twenty bytes", with(&long(0xff, 20))),
        broken("5.1", "a length of twenty bytes", with(&[&[0x00][..], &long(0x7f, 20)].concat())),
        broken("5.1", "half a number", with(&[0xff, 0xff])),
        broken("5.2", "a name longer than the block", with(&[0x00, 20, b'x'])),
        broken("5.2", "a value longer than the block", with(&[0x00, 1, b'x', 5, b'y'])),
        broken("5.2", "a name and no value", with(&[0x00, 1, b'x'])),
        // `a` is 00011: three ones are its padding.
        fine("5.2", "a Huffman code", with(&[0x00, 1, b'x', 0x81, 0b0001_1111])),
        broken("5.2", "padding with zeros", with(&[0x00, 1, b'x', 0x81, 0b0001_1000])),
        broken("5.2", "padding of more than seven bits", with(&[0x00, 1, b'x', 0x82, 0b0001_1111, 0xff])),
        broken(
            "5.2",
            "the end of the string as a code",
            with(&[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ),
        broken(
            "6.3",
            "a table larger than the settings allow",
            headers(1, &[&[0x3f, 0xe2, 0x1f], &request()[..]].concat()),
        ),
        broken("4.2", "a new size behind a field", with(&[0x20])),
        fine("4.2", "a new size before the fields", headers(1, &[&[0x20], &request()[..]].concat())),
        fine(
            "4.2",
            "two new sizes before the fields",
            headers(1, &[&[0x20, 0x3f, 0xe1, 0x1f], &request()[..]].concat()),
        ),
        fine("6.2.3", "a literal that is never indexed", with(&[0x10, 1, b'x', 1, b'y'])),
        fine("6.2.1", "an entry that is used at once", with(&[0x40, 1, b'x', 1, b'y', 0x80 | 62])),
    ]);
}

/// One literal that the table takes: `x-kept: kept`, and the block that uses it.
const KEEP: &[u8] = b"\x40\x06x-kept\x04kept";
const KEPT: u8 = 0x80 | 62;

#[test]
fn the_table_goes_on_over_the_requests_of_a_connection() {
    let rules = Rules::start();
    let use_kept = headers(1, &[&request(), &[KEPT][..]].concat());
    let then_use = |first: Vec<u8>| [first, headers(3, &[&request(), &[KEPT][..]].concat())].concat();
    let keeping = [&request(), KEEP].concat();
    let held_block = [&block("GET", "/held"), KEEP].concat();
    // A request that is malformed, or refused as too large, has been read all the same (RFC 9113 §4.3).
    let malformed = [&request(), &encode([("connection", "close")])[..], KEEP].concat();
    let large = [&request(), KEEP, &encode([("x-large", "x".repeat(70_000))])].concat();
    let large_frames = {
        let pieces: Vec<&[u8]> = large.chunks(16_384).collect();
        let last = pieces.len() - 1;
        let of = |(number, piece): (usize, &&[u8])| {
            let flags = if number == last { END_HEADERS } else { 0 };
            match number {
                0 => frame(HEADERS, flags | END_STREAM, 1, piece),
                _ => frame(CONTINUATION, flags, 1, piece),
            }
        };
        pieces.iter().enumerate().flat_map(of).collect::<Vec<u8>>()
    };
    let ok = End::Answer(3, 200);
    rules.judge([
        broken("2.3.2", "an entry that nobody has made", use_kept),
        case("2.3.2", "an entry of the request before", then_use(headers(1, &keeping)), ok),
        case("2.3.2", "an entry of a request that is under way", then_use(headers(1, &held_block)), ok),
        case(
            "RFC 9113 4.3",
            "an entry of a request that was malformed",
            then_use(headers(1, &malformed)),
            ok,
        ),
        case("RFC 9113 4.3", "an entry of a request that was too large", then_use(large_frames), ok),
        broken(
            "4.3",
            "an entry that a new size has thrown out",
            [headers(1, &keeping), headers(3, &[&[0x20], &request()[..], &[KEPT]].concat())].concat(),
        ),
        broken(
            "4.4",
            "an entry larger than the table",
            then_use(headers(1, &[&request(), &b"\x40\x01x\x7f\xa1\x1f"[..], &[b'y'; 4128]].concat())),
        ),
    ]);
}
