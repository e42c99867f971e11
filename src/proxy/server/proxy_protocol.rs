//! The PROXY protocol, versions 1 and 2: what a load balancer says of the client before its first byte. Reads the header
//! and nothing behind it; who must send one is the settings' word.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use super::downstream::Downstream;

/// The longest line of version 1, its end included (PROXY protocol §2.1).
const LINE_BYTES_MAX: usize = 107;
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length of version 2.
const FIXED_BYTES: usize = 16;
/// What may follow them: addresses and what else a load balancer tells.
const REST_BYTES_MAX: usize = 4 << 10;

/// Whom a header speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The load balancer itself, as for its health checks: its own address counts.
    Itself,
    Proxied {
        source: SocketAddr,
        /// What the client connected to.
        target: SocketAddr,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    More,
    Whole { client: Client, used: usize },
    Malformed,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The peer left without a byte, as checks of a port do.
    Silent,
    /// What came is none, or not whole in the connection's time.
    Malformed,
}

/// The header and what was read behind it.
///
/// # Errors
/// There is none. The connection is to be closed.
pub(super) async fn read(tcp: &TcpStream, downstream: &Downstream) -> Result<(Client, BytesMut), Absent> {
    let mut seen = BytesMut::with_capacity(512);
    poll_fn(|cx| {
        loop {
            match parse(&seen) {
                Parsed::Whole { client, used } => {
                    seen.advance(used);
                    return Poll::Ready(Ok((client, std::mem::take(&mut seen))));
                }
                Parsed::Malformed => return Poll::Ready(Err(Absent::Malformed)),
                Parsed::More => {}
            }
            let gone = if seen.is_empty() { Absent::Silent } else { Absent::Malformed };
            match tcp.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(gone)),
                Poll::Pending => {
                    if seen.is_empty() && downstream.is_asked_to_close() {
                        return Poll::Ready(Err(gone));
                    }
                    if downstream.poll_expired(cx) {
                        return Poll::Ready(Err(Absent::Malformed));
                    }
                    downstream.remember_waker(cx);
                    return Poll::Pending;
                }
            }
            match tcp.try_read_buf(&mut seen) {
                Ok(0) => return Poll::Ready(Err(gone)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(gone)),
            }
        }
    })
    .await
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, two)| one == two);
    if begins(SIGNATURE) {
        return if bytes.len() < FIXED_BYTES { Parsed::More } else { parse_binary(bytes) };
    }
    if begins(b"PROXY ") { parse_line(bytes) } else { Parsed::Malformed }
}

/// Version 1: `PROXY TCP4 198.51.100.1 192.0.2.1 51000 443`.
fn parse_line(bytes: &[u8]) -> Parsed {
    let seen = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if bytes.len() < LINE_BYTES_MAX { Parsed::More } else { Parsed::Malformed };
    };
    let line = seen.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let client = line.and_then(|line| std::str::from_utf8(line).ok()).and_then(client_of_line);
    client.map_or(Parsed::Malformed, |client| Parsed::Whole { client, used: end + 1 })
}

fn client_of_line(line: &str) -> Option<Client> {
    let mut words = line.split(' ');
    words.next().filter(|word| *word == "PROXY")?;
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever else the line says is to be ignored.
        return Some(Client::Itself);
    }
    let (source, target): (IpAddr, IpAddr) = match family {
        "TCP4" => {
            (words.next()?.parse::<Ipv4Addr>().ok()?.into(), words.next()?.parse::<Ipv4Addr>().ok()?.into())
        }
        "TCP6" => {
            (words.next()?.parse::<Ipv6Addr>().ok()?.into(), words.next()?.parse::<Ipv6Addr>().ok()?.into())
        }
        _ => return None,
    };
    let (source, target) =
        (SocketAddr::new(source, port(words.next()?)?), SocketAddr::new(target, port(words.next()?)?));
    let is_whole = words.next().is_none() && source.is_ipv4() == target.is_ipv4();
    is_whole.then_some(Client::Proxied { source, target })
}

/// Digits alone: no sign, no leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2. The fixed part is there.
fn parse_binary(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else { return Parsed::More };
    let [.., command, family, high, low] = fixed else { return Parsed::Malformed };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > REST_BYTES_MAX || !matches!(command, 0x20 | 0x21) {
        return Parsed::Malformed;
    }
    let Some(rest) = rest.get(..length) else { return Parsed::More };
    let client = match (command, family) {
        // The addresses of a check of the load balancer's own mean nothing, nor do those that are no addresses.
        (0x20, _) | (_, 0x00) => Some(Client::Itself),
        (_, 0x11) => addresses::<4>(rest),
        (_, 0x21) => addresses::<16>(rest),
        _ => None,
    };
    client.map_or(Parsed::Malformed, |client| Parsed::Whole { client, used: FIXED_BYTES + length })
}

/// Source, destination and their ports.
fn addresses<const BYTES: usize>(rest: &[u8]) -> Option<Client>
where
    IpAddr: From<[u8; BYTES]>,
{
    let (source, rest) = rest.split_first_chunk::<BYTES>()?;
    let (target, rest) = rest.split_first_chunk::<BYTES>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (target_port, _) = rest.split_first_chunk::<2>()?;
    Some(Client::Proxied {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        target: SocketAddr::new(IpAddr::from(*target), u16::from_be_bytes(*target_port)),
    })
}

#[cfg(test)]
mod tests;
