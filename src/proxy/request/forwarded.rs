//! Whom trusted proxies speak for. Decides nothing.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::{X_FORWARDED_FOR, is_in};

/// The most addresses of an `X-Forwarded-For` that are looked at (hardening HB06).
const FORWARDED_HOPS_MAX: usize = 30;

/// The rightmost address that is no trusted proxy; `None`: what the trusted ones wrote is no good and the peer counts.
/// Whatever stands left of that address the client wrote, so nothing there, nor how much of it there is, may change the
/// answer.
pub(super) fn forwarded_client(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = None;
    for (index, hop) in hops.enumerate() {
        if index >= FORWARDED_HOPS_MAX {
            return None;
        }
        let address = parse_address(str::from_utf8(hop).ok()?.trim_ascii())?;
        client = Some(address);
        if !is_in(address, trusted) {
            return client;
        }
    }
    client
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(inside, _)| inside);
    let address = bare
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn list(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let many = vec!["1.1.1.1"; 310].join(", ") + ", 203.0.113.7, 10.1.2.3";
        for (value, want) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("6.6.6.6, 203.0.113.7, 10.1.2.3", Some("203.0.113.7")),
            ("10.1.2.3, 10.1.2.4", Some("10.1.2.3")),
            ("[2001:db8::1]:443, fd00::1", Some("2001:db8::1")),
            ("203.0.113.7:5000", Some("203.0.113.7")),
            ("::ffff:203.0.113.7", Some("203.0.113.7")),
            ("fe80::1%eth0", None),
            ("203.0.113.7, garbage", None),
            ("", None),
            (&many, Some("203.0.113.7")),
            ("garbage, 203.0.113.7, 10.1.2.3", Some("203.0.113.7")),
        ] {
            let headers = list(value.as_bytes());
            let want = want.map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(forwarded_client(&headers, &trusted), want, "{value}");
        }
        let odd = list(b"6.6.6.6, \xff, 203.0.113.7, 10.1.2.3");
        assert_eq!(forwarded_client(&odd, &trusted), Some([203, 0, 113, 7].into()));
        let long = vec!["10.0.0.1"; 31].join(",");
        let headers = list(long.as_bytes());
        assert_eq!(forwarded_client(&headers, &trusted), None, "more hops than anyone has");
    }
}
