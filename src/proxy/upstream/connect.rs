//! Opens connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time;

use super::backend::{ConnectionPermit, Target};
use super::h1::Wire;

/// Connects within `timeout`, names resolved in between (each address in turn).
///
/// # Errors
/// The last address's error, or `TimedOut`.
pub(super) async fn connect(
    target: &Target,
    permit: ConnectionPermit,
    timeout: Duration,
) -> io::Result<Wire> {
    let stream = time::timeout(timeout, open(target)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream, permit))
}

async fn open(target: &Target) -> io::Result<TcpStream> {
    match target.address {
        Some(address) => TcpStream::connect(address).await,
        None => {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((&*target.endpoint.host, target.endpoint.port)).await?.collect();
            TcpStream::connect(addresses.as_slice()).await
        }
    }
}
