//! Writes the access log on a thread of its own, because standard output may be a pipe that nobody
//! reads, and a ring must never wait for that.
//!
//! ```text
//! thread 1: AccessLog ─┐ try_send
//! thread 2: AccessLog ─┼──────────▶ [ bounded queue of chunks ] ──▶ writer thread ──▶ stdout
//! thread n: AccessLog ─┘ whole lines
//! ```

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Chunks that wait for the writer, all threads together.
const CHUNKS_MAX: usize = 32;
/// A chunk is not longer than this unless a single line is: so 2 MiB wait at most.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// How long the end of the daemon waits for standard output to take what is left.
const LAST_CHUNKS_MAX: Duration = Duration::from_secs(2);

/// The thread that writes, and the line to it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    chunks: Option<SyncSender<Vec<u8>>>,
    ended: Receiver<()>,
    lost_lines: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Those of starting a thread and of duplicating standard output.
    pub(crate) fn start() -> io::Result<LogWriter> {
        let (chunks, queue) = sync_channel(CHUNKS_MAX);
        let (end, ended) = channel();
        let lost_lines = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&lost_lines);
        // Past the buffer of io::stdout, which would look for line ends in what are whole lines.
        let output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        thread::Builder::new().name("ringwayd-log".to_owned()).spawn(move || {
            write_all(&queue, &output, &lost);
            // Nobody waits if the daemon has ended without its log.
            _ = end.send(());
        })?;
        Ok(LogWriter { chunks: Some(chunks), ended, lost_lines })
    }

    /// Nothing is logged and there is no thread.
    pub(crate) fn none() -> LogWriter {
        LogWriter { chunks: None, ended: channel().1, lost_lines: Arc::default() }
    }

    /// Where one thread of the daemon writes to.
    pub(crate) fn sink(&self) -> LogSink {
        LogSink {
            chunks: self.chunks.clone(),
            lost_lines: Arc::clone(&self.lost_lines),
            reported: 0,
        }
    }

    /// Waits for the last lines, and says how many were lost. All sinks must be gone.
    pub(crate) fn finish(self) -> u64 {
        drop(self.chunks);
        _ = self.ended.recv_timeout(LAST_CHUNKS_MAX);
        self.lost_lines.load(Ordering::Relaxed)
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, mut output: &std::fs::File, lost: &AtomicU64) {
    let mut told = 0;
    for chunk in queue {
        if let Err(error) = output.write_all(&chunk) {
            // Ending the queue is what the sinks notice.
            eprintln!("ringwayd: the access log ends, standard output takes no more: {error}");
            return;
        }
        let lost = lost.load(Ordering::Relaxed);
        if lost > told {
            eprintln!(
                "ringwayd: {} lines of the access log were dropped while standard output stalled",
                lost - told
            );
            told = lost;
        }
    }
}

/// Hands chunks of whole lines to the writer, and refuses them while it is behind.
#[derive(Debug)]
pub(crate) struct LogSink {
    chunks: Option<SyncSender<Vec<u8>>>,
    lost_lines: Arc<AtomicU64>,
    reported: u64,
}

impl LogSink {
    /// Adds what one log has lost since it last said so.
    pub(crate) fn report_lost(&mut self, lost_lines: u64) {
        let more = lost_lines - self.reported;
        self.reported = lost_lines;
        self.lost_lines.fetch_add(more, Ordering::Relaxed);
    }
}

impl Write for LogSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let Some(chunks) = &self.chunks else { return Ok(lines.len()) };
        let len = whole_lines(lines);
        match chunks.try_send(lines[..len].to_vec()) {
            Ok(()) => Ok(len),
            Err(TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TrySendError::Disconnected(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The length of the whole lines that fit into a chunk, so that no two threads share a line.
fn whole_lines(lines: &[u8]) -> usize {
    let within = &lines[..lines.len().min(CHUNK_BYTES_MAX)];
    let last = within.iter().rposition(|&byte| byte == b'\n');
    let end = last.or_else(|| lines.iter().position(|&byte| byte == b'\n'));
    end.map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_at_the_end_of_a_line() {
        assert_eq!(whole_lines(b"one\ntwo\n"), 8);
        let mut lines = vec![b'a'; CHUNK_BYTES_MAX - 10];
        lines.push(b'\n');
        let first = lines.len();
        lines.extend(vec![b'b'; 100]);
        lines.push(b'\n');
        assert_eq!(whole_lines(&lines), first);
        let mut long = vec![b'a'; 2 * CHUNK_BYTES_MAX];
        long.extend(b"\nnext\n");
        assert_eq!(whole_lines(&long), 2 * CHUNK_BYTES_MAX + 1);
    }

    #[test]
    fn a_writer_that_is_behind_refuses_and_loses_nothing_by_itself() {
        let (chunks, queue) = sync_channel(1);
        let mut sink = LogSink { chunks: Some(chunks), lost_lines: Arc::default(), reported: 0 };
        assert_eq!(sink.write(b"one\n").unwrap(), 4);
        assert_eq!(sink.write(b"two\n").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(queue.recv().unwrap(), b"one\n");
        drop(queue);
        assert_eq!(sink.write(b"two\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
