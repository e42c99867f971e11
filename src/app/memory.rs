//! How much memory the process may take, as the operator and the kernel say, and who may read it.

use std::fs;
use std::path::Path;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::warn;

use crate::values::{MemoryBudget, ValueError};

/// Control groups as the kernel shows them, version 2 and 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// More than any machine has: version 1 says so where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// Keys and tokens stay out of core dumps and out of reach of other processes of the same user (hardening JW20).
pub(crate) fn keep_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%error, "core dumps of this process, which holds keys, can't be switched off");
    }
}

/// The budget in bytes; `None`: there is none.
pub(crate) fn budget(asked: MemoryBudget) -> Option<u64> {
    match asked {
        MemoryBudget::Off => None,
        MemoryBudget::Bytes(bytes) => Some(bytes),
        MemoryBudget::Percent(percent) => Some(limit()? / 100 * u64::from(percent)),
    }
}

/// What the process's control group may take: the least of its own and its parents', as far as it sees them.
fn limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let nested = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mut limits: Vec<u64> = LIMITS.iter().filter_map(|path| read(Path::new(path))).collect();
    let mut folder = Path::new("/sys/fs/cgroup").join(nested);
    while folder.starts_with("/sys/fs/cgroup") {
        limits.extend(read(&folder.join("memory.max")));
        if !folder.pop() {
            break;
        }
    }
    limits.into_iter().min()
}

fn read(path: &Path) -> Option<u64> {
    parse(&fs::read_to_string(path).ok()?)
}

/// `max` or a number of bytes.
fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

/// Reads `off`, a share of the limit like `85%`, or a size.
///
/// # Errors
/// See [`ValueError`].
pub(crate) fn parse_budget(text: &str) -> Result<MemoryBudget, ValueError> {
    if text == "off" {
        return Ok(MemoryBudget::Off);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| (10..=100).contains(percent));
        let bounds = || ValueError::OutOfBounds { least: "10%".to_owned(), most: "100%".to_owned() };
        return percent.map(MemoryBudget::Percent).ok_or_else(bounds);
    }
    crate::values::size(16 << 20..=1 << 50)(text).map(MemoryBudget::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_size_a_share_or_off() {
        for (text, want) in [
            ("off", Some(MemoryBudget::Off)),
            ("85%", Some(MemoryBudget::Percent(85))),
            ("64Mi", Some(MemoryBudget::Bytes(64 << 20))),
            ("9%", None),
            ("101%", None),
            ("1k", None),
            ("%", None),
            ("", None),
        ] {
            assert_eq!(parse_budget(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_limit_is_a_number_of_bytes_or_none() {
        assert_eq!(parse("209715200\n"), Some(200 << 20));
        assert_eq!(parse("max\n"), None);
        assert_eq!(parse("9223372036854771712\n"), None);
        assert_eq!(budget(MemoryBudget::Off), None);
        assert_eq!(budget(MemoryBudget::Bytes(7)), Some(7));
    }
}
