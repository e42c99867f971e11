//! What the kernel says about this process, and rates per second. Called once a second.
//!
//! Two figures of memory: what is resident, and what of it the kernel can't take back. The program's own pages are
//! read from its file again when they are needed, so a bound that counted them would depend on which were used lately.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::metrics::Metrics;

/// Sets `memory_usage_bytes`, `baribhara_memory_held_bytes`, `cpu_usage_percent` and `http_requests_per_second`.
#[derive(Debug)]
pub(crate) struct Sampler {
    metrics: Arc<Metrics>,
    last: Sample,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    now: Instant,
    cpu_ticks: u64,
    requests: u64,
}

/// Bytes; 0 where the kernel does not say (not Linux, no /proc).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(super) resident: u64,
    /// Anonymous and shared: not to be had back but from the process.
    pub(crate) held: u64,
}

impl Sampler {
    /// Takes the first sample, so that the memory is known at once and the rates after the first tick.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let last = Sample {
            now: Instant::now(),
            cpu_ticks: read_cpu_ticks(),
            requests: metrics.requests_finished(),
        };
        metrics.process.set_memory(Memory::read());
        Self { metrics, last }
    }

    /// Measures since the last tick; meant to be called once a second. A tick too soon after the last one does
    /// nothing: the kernel counts CPU time in hundredths of a second.
    pub(crate) fn tick(&mut self, now: Instant) {
        let requests = self.metrics.requests_finished();
        self.tick_with(Sample { now, cpu_ticks: read_cpu_ticks(), requests });
        self.metrics.process.set_memory(Memory::read());
    }

    fn tick_with(&mut self, sample: Sample) {
        let elapsed = sample.now.saturating_duration_since(self.last.now);
        if elapsed < ELAPSED_MIN {
            return;
        }
        let elapsed = elapsed.as_secs_f64();
        let process = &self.metrics.process;
        let requests = float(sample.requests.saturating_sub(self.last.requests));
        process.requests_per_second.set(requests / elapsed);
        let cpu_seconds = float(sample.cpu_ticks.saturating_sub(self.last.cpu_ticks)) / TICKS_PER_SECOND;
        process.cpu_percent.set(cpu_seconds / elapsed * 100.0);
        self.last = sample;
    }
}

impl Memory {
    /// Of this process, now.
    pub(crate) fn read() -> Self {
        fs::read_to_string("/proc/self/status").map(|status| Self::parse(&status)).unwrap_or_default()
    }

    /// `VmRSS`, `RssAnon` and `RssShmem` of proc_pid_status(5). A kernel without the parts (before 4.5) has all of it
    /// held.
    fn parse(status: &str) -> Self {
        let resident = field_bytes(status, "VmRSS:").unwrap_or(0);
        let held = field_bytes(status, "RssAnon:").zip(field_bytes(status, "RssShmem:"));
        Self { resident, held: held.map_or(resident, |(anonymous, shared)| anonymous.saturating_add(shared)) }
    }
}

/// Has the allocator give memory that is free back to the kernel. It does so by itself only when it gives up a page a
/// second or more after one became free: a process that goes from much load to none would keep what it took, and one
/// that turns all load away for want of memory would never have any again.
pub(crate) fn give_free_memory_back() {
    // Never written, so no memory is taken for it.
    drop(black_box(Vec::<u8>::with_capacity(WHOLE_PAGE_BYTES)));
}

fn read_cpu_ticks() -> u64 {
    fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ticks(&stat)).unwrap_or(0)
}

fn field_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// User and system time, fields 14 and 15 of proc_pid_stat(5). The second field is the name in parentheses, which
/// may itself hold blanks and parentheses, so the count starts behind its last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The kernel's USER_HZ, which is 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;
const ELAPSED_MIN: Duration = Duration::from_millis(100);
/// So large that the allocator makes a page of its own for it and gives that up at once.
const WHOLE_PAGE_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests;
