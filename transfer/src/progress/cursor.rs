//! A position in a body, and how it moves over extents.

use ringway_runtime::fault::{Sabotage, sabotaged};

use super::{Extent, Fill, OP_LEN_MAX, Segment};

/// Bytes, and how many of them came from a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) all: u64,
    pub(super) file: u64,
}

impl Count {
    pub(super) fn add(&mut self, moved: Count) {
        self.all += moved.all;
        self.file += moved.file;
    }
}

/// A position in the body. It never rests at the end of an extent, nor in an empty one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    part: usize,
    within: u64,
}

impl Cursor {
    /// The rest of the extent here and whether it is a file's; `None` at the end of the body.
    pub(super) fn segment_rest(self, extents: &[Extent]) -> Option<(u64, bool)> {
        let extent = extents.get(self.part)?;
        Some((extent.len() - self.within, matches!(extent, Extent::File { .. })))
    }

    /// The segment that begins here, at most `limit` bytes long.
    pub(super) fn segment(self, extents: &[Extent], limit: u64) -> Option<Segment> {
        let Self { part, within } = self;
        let (rest, _) = self.segment_rest(extents)?;
        let rest = if sabotaged(Sabotage::PromisedLengthIgnored) { u64::MAX } else { rest };
        let len = rest.min(limit).min(OP_LEN_MAX);
        Some(match extents[part] {
            Extent::Bytes { .. } => Segment::Bytes { part, start: within, len },
            Extent::File { offset, .. } => {
                let mask = if sabotaged(Sabotage::OffsetsCut) { u32::MAX.into() } else { u64::MAX };
                Segment::File(Fill { part, offset: (offset + within) & mask, len })
            }
        })
    }

    /// Moves on by `n` bytes, across extents, and tells what it passed over.
    pub(super) fn advance(&mut self, extents: &[Extent], n: u64) -> Count {
        let mut moved = Count::default();
        while moved.all < n {
            let Some((rest, in_file)) = self.segment_rest(extents) else { break };
            let len = rest.min(n - moved.all);
            moved.add(Count { all: len, file: if in_file { len } else { 0 } });
            self.within += len;
            *self = self.settled(extents);
        }
        moved
    }

    /// The same position, moved past the ends of extents and past empty ones.
    pub(super) fn settled(mut self, extents: &[Extent]) -> Self {
        while self.segment_rest(extents).is_some_and(|(rest, _)| rest == 0) {
            self = Self { part: self.part + 1, within: 0 };
        }
        self
    }
}
