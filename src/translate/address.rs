//! Where backends may lead. Whoever may write an EndpointSlice or a Service could otherwise make the gateway ask itself,
//! its node or the cloud's metadata service. Must not resolve names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Settings;

/// Whether an address may be asked, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    Anywhere,
    /// To the gateway's own pod or node, or to what only they reach.
    Home(Home),
    /// Out of the cluster by a name or a fixed address.
    Outside,
}

/// What makes an address one of the gateway's own surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
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

/// Names that are loopback wherever there is a file of hosts, beside those that end in `.localhost` (RFC 6761 §6.3).
const LOOPBACK_NAMES: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

impl Home {
    /// Completes "it leads to '…', …".
    pub(crate) const fn meaning(self) -> &'static str {
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

/// Where an endpoint of a slice leads. A text that is no IP address is a name.
pub(crate) fn endpoint_leads(host: &str, settings: &Settings) -> Leads {
    let named = host.parse::<IpAddr>().is_err();
    if named && !settings.allow_external_backends {
        return Leads::Outside;
    }
    host_leads(host, settings)
}

/// Where an address or name leads that was written down as a way out of the cluster.
pub(crate) fn external_leads(host: &str, settings: &Settings) -> Leads {
    if settings.allow_external_backends { host_leads(host, settings) } else { Leads::Outside }
}

fn host_leads(host: &str, settings: &Settings) -> Leads {
    if settings.allow_local_endpoints {
        return Leads::Anywhere;
    }
    let home = match host.parse::<IpAddr>() {
        Ok(address) => home_of_address(address, &settings.own_addresses),
        Err(_) => home_of_name(host),
    };
    home.map_or(Leads::Anywhere, Leads::Home)
}

fn home_of_address(address: IpAddr, own: &[IpAddr]) -> Option<Home> {
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
        Some(Home::Loopback)
    } else if is_link_local {
        Some(Home::LinkLocal)
    } else if is_unspecified {
        Some(Home::Unspecified)
    } else if address.is_multicast() {
        Some(Home::Multicast)
    } else if own.iter().any(|own| plain(*own) == address) {
        Some(Home::OwnAddress)
    } else {
        None
    }
}

/// The IPv4 address within an IPv6 one that stands for it (mapped: RFC 4291 §2.5.5.2; for a translator: RFC 6052 §2.1).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [high @ .., third, second, first, zeroth] = v6.octets();
    let translated = high == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    if translated { Ipv4Addr::new(third, second, first, zeroth).into() } else { address.to_canonical() }
}

fn home_of_name(name: &str) -> Option<Home> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if LOOPBACK_NAMES.contains(&name.as_str()) || name.ends_with(".localhost") {
        return Some(Home::Loopback);
    }
    // An address with a zone, like fe80::1%eth0: no name has a colon.
    if name.contains(':') {
        return Some(Home::LinkLocal);
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    (numeric || hexadecimal).then_some(Home::NumericName)
}

#[cfg(test)]
mod tests;
