//! Reading the kernel's files, and rates from two samples.

use super::*;

#[test]
fn memory_is_read_from_the_status_file() {
    let cases = [
        ("Name:\tx\nVmPeak:\t  99 kB\nVmRSS:\t   12345 kB\nThreads:\t1\n", Some(12_345 * 1024)),
        ("VmRSS:\t0 kB\n", Some(0)),
        ("Name:\tx\n", None),
        ("VmRSS:\tmany kB\n", None),
        ("VmRSS:\t12 MB\n", None),
        ("VmRSS:\t18446744073709551615 kB\n", None),
        ("", None),
    ];
    for (status, want) in cases {
        assert_eq!(field_bytes(status, "VmRSS:"), want, "{status:?}");
    }
    let parts = "VmRSS:\t 40 kB\nRssAnon:\t 20 kB\nRssFile:\t 17 kB\nRssShmem:\t 3 kB\n";
    assert_eq!(Memory::parse(parts), Memory { resident: 40 << 10, held: 23 << 10 });
    assert_eq!(Memory::parse("VmRSS:\t 40 kB\n"), Memory { resident: 40 << 10, held: 40 << 10 });
    assert_eq!(Memory::parse(""), Memory::default());
}

#[test]
fn cpu_time_is_read_behind_any_process_name() {
    let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 99";
    for name in ["baribhara", "a b", "a) S 1 (b", ")"] {
        assert_eq!(cpu_ticks(&format!("42 ({name}) {rest}")), Some(300), "{name}");
    }
    for bad in ["", "42 (x)", "42 (x) S 1 2 3", "42 (x) S 1 2 3 4 5 6 7 8 9 10 a 50"] {
        assert_eq!(cpu_ticks(bad), None, "{bad}");
    }
}

#[test]
fn this_process_has_memory_and_uses_the_cpu() {
    let memory = Memory::read();
    assert!(memory.held > 100_000 && memory.resident > memory.held, "{memory:?}");
    let start = Instant::now();
    let before = read_cpu_ticks();
    while read_cpu_ticks() == before {
        assert!(start.elapsed().as_secs() < 30, "the CPU time does not move");
    }
}

#[test]
fn rates_are_those_since_the_last_tick() {
    let metrics = Metrics::new();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let last = Sample { now: at(0), cpu_ticks: 100, requests: 1_000 };
    let mut sampler = Sampler { metrics: Arc::clone(&metrics), last };
    let close = |gauge: f64, want: f64| (gauge - want).abs() < 1e-9;
    let process = &metrics.process;
    sampler.tick_with(Sample { now: at(1_000), cpu_ticks: 125, requests: 1_500 });
    assert!(close(process.requests_per_second.get(), 500.0) && close(process.cpu_percent.get(), 25.0));
    // A tick that came late, on two cores.
    sampler.tick_with(Sample { now: at(3_000), cpu_ticks: 525, requests: 2_500 });
    assert!(close(process.requests_per_second.get(), 500.0) && close(process.cpu_percent.get(), 200.0));
    sampler.tick_with(Sample { now: at(4_000), cpu_ticks: 525, requests: 2_500 });
    assert!(close(process.requests_per_second.get(), 0.0) && close(process.cpu_percent.get(), 0.0));
    // A tick too soon changes nothing.
    sampler.tick_with(Sample { now: at(4_099), cpu_ticks: 999, requests: 9_999 });
    assert!(close(process.requests_per_second.get(), 0.0) && close(process.cpu_percent.get(), 0.0));
}

#[test]
fn the_sampler_shows_memory_at_once_and_requests_after_a_tick() {
    let metrics = Metrics::new();
    let mut sampler = Sampler::new(Arc::clone(&metrics));
    assert!(metrics.process.memory_bytes.get() > metrics.process.memory_held_bytes.get());
    assert!(metrics.process.memory_held_bytes.get() > 0);
    for _ in 0..10 {
        metrics.request_started();
        metrics.request_finished();
    }
    let second = sampler.last.now + Duration::from_secs(2);
    sampler.tick(second);
    assert!(metrics.render().lines().any(|line| line == "http_requests_per_second 5"));
}
