//! Consistent hashing: each endpoint has many points on a ring, and a key belongs to the first point from it on. An
//! endpoint that comes takes keys from the others and moves none between them; one that goes leaves its own alone.

/// Points of one endpoint. Shares differ by about 1 / sqrt(POINTS).
const POINTS: u32 = 160;

/// Built when the list of endpoints changes. 16 bytes a point.
#[derive(Debug)]
pub struct Ring {
    /// Position and index of the endpoint, by position.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// A ring of endpoints with these names, which must tell them apart: the same names make the same ring in every
    /// process, in whatever order they stand. Of more than 2^32 endpoints the first ones.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut points: Vec<(u64, u32)> = Vec::new();
        for (index, name) in (0..u32::MAX).zip(names) {
            let home = stable_hash(&[name.as_bytes()]);
            points.extend((0..POINTS).map(|point| (mixed(home ^ mixed(u64::from(point))), index)));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The endpoint that the key belongs to; `None` where there is none at all.
    pub(crate) fn home(&self, key: u64) -> Option<usize> {
        self.walk(key).next()
    }

    /// The endpoints from the key on, each as often as it has points, once around.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(position, _)| *position < key);
        let (before, from) = self.points.split_at(start);
        from.iter().chain(before).map(|(_, index)| usize::try_from(*index).unwrap_or(usize::MAX))
    }
}

/// A hash that is the same in every process and version: replicas must agree. It is no secret; what keeps an endpoint
/// from too many keys is the bound of its load. Only what the parts make together counts.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    // FNV-1a, whose high bits alone are too alike for short keys.
    let hash = parts.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(hash)
}

/// The finisher of SplitMix64: a bijection that spreads every bit.
pub(super) fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
