//! An echo upstream: `baribhara echo` on a free port.

use std::net::SocketAddr;

use crate::process::Process;
use crate::until::until;

/// Killed when dropped.
#[derive(Debug)]
pub struct Echo {
    pub process: Process,
    pub address: SocketAddr,
}

impl Echo {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(name: &str) -> Self {
        Self::start_on(name, "127.0.0.1:0")
    }

    /// As [`Echo::start`], on this address.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start_on(name: &str, listen: &str) -> Self {
        let process = Process::start(&["echo", "--listen", listen, "--name", name]);
        let address = until("the echo upstream's first line", || {
            let lines = process.stdout();
            let (_, address) = lines.first()?.rsplit_once(' ')?;
            address.parse().ok()
        });
        Self { process, address }
    }
}
