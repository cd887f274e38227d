//! A processor that does something else to each record, and the plain loop that it must agree with.

use bytes::Bytes;
use ringway::process::{Output, ProcessError, Processor, Window};
use ringway::receipt::Receipt;
use ringway::{Consistency, Route};

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Keep,
    Drop,
    /// The first bytes become others, in place.
    Change,
    /// The record is sent twice as long, out of memory.
    Double,
    /// The record is kept and followed by bytes of the processor's own.
    Insert,
}

/// Records of one size, to which these things are done in turn.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub record: usize,
    pub ops: &'static [Op],
    pub trailer: bool,
}

/// From this length on, the tests let runs leave by reference.
pub const REFERENCE_MIN: u64 = 8192;

pub const TRAILER: &[u8] = b"that was all";
const MARK: &[u8] = b"####";
const OWN: &[u8] = b"in between";

pub const SCRIPTS: [Script; 8] = [
    Script { record: 1024, ops: &[Op::Keep], trailer: true },
    Script { record: 1024, ops: &[Op::Drop], trailer: false },
    Script { record: 1024, ops: &[Op::Keep, Op::Drop], trailer: true },
    Script { record: 32_768, ops: &[Op::Keep, Op::Drop, Op::Drop], trailer: false },
    Script { record: 5000, ops: &[Op::Change, Op::Keep, Op::Keep, Op::Keep], trailer: false },
    Script { record: 700, ops: &[Op::Double, Op::Drop, Op::Insert], trailer: true },
    Script { record: 20_000, ops: &[Op::Change, Op::Insert, Op::Drop, Op::Double], trailer: true },
    Script { record: 1, ops: &[Op::Drop, Op::Drop, Op::Drop, Op::Keep, Op::Keep], trailer: false },
];

impl Script {
    fn op(&self, index: usize) -> Op {
        self.ops[index % self.ops.len()]
    }

    /// Whether a run of what is kept is long enough to leave by reference.
    fn has_long_runs(&self) -> bool {
        let kept = |op: &&Op| matches!(op, Op::Keep);
        let row = self.ops.iter().rev().take_while(kept).count();
        self.ops == [Op::Keep] || (row.max(1) * self.record) as u64 >= REFERENCE_MIN
    }

    fn changes_something(&self) -> bool {
        self.ops.contains(&Op::Change)
    }

    /// What must go out for a file of this content.
    pub fn oracle(&self, content: &[u8]) -> Vec<u8> {
        let mut out = self.oracle_of(content);
        if self.trailer {
            out.extend(TRAILER);
        }
        out
    }

    /// The same without the trailer. A record that the end cuts short is treated like any other.
    pub fn oracle_of(&self, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, record) in content.chunks(self.record).enumerate() {
            match self.op(index) {
                Op::Keep => out.extend(record),
                Op::Drop => {}
                Op::Change => {
                    let mark = MARK.len().min(record.len());
                    out.extend(&MARK[..mark]);
                    out.extend(&record[mark..]);
                }
                Op::Double => {
                    out.extend(record);
                    out.extend(record);
                }
                Op::Insert => {
                    out.extend(record);
                    out.extend(OWN);
                }
            }
        }
        out
    }

    /// What the receipt must say.
    pub fn check(&self, told: &Receipt, what: &str, len: u64, sent: u64, asked: Consistency) {
        let what = format!("{what}: {told}");
        assert_eq!((told.route, told.bytes, &told.fallbacks[..]), (Route::Mapped, sent, &[][..]));
        let done = told.processed.as_ref().unwrap();
        assert_eq!(done.scanned_bytes, len, "{what}");
        let from_file = done.referenced_bytes + done.gathered_bytes + done.changed_bytes;
        assert_eq!((told.file_bytes, told.memory_bytes), (from_file, done.added_bytes), "{what}");
        assert_eq!(from_file + done.added_bytes, sent, "{what}");
        if len > 100_000 {
            let shared = asked == Consistency::Shared;
            assert_eq!(done.referenced_bytes > 0, shared && self.has_long_runs(), "{what}");
            assert_eq!(done.changed_bytes > 0, self.changes_something(), "{what}");
            assert_eq!(done.windows_read > 0, !shared, "{what}");
            assert_eq!(done.windows_mapped > 0, shared, "{what}");
        }
    }
}

impl Processor for Script {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let mut at = 0;
        // It keeps no state: which record it is tells the place in the file. Slices begin at a record.
        while at < window.len() && !output.is_full() {
            let index = usize::try_from(window.offset())? / self.record + at / self.record;
            let index = if window.offset() % self.record as u64 == 0 {
                index
            } else {
                return Err("torn".into());
            };
            let end = (at + self.record).min(window.len());
            if end - at < self.record && !window.is_last() {
                break;
            }
            match self.op(index) {
                Op::Keep => output.send(at..end),
                Op::Drop => {}
                Op::Change => {
                    window.write(at, &MARK[..MARK.len().min(end - at)])?;
                    output.send(at..end);
                }
                Op::Double => {
                    if output.room() < 2 * (end - at) {
                        break;
                    }
                    for _ in 0..2 {
                        let copied = window.copy_to(at, &mut output.spare()[..end - at]);
                        output.wrote(copied);
                    }
                }
                Op::Insert => {
                    output.send(at..end);
                    output.insert(Bytes::from_static(OWN));
                }
            }
            at = end;
        }
        Ok(at)
    }

    fn end(&mut self, output: &mut Output<'_>) -> Result<(), ProcessError> {
        if self.trailer {
            output.write(TRAILER)?;
        }
        Ok(())
    }

    fn changes(&self) -> bool {
        self.changes_something()
    }

    fn writes(&self) -> usize {
        if self.ops.contains(&Op::Double) { 2 * self.record.max(30_000) } else { 0 }
    }
}
