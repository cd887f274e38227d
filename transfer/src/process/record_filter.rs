//! Sending only the records that match: a cheap test of the head, then one of the content.

use std::fmt;

use super::{Output, ProcessError, Processor, Window};
use crate::plan::Consistency;

/// Records after which the clock is asked whether the turn is over.
const RECORDS_PER_LOOK: u32 = 256;

/// Keeps the records that match, in two stages as RocketMQ does: `head` looks at a few bytes of the
/// record where it lies, and most records need no more; [`content`](Self::content) is given a copy of
/// those that are left.
///
/// ```
/// use ringway::process::{Framing, RecordFilter, rehearse};
///
/// // A length of two bytes, which counts itself, then a kind, then text.
/// let framing = Framing::Prefixed { header: 2, length: |head| {
///     usize::from(u16::from_be_bytes([head[0], head[1]]))
/// } };
/// let filter = RecordFilter::new(framing, |record| record.read(2) == Some([b'w']))
///     .content(|text| text.ends_with(b"disk"));
/// let kept = rehearse(filter, b"\x00\x07wdisk\x00\x06wnet\x00\x07idisk", 8)?;
/// assert_eq!(kept, b"\x00\x07wdisk");
/// # Ok::<(), ringway::process::ProcessError>(())
/// ```
pub struct RecordFilter<'f> {
    framing: Framing,
    head: HeadTest<'f>,
    content: Option<ContentTest<'f>>,
    guards: bool,
    copy: Vec<u8>,
    seen: u64,
    kept: u64,
}

type HeadTest<'f> = Box<dyn FnMut(&Record<'_>) -> bool + Send + 'f>;
type ContentTest<'f> = Box<dyn FnMut(&[u8]) -> bool + Send + 'f>;

/// Where records begin and end.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Framing {
    /// Every record has this many bytes; what is left at the end of the file is dropped.
    Fixed(usize),
    /// The first `header` bytes of a record, at most 64, tell how long it is in all.
    Prefixed {
        /// Bytes that `length` is given.
        header: usize,
        /// Bytes in the record, the header included. Less than the header is an error.
        length: fn(&[u8]) -> usize,
    },
}

/// A record where it lies, for the first stage.
#[derive(Debug, Clone, Copy)]
pub struct Record<'w> {
    window: &'w Window<'w>,
    at: usize,
    len: usize,
}

impl Record<'_> {
    /// A copy of `N` bytes from `at` on, counted in the record; `None` if it ends before.
    #[must_use]
    #[inline]
    pub fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at.checked_add(N)? > self.len {
            return None;
        }
        self.window.read(self.at + at)
    }

    /// Bytes in the record.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none, which no record has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the record begins in its file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.window.offset() + self.at as u64
    }
}

impl<'f> RecordFilter<'f> {
    /// Keeps the records whose `head` matches.
    #[must_use]
    pub fn new(framing: Framing, head: impl FnMut(&Record<'_>) -> bool + Send + 'f) -> Self {
        Self {
            framing,
            head: Box::new(head),
            content: None,
            guards: false,
            copy: Vec::new(),
            seen: 0,
            kept: 0,
        }
    }

    /// The same for records that all have `bytes` bytes.
    #[must_use]
    pub fn fixed(bytes: usize, head: impl FnMut(&Record<'_>) -> bool + Send + 'f) -> Self {
        Self::new(Framing::Fixed(bytes), head)
    }

    /// Keeps of those only the records whose whole content matches too.
    #[must_use]
    pub fn content(mut self, content: impl FnMut(&[u8]) -> bool + Send + 'f) -> Self {
        self.content = Some(Box::new(content));
        self
    }

    /// Says that what is left out must not go out, for instance what the peer may not see. The default
    /// consistency is then a snapshot, because under `Shared` a record may be overwritten between the
    /// test and the send.
    #[must_use]
    pub fn guarding(mut self) -> Self {
        self.guards = true;
        self
    }

    /// Records that were looked at so far, and those that were kept.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.seen, self.kept)
    }

    /// The length of the record at `at`, or `None` if the window ends before it does.
    #[inline]
    fn length(&self, window: &Window<'_>, at: usize) -> Result<Option<usize>, ProcessError> {
        let len = match self.framing {
            Framing::Fixed(0) => return Err("records of 0 bytes have no end".into()),
            Framing::Fixed(len) => len,
            Framing::Prefixed { header, length } => {
                let mut bytes = [0; 64];
                let head = bytes.get_mut(..header).ok_or("a header has at most 64 bytes")?;
                if window.copy_to(at, head) < header {
                    return Ok(None);
                }
                match length(head) {
                    len if len < header.max(1) => {
                        let offset = window.offset() + at as u64;
                        return Err(format!("the record at {offset} has a length of {len}").into());
                    }
                    len => len,
                }
            }
        };
        Ok((len <= window.len() - at).then_some(len))
    }

    fn matches(&mut self, record: &Record<'_>) -> bool {
        if !(self.head)(record) {
            return false;
        }
        let Some(content) = &mut self.content else { return true };
        let range = record.at..record.at + record.len;
        if let Some(bytes) = record.window.snapshot() {
            return content(&bytes[range]);
        }
        self.copy.resize(record.len, 0);
        let copied = record.window.copy_to(record.at, &mut self.copy);
        content(&self.copy[..copied])
    }
}

impl Processor for RecordFilter<'_> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let (mut at, mut until_look) = (0, RECORDS_PER_LOOK);
        while at < window.len() && !output.is_full() {
            let Some(len) = self.length(window, at)? else { break };
            let record = Record { window, at, len };
            self.seen += 1;
            if self.matches(&record) {
                self.kept += 1;
                output.send(at..at + len);
            }
            at += len;
            until_look -= 1;
            if until_look == 0 {
                if window.is_due() {
                    return Ok(at);
                }
                until_look = RECORDS_PER_LOOK;
            }
        }
        match self.framing {
            // A rest that is no record any more.
            Framing::Fixed(len) if window.is_last() && window.len() - at < len => Ok(window.len()),
            _ => Ok(at),
        }
    }

    fn consistency(&self) -> Consistency {
        if self.guards { Consistency::Snapshot } else { Consistency::Shared }
    }
}

impl fmt::Debug for RecordFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordFilter")
            .field("framing", &self.framing)
            .field("guards", &self.guards)
            .field("seen", &self.seen)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
