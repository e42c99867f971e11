//! Where backends may lead. Whoever may write an EndpointSlice or a Service could otherwise make the gateway ask itself,
//! its node or the cloud's metadata service. Must not resolve names.

use std::net::IpAddr;

use ir::Home;

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

/// Names that are loopback wherever there is a file of hosts, beside those that end in `.localhost` (RFC 6761 §6.3).
const LOOPBACK_NAMES: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

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
        Ok(address) => Home::of_address(address, &settings.own_addresses),
        Err(_) => home_of_name(host),
    };
    home.map_or(Leads::Anywhere, Leads::Home)
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
