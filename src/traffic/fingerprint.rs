//! Folds the key tuple of a limit into the fingerprint that names a bucket. Keeps no key: only the hash leaves.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

/// The keyed start of every fingerprint of this process. Without the seed nobody can choose requests whose keys
/// meet in one bucket. The hash is std's SipHash, whose state has absorbed the secret seed first.
#[derive(Clone, Debug)]
pub struct FingerprintSeed {
    keyed: DefaultHasher,
}

impl FingerprintSeed {
    /// `seed` must be random and stay the same as long as the counters live.
    pub fn new(seed: [u64; 2]) -> Self {
        let mut keyed = DefaultHasher::new();
        for word in seed {
            keyed.write_u64(word);
        }
        Self { keyed }
    }

    /// Starts a tuple. Its parts must follow in the order in which the limit names its keys.
    pub fn start(&self) -> Fingerprinter {
        Fingerprinter { hasher: self.keyed.clone() }
    }
}

/// A key tuple on its way to a fingerprint. Every part carries its kind and its length, so that `("a", "bc")` and
/// `("ab", "c")` differ, and so do an absent value, an empty one and an address that is spelt as text.
#[derive(Clone, Debug)]
pub struct Fingerprinter {
    hasher: DefaultHasher,
}

impl Fingerprinter {
    /// A value of the request: a header, a path, a host, a method, a claim.
    pub fn text(&mut self, value: &[u8]) {
        self.part(PART_TEXT, value);
    }

    /// A value that the request does not have: all such requests share.
    pub fn absent(&mut self) {
        self.part(PART_ABSENT, &[]);
    }

    /// The client's address, cut to a prefix (in bits; more than the address has means the whole address). An
    /// IPv4-mapped IPv6 address counts as IPv4.
    pub fn address(&mut self, address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32u32.saturating_sub(u32::from(ipv4_prefix))).unwrap_or(0);
                self.part(PART_IPV4, &(v4.to_bits() & mask).to_be_bytes());
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128u32.saturating_sub(u32::from(ipv6_prefix))).unwrap_or(0);
                self.part(PART_IPV6, &(v6.to_bits() & mask).to_be_bytes());
            }
        }
    }

    /// The fingerprint of the whole tuple.
    pub fn finish(&self) -> u64 {
        self.hasher.finish()
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.hasher.write_u8(kind);
        self.hasher.write_u64(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hasher.write(bytes);
    }
}

const PART_TEXT: u8 = 1;
const PART_ABSENT: u8 = 2;
const PART_IPV4: u8 = 3;
const PART_IPV6: u8 = 4;

#[cfg(test)]
mod tests;
