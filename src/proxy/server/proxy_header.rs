//! The PROXY protocol, versions 1 and 2, as the gateway itself says it: whom it connects for. Writes the header and
//! nothing else.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use ir::ProxyVersion;

use super::proxy_protocol::SIGNATURE;

/// The header for a connection of `client` to `local`, which are of one family, with mapped addresses folded. Where they
/// are not, it says that nothing is known.
pub(super) fn encode(version: ProxyVersion, client: SocketAddr, local: SocketAddr) -> BytesMut {
    match version {
        ProxyVersion::V1 => line(client, local),
        ProxyVersion::V2 => binary(client, local),
    }
}

fn line(client: SocketAddr, local: SocketAddr) -> BytesMut {
    let family = match (client, local) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
        (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            return BytesMut::from(&b"PROXY UNKNOWN\r\n"[..]);
        }
    };
    let ports = (client.port(), local.port());
    let line = format!("PROXY {family} {} {} {} {}\r\n", client.ip(), local.ip(), ports.0, ports.1);
    BytesMut::from(line.as_bytes())
}

fn binary(client: SocketAddr, local: SocketAddr) -> BytesMut {
    let mut addresses = Vec::with_capacity(36);
    let family: u8 = match (client.ip(), local.ip()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => {
            addresses.extend(client.octets());
            addresses.extend(local.octets());
            0x11
        }
        (IpAddr::V6(client), IpAddr::V6(local)) => {
            addresses.extend(client.octets());
            addresses.extend(local.octets());
            0x21
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0x00,
    };
    if family != 0x00 {
        addresses.extend(client.port().to_be_bytes());
        addresses.extend(local.port().to_be_bytes());
    }
    let mut header = BytesMut::from(SIGNATURE);
    header.extend_from_slice(&[0x21, family]);
    // 36 bytes at most.
    header.extend_from_slice(&u16::try_from(addresses.len()).unwrap_or(0).to_be_bytes());
    header.extend_from_slice(&addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::super::proxy_protocol::{Client, Parsed, parse};
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for (client, local) in [
            ("198.51.100.1:51000", "192.0.2.1:443"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
            ("[2001:db8::1]:51000", "[2001:db8::2]:8443"),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let (source, target) = (client.parse().unwrap(), local.parse().unwrap());
                let header = encode(version, source, target);
                let want = Parsed::Whole { client: Client::Proxied { source, target }, used: header.len() };
                assert_eq!(parse(&header), want, "{version:?} {client} {local}");
            }
        }
    }

    #[test]
    fn version_1_is_a_line_and_version_2_has_its_length() {
        let (client, local) = ("198.51.100.1:51000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        let line = encode(ProxyVersion::V1, client, local);
        assert_eq!(&*line, b"PROXY TCP4 198.51.100.1 192.0.2.1 51000 443\r\n");
        let mut want = SIGNATURE.to_vec();
        want.extend([0x21, 0x11, 0, 12, 198, 51, 100, 1, 192, 0, 2, 1, 0xc7, 0x38, 0x01, 0xbb]);
        assert_eq!(&*encode(ProxyVersion::V2, client, local), want);
    }

    #[test]
    fn addresses_of_two_families_are_not_told() {
        let (four, six) = ("198.51.100.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
        for (client, local) in [(four, six), (six, four)] {
            assert_eq!(&*encode(ProxyVersion::V1, client, local), b"PROXY UNKNOWN\r\n");
            let header = encode(ProxyVersion::V2, client, local);
            assert_eq!(parse(&header), Parsed::Whole { client: Client::Itself, used: 16 });
        }
    }
}
