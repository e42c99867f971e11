//! The way of the lines: nothing lost on a clean end, nothing waited for, every loss counted.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use super::*;

fn record(path: &str) -> AccessRecord<'_> {
    AccessRecord {
        time_unix_ms: 0,
        request_id: Some(b"r"),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: "GET",
        host: "h",
        path,
        protocol: "HTTP/1.1",
        user_agent: None,
        status: 200,
        duration_us: 1,
        bytes_in: 0,
        bytes_out: 0,
        route: "a/b/c",
        upstream: None,
        attempts: 0,
        decision: None,
        reason: None,
        refused_by: None,
    }
}

type Leave = SyncSender<io::Result<()>>;
type Written = Arc<Mutex<Vec<u8>>>;

/// A sink that waits for leave to write, or fails.
struct Gate {
    leave: Receiver<io::Result<()>>,
    written: Written,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.leave.recv().unwrap_or(Ok(()))?;
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log whose sink writes once for each `Ok` that is sent, and freely once the sender is dropped.
fn gated() -> (AccessLog, Leave, Written) {
    let (give_leave, leave) = mpsc::sync_channel(1);
    let written = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate { leave, written: Arc::clone(&written) };
    (AccessLog::open_on(Box::new(gate), &Metrics::new()).unwrap(), give_leave, written)
}

fn lines(written: &Written) -> usize {
    written.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_clean_end_loses_no_line_of_any_worker() {
    let path = std::env::temp_dir().join(format!("baribhara-access-log-{}", std::process::id()));
    let metrics = Metrics::new();
    let log = AccessLog::open(&AccessLogTarget::File(path.clone()), &metrics).unwrap();
    thread::scope(|scope| {
        for worker in 0..4 {
            let mut buffer = log.buffer();
            scope.spawn(move || {
                for request in 0..2_000 {
                    buffer.write(&record(&format!("/{worker}/{request}")));
                }
            });
        }
    });
    assert!(log.close_within(Duration::from_secs(20)));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(metrics.access_log_dropped.get(), 0);
    let mut paths: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().unwrap().to_owned()
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), 8_000);
}

#[test]
fn a_file_is_appended_to() {
    let path = std::env::temp_dir().join(format!("baribhara-access-log-append-{}", std::process::id()));
    for _ in 0..2 {
        let log = AccessLog::open(&AccessLogTarget::File(path.clone()), &Metrics::new()).unwrap();
        log.buffer().write(&record("/"));
        assert!(log.close_within(Duration::from_secs(20)));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let target = AccessLogTarget::File("/nonexistent/baribhara/log".into());
    assert!(AccessLog::open(&target, &Metrics::new()).is_err());
}

#[test]
fn a_stuck_writer_costs_lines_that_are_counted_and_no_time() {
    let (log, leave, written) = gated();
    let mut buffer = log.buffer();
    let sent = 200_000;
    for _ in 0..sent {
        buffer.write(&record("/some/path"));
    }
    buffer.flush();
    let dropped = log.metrics.access_log_dropped.get();
    assert!(dropped > 0 && dropped < sent, "{dropped}");
    assert!(!log_closes_at_once(&log));
    // With the gate open all that was taken is written.
    drop(leave);
    drop(buffer);
    assert!(log.close_within(Duration::from_secs(20)));
    assert_eq!(lines(&written) as u64 + dropped, sent);
}

/// Whether a second handle on the queue could close it now; the queue is full while the writer is stuck.
fn log_closes_at_once(log: &AccessLog) -> bool {
    log.writer.as_ref().unwrap().queue.try_send(Message::Close).is_ok()
}

#[test]
fn closing_does_not_wait_for_a_stuck_writer_longer_than_told() {
    let (log, leave, _written) = gated();
    log.buffer().write(&record("/"));
    let started = Instant::now();
    assert!(!log.close_within(Duration::from_millis(20)));
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(leave);
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_the_next_ones_are_tried() {
    let (log, leave, written) = gated();
    let mut buffer = log.buffer();
    buffer.write(&record("/1"));
    buffer.write(&record("/2"));
    buffer.flush();
    leave.send(Err(io::Error::other("disk full"))).unwrap();
    buffer.write(&record("/3"));
    drop(buffer);
    leave.send(Ok(())).unwrap();
    let metrics = Arc::clone(&log.metrics);
    assert!(log.close_within(Duration::from_secs(20)));
    assert_eq!((metrics.access_log_dropped.get(), lines(&written)), (2, 1));
}

#[test]
fn nothing_is_handed_over_before_there_is_enough_or_a_flush() {
    let (log, leave, written) = gated();
    drop(leave);
    let mut buffer = log.buffer();
    for _ in 0..10 {
        buffer.write(&record("/"));
    }
    assert_eq!(buffer.lines, 10);
    while buffer.lines != 0 {
        assert!(buffer.bytes.len() < BUFFER_BYTES);
        buffer.write(&record("/"));
    }
    buffer.write(&record("/"));
    buffer.flush();
    assert!(buffer.bytes.is_empty());
    drop(buffer);
    assert!(log.close_within(Duration::from_secs(20)));
    assert!(lines(&written) > 11);
}

#[test]
fn a_log_that_is_off_takes_nothing() {
    let log = AccessLog::open(&AccessLogTarget::Off, &Metrics::new()).unwrap();
    let mut buffer = log.buffer();
    assert!(!buffer.is_on());
    buffer.write(&record("/"));
    buffer.flush();
    assert!(buffer.bytes.is_empty() && buffer.lines == 0);
    assert!(log.close_within(Duration::ZERO));
    assert_eq!(buffer.metrics.access_log_dropped.get(), 0);
}

#[test]
fn lines_after_the_end_are_counted_as_dropped() {
    let (log, leave, _written) = gated();
    drop(leave);
    let mut late = log.buffer();
    assert!(log.close_within(Duration::from_secs(20)));
    late.write(&record("/"));
    late.flush();
    assert_eq!(late.metrics.access_log_dropped.get(), 1);
}
