//! Listening sockets: one for each worker on the same address, so that the kernel spreads connections over them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted. The kernel lowers it to its own bound.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets on one address. An unspecified IPv6 address takes IPv4 too and becomes `0.0.0.0` on a machine
/// without IPv6. Port 0 picks a free one, the same for all.
///
/// # Errors
/// What the operating system said, for instance that another process has the address.
pub(crate) fn bind(
    address: SocketAddr,
    count: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    match bind_all(address, count) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            bind_all(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), count)
        }
        bound => bound,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT or EADDRNOTAVAIL: the kernel has no IPv6, or it is switched off.
    matches!(error.raw_os_error(), Some(97 | 99))
}

fn bind_all(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // SO_REUSEPORT would let a second gateway share the port in silence. A first socket without it makes the kernel
    // say that the address is taken.
    drop(open(address, false)?);
    let first = open(address, true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(open(bound, true)?);
    }
    Ok((bound, listeners))
}

fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_share_one_port_and_a_second_gateway_is_told() {
        let (address, listeners) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_unspecified_address_takes_ipv4_too() {
        let (address, _listeners) = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1).unwrap();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).is_ok());
    }
}
