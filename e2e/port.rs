//! Free ports on which nobody listens, for what is meant to be dead. Two test processes never get the same.

use std::fs::{self, File};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

/// Below the range from which the kernel takes ports of outgoing connections, so that no client sits on one.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

/// A port that is free and stays ours, by a lock on a file, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// # Panics
    /// When no port is left.
    pub fn reserve() -> Self {
        let folder = std::env::temp_dir().join("baribhara-e2e-ports");
        fs::create_dir_all(&folder).expect("the folder of port locks");
        let span = LAST - FIRST;
        let start = (std::process::id() as u16).wrapping_mul(97) % span;
        for step in 0..span {
            let number = FIRST + (start + step) % span;
            let lock = File::create(folder.join(number.to_string())).expect("a port's lock file");
            if lock.try_lock().is_ok() && is_free(number) {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port between {FIRST} and {LAST} is free");
    }

    /// The port on 127.0.0.1.
    pub fn loopback(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}

/// Nobody listens on it, on any address of either family.
fn is_free(number: u16) -> bool {
    let v6_free = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, number)).map(drop) {
        Ok(()) => true,
        // A machine without IPv6 fails for another reason.
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    };
    v6_free && TcpListener::bind(("127.0.0.1", number)).is_ok()
}
