//! The numbers that a run on the cluster ends with: one line each, on standard output and in `BARIBHARA_REPORT`.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

/// Says what was measured, and what it was held against. `.ci/cluster` makes a table of these lines.
///
/// # Panics
/// When the file that `BARIBHARA_REPORT` names cannot be written.
pub fn measured(what: &str, value: impl Display, bound: &str) {
    let line = format!("measured: {what} | {value} | {bound}");
    writeln!(std::io::stdout(), "{line}").expect("standard output");
    if let Some(path) = std::env::var_os("BARIBHARA_REPORT") {
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).expect("the file of BARIBHARA_REPORT");
        writeln!(file, "{line}").expect("write the report");
    }
}

/// A time as people read it: `7.3 ms`, `2.10 s`.
pub fn ms(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

/// The value below which this share (0 to 1) of the values lie, the nearest rank.
///
/// # Panics
/// Without values.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    assert!(!values.is_empty(), "a percentile of nothing");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// How steeply these points (x, y) rise, in y for each x: the median of the slopes between all pairs (Theil and Sen). One
/// step up, as when an allocator takes another segment, is not taken for a steady rise.
///
/// # Panics
/// With fewer than two points, or when two have the same x.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::new();
    for (index, (x, y)) in points.iter().enumerate() {
        slopes.extend(points[index + 1..].iter().map(|(later, above)| (above - y) / (later - x)));
    }
    assert!(!slopes.is_empty() && slopes.iter().all(|slope| slope.is_finite()), "no slope: {points:?}");
    slopes.sort_unstable_by(f64::total_cmp);
    slopes[slopes.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let values: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        for (share, want) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(percentile(&values, share), Duration::from_millis(want), "{share}");
        }
        assert_eq!(percentile(&values[..1], 0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_slope_is_that_of_a_steady_rise_and_not_of_one_step() {
        assert!((slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 1.0), (1.0, 2.0), (2.0, 1.0)]).abs() < 1e-9);
        let step: Vec<_> = (0..30).map(|x| (f64::from(x), if x < 10 { 1.0 } else { 3.0 })).collect();
        assert!(slope(&step).abs() < 1e-9);
        let stairs: Vec<_> = (0..30).map(|x| (f64::from(x), f64::from(x / 5))).collect();
        assert!((slope(&stairs) - 0.2).abs() < 0.05, "{}", slope(&stairs));
    }

    #[test]
    fn times_have_their_unit() {
        assert_eq!(ms(Duration::from_micros(7300)), "7.3 ms");
        assert_eq!(ms(Duration::from_millis(2100)), "2.10 s");
    }
}
