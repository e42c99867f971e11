//! Headers of both versions, whole, in parts and broken.

use super::*;

fn proxied(source: &str, target: &str) -> Client {
    Client::Proxied { source: source.parse().unwrap(), target: target.parse().unwrap() }
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

const FOUR: &[u8] = &[198, 51, 100, 1, 192, 0, 2, 1, 0xc7, 0x38, 0x01, 0xbb];

fn six() -> Vec<u8> {
    let mut rest = Vec::new();
    for address in ["2001:db8::1", "2001:db8::2"] {
        rest.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    }
    rest.extend([0xc7, 0x38, 0x01, 0xbb]);
    rest
}

#[test]
fn headers_are_read_whole_and_not_a_byte_further() {
    let with_more = [FOUR, &[0x03, 0, 4, 1, 2, 3, 4]].concat();
    for (name, header, want) in [
        (
            "1, IPv4",
            b"PROXY TCP4 198.51.100.1 192.0.2.1 51000 443\r\n".to_vec(),
            proxied("198.51.100.1:51000", "192.0.2.1:443"),
        ),
        (
            "1, IPv6",
            b"PROXY TCP6 2001:db8::1 2001:db8::2 51000 443\r\n".to_vec(),
            proxied("[2001:db8::1]:51000", "[2001:db8::2]:443"),
        ),
        ("1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), Client::Itself),
        ("1, unknown with more", b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n".to_vec(), Client::Itself),
        ("2, IPv4", binary(0x21, 0x11, FOUR), proxied("198.51.100.1:51000", "192.0.2.1:443")),
        ("2, IPv4 with more", binary(0x21, 0x11, &with_more), proxied("198.51.100.1:51000", "192.0.2.1:443")),
        ("2, IPv6", binary(0x21, 0x21, &six()), proxied("[2001:db8::1]:51000", "[2001:db8::2]:443")),
        ("2, local", binary(0x20, 0x00, &[]), Client::Itself),
        ("2, local with addresses", binary(0x20, 0x11, FOUR), Client::Itself),
        ("2, unspecified", binary(0x21, 0x00, &[1, 2, 3]), Client::Itself),
    ] {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Parsed::More, "{name}: {end} bytes");
        }
        let used = header.len();
        assert_eq!(parse(&header), Parsed::Whole { client: want, used }, "{name}");
        let with_request = [&header, b"GET / HTTP/1.1\r\n".as_slice()].concat();
        assert_eq!(parse(&with_request), Parsed::Whole { client: want, used }, "{name}");
    }
}

#[test]
fn what_is_no_header_is_refused_at_once() {
    let short = FOUR.get(..11).unwrap();
    for bytes in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        vec![22, 3, 1],
        b"proxy TCP4 198.51.100.1 192.0.2.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 1\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2 3\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 1 65536\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 +1 2\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.1 192.0.2.1 01 2\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.256 192.0.2.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
        b"PROXY TCP6 198.51.100.1 192.0.2.1 1 2\r\n".to_vec(),
        b"PROXY  TCP4 198.51.100.1 192.0.2.1 1 2\r\n".to_vec(),
        b"PROXY UDP4 198.51.100.1 192.0.2.1 1 2\r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat(),
        binary(0x11, 0x11, FOUR),
        binary(0x22, 0x11, FOUR),
        binary(0x21, 0x12, FOUR),
        binary(0x21, 0x31, &[0; 216]),
        binary(0x21, 0x11, short),
        binary(0x21, 0x21, FOUR),
        binary(0x21, 0x11, &vec![0; REST_BYTES_MAX + 1]),
    ] {
        assert_eq!(parse(&bytes), Parsed::Malformed, "{:?}", String::from_utf8_lossy(&bytes));
    }
}
