//! One JSON object per line on standard output.
//!
//! ```text
//! {"event":"progress","file":"a.tar","to":"http://x/in/a.tar","sent":1048576,"total":4194304}
//! {"event":"retrying","file":"a.tar","to":"…","kind":"refused","error":"it answered 503","attempt":1,"wait_ms":412}
//! {"event":"delivered","file":"a.tar","to":"…","bytes":4194304,"status":201,"verified":true,"ms":38,"route":"…"}
//! {"event":"failed","file":"a.tar","to":"…","kind":"unreachable","error":"it cannot be reached: …"}
//! {"event":"summary","delivered":2,"failed":1,"exit":4}
//! ```
//!
//! They are written by a thread, so that a reader that stalls costs lines of progress and never the
//! push. Lines about the end of a file wait for the reader as long as there is room for them.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use ringway::runtime::time;
use serde_json::{Value, json};

use super::Track;
use crate::client::outcome::{Delivered, Failure, Tally};
use crate::client::url::Url;
use crate::serve::log_writer::{LogSink, LogWriter};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);
/// Bytes of lines that wait for a reader; past a half of them progress is not told.
const PENDING_BYTES_MAX: usize = 1024 * 1024;
/// How long the end waits for a reader.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The lines, and who takes them.
#[derive(Debug)]
pub(crate) struct Lines {
    preposition: &'static str,
    writer: RefCell<Option<LogWriter>>,
    sink: RefCell<Option<LogSink>>,
    pending: RefCell<Vec<u8>>,
    lost: Cell<u64>,
    tracks: RefCell<Vec<Weak<Track>>>,
    next_progress: Cell<Instant>,
}

impl Lines {
    pub(super) fn start(preposition: &'static str) -> io::Result<Lines> {
        let writer = LogWriter::start()?;
        Ok(Lines {
            preposition,
            sink: RefCell::new(Some(writer.sink())),
            writer: RefCell::new(Some(writer)),
            pending: RefCell::default(),
            lost: Cell::new(0),
            tracks: RefCell::default(),
            next_progress: Cell::new(Instant::now() + PROGRESS),
        })
    }

    pub(super) fn watch(&self, track: &Rc<Track>) {
        self.tracks.borrow_mut().push(Rc::downgrade(track));
    }

    pub(super) fn paint(&self) {
        let now = Instant::now();
        if now >= self.next_progress.get() {
            self.next_progress.set(now + PROGRESS);
            for track in self.tracks.borrow().iter().filter_map(Weak::upgrade) {
                let (sent, total) = (track.sent.get(), track.total.get());
                if sent < total && self.pending.borrow().len() < PENDING_BYTES_MAX / 2 {
                    let file = &*track.file.borrow();
                    self.add(&json!({
                        "event": "progress", "file": file, self.preposition: track.to, "sent": sent,
                        "total": total,
                    }));
                }
            }
        }
        self.flush();
    }

    pub(super) fn retrying(
        &self,
        track: &Track,
        url: &Url,
        failure: &Failure,
        attempt: u32,
        wait: Duration,
    ) {
        self.add(&json!({
            "event": "retrying", "file": *track.file.borrow(), self.preposition: url.to_string(),
            "kind": failure.kind().word(), "error": failure.to_string(), "attempt": attempt,
            "wait_ms": millis(wait),
        }));
    }

    pub(super) fn ended(
        &self,
        track: &Track,
        url: &Url,
        outcome: &Result<Delivered, Failure>,
        took: Duration,
    ) {
        let file = &*track.file.borrow();
        let to = url.to_string();
        self.add(&match outcome {
            Ok(delivered) => json!({
                "event": "delivered", "file": file, self.preposition: to, "bytes": track.total.get(),
                "status": delivered.status, "verified": delivered.verified, "ms": millis(took),
                "route": delivered.receipt,
            }),
            Err(failure) => json!({
                "event": "failed", "file": file, self.preposition: to, "kind": failure.kind().word(),
                "error": failure.to_string(), "sent": track.sent.get(), "ms": millis(took),
            }),
        });
    }

    pub(super) async fn finish(&self, tally: &Tally) {
        self.add(&json!({
            "event": "summary", "delivered": tally.delivered.get(), "failed": tally.failed.get(),
            "exit": tally.exit_status(),
        }));
        let deadline = Instant::now() + LAST_LINES;
        while !self.flush() && Instant::now() < deadline {
            time::sleep(Duration::from_millis(10)).await;
        }
        drop(self.sink.take());
        if let Some(writer) = self.writer.take() {
            writer.finish();
        }
        let lost = self.lost.get();
        if lost > 0 {
            eprintln!("ringwayd: {lost} lines were dropped while standard output stalled");
        }
    }

    pub(super) fn add(&self, line: &Value) {
        let mut pending = self.pending.borrow_mut();
        if pending.len() >= PENDING_BYTES_MAX {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        // Writing to memory does not fail.
        _ = writeln!(pending, "{line}");
    }

    /// Hands on what the writer takes; true if nothing is left.
    fn flush(&self) -> bool {
        let (mut pending, mut sink) = (self.pending.borrow_mut(), self.sink.borrow_mut());
        while let (Some(sink), false) = (sink.as_mut(), pending.is_empty()) {
            match sink.write(&pending) {
                Ok(written) => drop(pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Nobody reads any more, and waiting would not change that.
                Err(_) => pending.clear(),
            }
        }
        pending.is_empty()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
