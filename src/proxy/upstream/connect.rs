//! Opens connections to endpoints, TLS included.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use ir::Home;
use tokio::net::TcpStream;
use tokio::time;

use super::backend::Target;
use super::io::Io;
use super::protocol::{Protocol, Security};

/// The part of its timeout after which connecting counts as slow.
const SLOW_PART: u32 = 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Tcp(#[from] io::Error),
    /// All that the name leads to are addresses that may not be asked.
    #[error("the name leads to {0}, {meaning}", meaning = .1.meaning())]
    LeadsHome(IpAddr, Home),
    /// The peer is not who it should be, or does not speak what it is asked to.
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("it took too long")]
    TimedOut,
    /// What TLS needs could not be made of the configuration.
    #[error("TLS is not configured correctly")]
    Invalid,
}

/// Connects within `timeout`, names resolved in between (each address in turn), to the end of the TLS handshake.
///
/// # Errors
/// The last address's error, or that of the handshake.
pub(super) async fn connect(
    target: &Target,
    protocol: &Protocol,
    timeout: Duration,
) -> Result<Io, ConnectError> {
    let open = async {
        let tls = match &protocol.security {
            Security::Plain => None,
            Security::Tls(tls) => Some(tls),
            Security::Invalid => return Err(ConnectError::Invalid),
        };
        let tcp = open(target).await?;
        match tls {
            None => Ok(Io::Plain(tcp)),
            Some(tls) => Ok(Io::Tls(Box::new(tls.handshake(tcp).await.map_err(ConnectError::Tls)?))),
        }
    };
    time::timeout(timeout, open).await.map_err(|_| ConnectError::TimedOut)?
}

/// Connects within `timeout` without TLS, names resolved in between (each address in turn).
///
/// # Errors
/// The last address's error.
pub(super) async fn dial(target: &Target, timeout: Duration) -> Result<TcpStream, ConnectError> {
    time::timeout(timeout, open(target)).await.map_err(|_| ConnectError::TimedOut)?
}

/// When connecting that may take `timeout` counts as slow.
pub(super) fn slow_after(timeout: Duration) -> Duration {
    timeout / SLOW_PART
}

/// Waits for a connection, and says so when that takes a tenth of `timeout`: whoever picks endpoints need not wait for the
/// whole of it to know that this one is slow.
pub(super) async fn noticing<T>(
    opening: impl Future<Output = T>,
    timeout: Duration,
    slow: impl FnOnce(),
) -> T {
    let mut opening = pin!(opening);
    if let Ok(opened) = time::timeout(slow_after(timeout), opening.as_mut()).await {
        return opened;
    }
    slow();
    opening.await
}

async fn open(target: &Target) -> Result<TcpStream, ConnectError> {
    let tcp = match target.address {
        Some(address) => TcpStream::connect(address).await?,
        None => {
            let found = tokio::net::lookup_host((&*target.endpoint.host, target.endpoint.port)).await?;
            TcpStream::connect(may_be_asked(target, found)?.as_slice()).await?
        }
    };
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Those that a name has led to and that may be asked. Looked at each time, for who owns the name may have it lead to
/// another address once it was found good.
fn may_be_asked(
    target: &Target,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found {
        match target.names.as_ref().and_then(|names| names.refusal(&target.label, address.ip())) {
            None => addresses.push(address),
            Some(home) => refused = Some(ConnectError::LeadsHome(address.ip(), home)),
        }
    }
    match refused {
        Some(refused) if addresses.is_empty() => Err(refused),
        Some(_) | None => Ok(addresses),
    }
}
