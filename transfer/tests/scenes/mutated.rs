//! Files that change in the middle of their transfer, after a known number of bytes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ringway::error::{Blame, ErrorKind, Truncated};
use ringway::{Consistency, FileSlice, Mode, Receipt, Route, Source, TransferError, transfer_file};
use tempfile::TempDir;

use crate::support::gated::Gated;
use crate::support::{WAYS, canary_bytes, canary_file, end, folder, open, runtime, unix_pair};

pub const LEN: u64 = 4 << 20;
pub const QUANTUM: u64 = 64 << 10;
/// What lies between the callback and the head, at most: a pipe that drains and one filled ahead.
pub const STAGED_MAX: u64 = 2 * QUANTUM;

/// What a way is called in a message; `None` is what the plan chooses.
pub type Way = Option<(Route, Mode)>;

pub fn ways() -> impl Iterator<Item = Way> {
    WAYS.into_iter().map(Some).chain([None])
}

pub struct Outcome {
    pub result: Result<Receipt, TransferError>,
    pub received: Vec<u8>,
    /// How much was sent when the change was made.
    pub at: u64,
}

impl Outcome {
    /// The error, once its count agrees with what the peer has.
    pub fn truncated(&self, way: Way) -> Truncated {
        let error = self.result.as_ref().expect_err("it was truncated");
        let ErrorKind::Truncated(truncated) = *error.kind() else { panic!("{way:?}: {error}") };
        let received = self.received.len() as u64;
        assert_eq!((error.sent(), truncated.sent), (received, received), "{way:?}");
        assert_eq!(error.blame(), Blame::File);
        truncated
    }
}

/// Sends `source` in one way and makes `change` as soon as `after` bytes are sent.
pub fn run(
    way: Way,
    source: impl Into<Source>,
    after: u64,
    consistency: Consistency,
    change: impl FnOnce(u64),
) -> Outcome {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    peer.open(u64::MAX);
    let (mut change, mut at) = (Some(change), 0);
    let result = runtime().block_on(async {
        let mut transfer = transfer_file(source, &mut stream)
            .quantum(QUANTUM)
            .consistency(consistency)
            .on_progress(|told| {
                if told.sent >= after
                    && let Some(change) = change.take()
                {
                    assert!(told.ended.is_none() && told.sent < told.total, "too late: {told:?}");
                    at = told.sent;
                    change(told.sent);
                }
            });
        if let Some((route, mode)) = way {
            transfer = transfer.route(route).mode(mode);
        }
        transfer.await
    });
    end(stream);
    Outcome { result, received: peer.finish(), at }
}

pub fn fresh(folder: &TempDir) -> std::path::PathBuf {
    let path = canary_file(folder, 3, LEN);
    // The clock of file times is coarse: a change must not fall into the moment of the making.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
    path
}

pub fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

pub fn assert_same(way: Way, received: &[u8], expected: &[u8]) {
    let first = received.iter().zip(expected).position(|(came, wanted)| came != wanted);
    assert_eq!(first, None, "{way:?}: the first byte that differs");
    assert_eq!(received.len(), expected.len(), "{way:?}");
}

pub fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// Cuts the file ahead of what is staged.
pub fn truncate_ahead() {
    let folder = folder();
    // In the middle of a page, at a page, and exactly at a quantum.
    for end in [(2 << 20) + 123, (2 << 20) + 4096, 2 << 20] {
        for way in ways() {
            let path = fresh(&folder);
            let outcome =
                run(way, open(&path), 1 << 20, Consistency::Shared, |_| truncate(&path, end));
            let truncated = outcome.truncated(way);
            assert_eq!(truncated, Truncated { expected: LEN, sent: end }, "{way:?}");
            assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(end)));
        }
    }
}

/// Adds to the file while it is sent.
pub fn grow() {
    let folder = folder();
    // A whole number of steps, and not.
    for (way, promised) in ways().flat_map(|way| [(way, LEN), (way, LEN - 777)]) {
        let path = fresh(&folder);
        let outcome = run(
            way,
            FileSlice::new(&open(&path), 0..promised),
            1 << 20,
            Consistency::Shared,
            |_| {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&[7; 100_000], LEN).unwrap();
            },
        );
        let receipt = outcome.result.unwrap();
        assert_eq!(receipt.bytes, promised, "{way:?}");
        let change = receipt.source_changed.expect("the growth is noticed");
        assert_eq!((change.before.size, change.after.size), (LEN, LEN + 100_000));
        assert_same(way, &outcome.received, &canary_bytes(3, 0, usize_of(promised)));
    }
}
