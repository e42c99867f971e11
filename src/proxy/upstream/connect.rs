//! Opens connections to endpoints, TLS included.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time;

use super::backend::Target;
use super::io::Io;
use super::protocol::{Protocol, Security};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Tcp(#[from] io::Error),
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
    Ok(time::timeout(timeout, open(target)).await.map_err(|_| ConnectError::TimedOut)??)
}

async fn open(target: &Target) -> io::Result<TcpStream> {
    let tcp = match target.address {
        Some(address) => TcpStream::connect(address).await?,
        None => {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((&*target.endpoint.host, target.endpoint.port)).await?.collect();
            TcpStream::connect(addresses.as_slice()).await?
        }
    };
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
