//! What is the gateway's own surroundings, which nobody who writes objects may make it ask. Must not resolve names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What makes an address one of the gateway's own surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Loopback,
    /// The cloud's metadata service among them.
    LinkLocal,
    Unspecified,
    Multicast,
    OwnAddress,
    /// A name whose last label is a number: resolvers read it as an IPv4 address (`127.1`, `0x7f000001`).
    NumericName,
}

/// The metadata service of a large cloud, which stands in a unique local network (RFC 4193) and not in a link-local one.
const METADATA_SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Home {
    /// Why this address leads home; `None`: it leads elsewhere. `own` are the gateway's own addresses.
    pub fn of_address(address: IpAddr, own: &[IpAddr]) -> Option<Self> {
        let address = plain(address);
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA_SERVICE,
        };
        let is_unspecified = match address {
            // RFC 1122 §3.2.1.3: all of 0.0.0.0/8 is "this network", and systems take 0.0.0.0 for loopback.
            IpAddr::V4(address) => address.octets().first() == Some(&0) || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unspecified(),
        };
        if address.is_loopback() {
            Some(Self::Loopback)
        } else if is_link_local {
            Some(Self::LinkLocal)
        } else if is_unspecified {
            Some(Self::Unspecified)
        } else if address.is_multicast() {
            Some(Self::Multicast)
        } else if own.iter().any(|own| plain(*own) == address) {
            Some(Self::OwnAddress)
        } else {
            None
        }
    }

    /// Completes "it leads to '…', …".
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Loopback => "which is the gateway's own loopback",
            Self::LinkLocal => "which is link-local and may be the cloud's metadata service",
            Self::Unspecified => "which is no address of anything",
            Self::Multicast => "which is no address of one thing",
            Self::OwnAddress => "which is the gateway's own address",
            Self::NumericName => "which resolvers read as an IPv4 address",
        }
    }
}

/// The IPv4 address within an IPv6 one that stands for it (mapped: RFC 4291 §2.5.5.2; for a translator: RFC 6052 §2.1).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [high @ .., third, second, first, zeroth] = v6.octets();
    let translated = high == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    if translated { Ipv4Addr::new(third, second, first, zeroth).into() } else { address.to_canonical() }
}
