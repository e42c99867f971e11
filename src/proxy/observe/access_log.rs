//! The access log: one JSON line a request, written by a thread of its own. Never makes a request wait.

mod line;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use line::AccessRecord;

use super::metrics::Metrics;
use crate::settings::AccessLogTarget;

/// The writer of the access log. Owned by the control thread; workers have a [`LogBuffer`] each.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// `None`: the log is off.
    writer: Option<Writer>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Writer {
    queue: SyncSender<Message>,
    /// Disconnected when the writer has ended.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or no thread be started.
    pub(crate) fn open(target: &AccessLogTarget, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match target {
            AccessLogTarget::Off => return Ok(Self { writer: None, metrics: Arc::clone(metrics) }),
            AccessLogTarget::Stdout => Box::new(io::stdout()),
            AccessLogTarget::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        Self::open_on(sink, metrics)
    }

    fn open_on(sink: Box<dyn Write + Send>, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE_BUFFERS_MAX);
        let (alive, ended) = mpsc::sync_channel(0);
        let counted = Arc::clone(metrics);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all(messages, sink, &counted);
            drop(alive);
        })?;
        Ok(Self { writer: Some(Writer { queue, ended }), metrics: Arc::clone(metrics) })
    }

    /// A buffer for one worker.
    pub(crate) fn buffer(&self) -> LogBuffer {
        LogBuffer {
            queue: self.writer.as_ref().map(|writer| writer.queue.clone()),
            metrics: Arc::clone(&self.metrics),
            bytes: Vec::new(),
            lines: 0,
        }
    }

    /// Writes what was handed over and ends the writer. Call it when the workers have ended (a dropped buffer hands
    /// over its rest). Blocks, but for a few seconds at most where nobody takes what is written.
    pub(crate) fn close(self) {
        if !self.close_within(CLOSE_PATIENCE) {
            tracing::warn!("the access log could not be written to its end");
        }
    }

    /// Returns whether everything was written in time.
    fn close_within(self, patience: Duration) -> bool {
        let Some(writer) = self.writer else { return true };
        let deadline = Instant::now() + patience;
        let mut message = Message::Close;
        // The queue is full only when the writer is stuck or far behind.
        while let Err(TrySendError::Full(again)) = writer.queue.try_send(message) {
            message = again;
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(CLOSE_PAUSE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        matches!(writer.ended.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
    }
}

/// One worker's end of the log: lines gather here and go to the writer in bulk.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    /// `None`: the log is off.
    queue: Option<SyncSender<Message>>,
    metrics: Arc<Metrics>,
    bytes: Vec<u8>,
    lines: u64,
}

impl LogBuffer {
    /// Whether a record would go anywhere, so that the caller need not make one.
    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Adds a line, and hands the lines over when there are enough of them. Never waits.
    pub(crate) fn write(&mut self, record: &AccessRecord<'_>) {
        if self.queue.is_none() {
            return;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BUFFER_BYTES + LINE_BYTES_USUAL);
        }
        line::write(&mut self.bytes, record);
        self.lines += 1;
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Hands over what has gathered; the worker calls it about every 50 ms. When the writer is too far behind the
    /// lines are dropped and counted.
    pub(crate) fn flush(&mut self) {
        let Some(queue) = self.queue.as_ref().filter(|_| self.lines > 0) else { return };
        let lines = std::mem::take(&mut self.lines);
        match queue.try_send(Message::Lines { bytes: std::mem::take(&mut self.bytes), lines }) {
            Ok(()) => {}
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.metrics.access_log_dropped.add(lines);
                if let Message::Lines { bytes, .. } = message {
                    self.bytes = bytes;
                    self.bytes.clear();
                }
            }
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug)]
enum Message {
    Lines {
        bytes: Vec<u8>,
        lines: u64,
    },
    /// Everything that was sent before is written, then the writer ends.
    Close,
}

/// Writes until it is told to close or nobody is left to send. Takes the queue with it: whoever sends after the end
/// is told so and counts its lines as dropped.
#[expect(clippy::needless_pass_by_value, reason = "the queue must be closed before the end is told")]
fn write_all(messages: Receiver<Message>, mut sink: Box<dyn Write + Send>, metrics: &Metrics) {
    let mut failing = false;
    while let Ok(Message::Lines { bytes, lines }) = messages.recv() {
        match sink.write_all(&bytes).and_then(|()| sink.flush()) {
            Ok(()) => failing = false,
            Err(error) => {
                metrics.access_log_dropped.add(lines);
                if !failing {
                    tracing::warn!(%error, "the access log cannot be written");
                }
                failing = true;
            }
        }
    }
}

/// Lines are handed over when they are this long together.
const BUFFER_BYTES: usize = 16 << 10;
const LINE_BYTES_USUAL: usize = 1 << 10;
/// Buffers that wait for the writer: about 4 MiB.
const QUEUE_BUFFERS_MAX: usize = 256;
const CLOSE_PAUSE: Duration = Duration::from_millis(1);
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
