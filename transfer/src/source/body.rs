//! A source whose lengths are fixed, and the facts about it that the plan needs.

use std::ops::Range;

use bytes::Bytes;
use ringway_runtime::fs::{self, File, FileKind, FileSystem};

use super::{DIRECT_BLOCK, Part, Source};
use crate::error::{ErrorKind, Side, TransferError, errno};
use crate::limits::{Limits, Thresholds};
use crate::plan::{
    Consistency, DirectIo, Filesystem, Residency, Route, SinkFacts, SourceFacts, Wishes,
};
use crate::progress::{Extent, FILE_END_MAX};
use crate::receipt::{Change, FileStamp};

/// A source whose lengths are fixed, with what is known of it.
pub(crate) struct Body {
    parts: Vec<Part>,
    pub(crate) facts: SourceFacts,
}

impl Body {
    /// Looks at every file and fixes the lengths. `known` is whether the first quantum is in memory, by
    /// whoever has asked already.
    pub(crate) fn fix(
        source: Source,
        sink: &SinkFacts,
        wishes: &Wishes,
        limits: &Limits,
        thresholds: &Thresholds,
        known: Option<Residency>,
    ) -> Result<(Self, Vec<Extent>), TransferError> {
        let mut extents = Vec::with_capacity(source.parts.len());
        let mut body = Self {
            parts: source.parts,
            facts: SourceFacts {
                total_bytes: 0,
                file_bytes: 0,
                file_parts: 0,
                filesystem: Filesystem::Local,
                direct_io: DirectIo::No,
                residency: Residency::Resident,
            },
        };
        if body.parts.len() > limits.parts_max {
            let (given, max) = (body.parts.len(), limits.parts_max);
            return Err(TransferError::new(ErrorKind::TooManyParts { given, max }, 0));
        }
        for part in 0..body.parts.len() {
            let extent = body.fix_part(part)?;
            extents.push(extent);
            body.facts.total_bytes = body.facts.total_bytes.saturating_add(extent.len());
        }
        if sink.takes_file_bytes() || wishes.processed {
            let ask = || body.first_residency(&extents, wishes, limits, thresholds);
            body.facts.residency = known.unwrap_or_else(ask);
        }
        Ok((body, extents))
    }

    fn fix_part(&mut self, part: usize) -> Result<Extent, TransferError> {
        let unreadable = |op, error| TransferError::from_io(op, Side::Source, error, 0);
        let taken = std::mem::replace(&mut self.parts[part], Part::Bytes(Bytes::new()));
        let (file, asked, seen) = match taken {
            Part::Bytes(bytes) => {
                let len = bytes.len() as u64;
                self.parts[part] = Part::Bytes(bytes);
                return Ok(Extent::Bytes { len });
            }
            Part::File(file, range) => (file, range, None),
            Part::Seen(file, range, seen) => (file, Some(range), Some(seen)),
            Part::Fixed(file, _) => (file, None, None),
        };
        let metadata = match seen {
            Some(seen) => seen,
            None => file.metadata().map_err(|error| unreadable("fstat", error))?,
        };
        if metadata.kind != FileKind::Regular {
            let folder = metadata.kind == FileKind::Folder;
            let errno = if folder { errno::EISDIR } else { errno::ESPIPE };
            let kind = ErrorKind::SourceNotRegular { op: "fstat", errno };
            return Err(TransferError::new(kind, 0));
        }
        let system = file.file_system().map_err(|error| unreadable("fstatfs", error))?;
        let filesystem = class_of(system);
        let range = asked.unwrap_or(0..metadata.len);
        let len = range.end.saturating_sub(range.start);
        // A generated file tells no length, or a page for all; what it has shows when it is read.
        let known = if filesystem == Filesystem::Pseudo { FILE_END_MAX } else { metadata.len };
        if range.start > range.end || range.end > known {
            let (offset, file_len) = (range.start, metadata.len);
            return Err(TransferError::new(ErrorKind::InvalidRange { offset, len, file_len }, 0));
        }
        if len > 0 {
            let direct = file.is_direct().map_err(|error| unreadable("fcntl", error))?;
            self.learn(len, filesystem, direct_io(direct, &range));
        }
        self.parts[part] = Part::Fixed(file, stamp(&metadata));
        Ok(Extent::File { offset: range.start, len })
    }

    /// Adds what one file range means for the whole: the least capable file system decides.
    fn learn(&mut self, len: u64, filesystem: Filesystem, direct_io: DirectIo) {
        let facts = &mut self.facts;
        facts.file_bytes = facts.file_bytes.saturating_add(len);
        facts.file_parts += 1;
        if facts.file_parts == 1 || trouble(filesystem) > trouble(facts.filesystem) {
            facts.filesystem = filesystem;
        }
        facts.direct_io = match (facts.direct_io, direct_io) {
            (DirectIo::Misaligned, _) | (_, DirectIo::Misaligned) => DirectIo::Misaligned,
            (DirectIo::Aligned, _) | (_, DirectIo::Aligned) => DirectIo::Aligned,
            (DirectIo::No, DirectIo::No) => DirectIo::No,
        };
    }

    /// Whether the first quantum is in memory, asked where it matters.
    fn first_residency(
        &self,
        extents: &[Extent],
        wishes: &Wishes,
        limits: &Limits,
        at: &Thresholds,
    ) -> Residency {
        let decides = residency_matters(&self.facts, wishes, at);
        let first = extents
            .iter()
            .position(|extent| matches!(extent, Extent::File { .. }) && extent.len() > 0);
        match first.map(|part| (part, extents[part])) {
            Some((part, Extent::File { offset, len })) if decides => {
                self.residency(part, offset, len.min(limits.quantum_bytes), limits)
            }
            _ => Residency::Resident,
        }
    }

    /// Whether a range of the file of a part is in memory.
    pub(crate) fn residency(
        &self,
        part: usize,
        offset: u64,
        len: u64,
        limits: &Limits,
    ) -> Residency {
        let ask = |file: &File| file.residency_lately(offset, len, limits.residency_age);
        self.file(part).map_or(Residency::Unknown, |file| residency_of(ask(file)))
    }

    /// The file of a part.
    pub(crate) fn file(&self, part: usize) -> Option<&File> {
        match self.parts.get(part) {
            Some(Part::File(file, _) | Part::Seen(file, ..) | Part::Fixed(file, _)) => Some(file),
            _ => None,
        }
    }

    /// The memory of a part; empty if the part is a file.
    pub(crate) fn memory(&self, part: usize) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match self.parts.get(part) {
            Some(Part::Bytes(bytes)) => bytes,
            _ => &NONE,
        }
    }

    /// The first file that is not what it was when the transfer started.
    pub(crate) fn change(&self) -> Option<Change> {
        self.parts.iter().find_map(|part| match part {
            Part::Fixed(file, before) => before.change_to(stamp(&file.metadata().ok()?)),
            Part::Bytes(_) | Part::File(..) | Part::Seen(..) => None,
        })
    }
}

/// Whether the plan changes with what is in memory. What is copied tries to read what is resident, and
/// sees for itself.
pub(crate) fn residency_matters(facts: &SourceFacts, wishes: &Wishes, at: &Thresholds) -> bool {
    let must_splice = wishes.route == Some(Route::Splice) || wishes.forbidden.contains(Route::Copy);
    (facts.file_bytes > at.copy_max_bytes || must_splice)
        && wishes.mode.is_none()
        && wishes.consistency == Consistency::Shared
        && matches!(facts.filesystem, Filesystem::Local | Filesystem::Unknown)
        && facts.direct_io == DirectIo::No
}

pub(crate) fn residency_of(found: fs::Residency) -> Residency {
    match found {
        fs::Residency::Resident => Residency::Resident,
        fs::Residency::Cold => Residency::Cold,
        fs::Residency::Unknown => Residency::Unknown,
    }
}

pub(crate) fn class_of(system: FileSystem) -> Filesystem {
    match system {
        FileSystem::Local => Filesystem::Local,
        FileSystem::Memory => Filesystem::Memory,
        FileSystem::Network => Filesystem::Network,
        FileSystem::Fuse => Filesystem::Fuse,
        FileSystem::Pseudo => Filesystem::Pseudo,
        _ => Filesystem::Unknown,
    }
}

/// How much a file system narrows the choice of routes.
fn trouble(filesystem: Filesystem) -> u8 {
    match filesystem {
        Filesystem::Memory => 0,
        Filesystem::Local => 1,
        Filesystem::Unknown => 2,
        Filesystem::Network => 3,
        Filesystem::Fuse => 4,
        Filesystem::Pseudo => 5,
    }
}

fn direct_io(direct: bool, range: &Range<u64>) -> DirectIo {
    let aligned = |at: u64| at.is_multiple_of(DIRECT_BLOCK);
    match direct {
        false => DirectIo::No,
        true if aligned(range.start) && aligned(range.end) => DirectIo::Aligned,
        true => DirectIo::Misaligned,
    }
}

/// How a file differs from what was seen of it, by another look.
pub(crate) fn change_since(seen: &fs::Metadata, file: &File) -> Option<Change> {
    stamp(seen).change_to(stamp(&file.metadata().ok()?))
}

fn stamp(metadata: &fs::Metadata) -> FileStamp {
    let time = |time: std::time::Duration| {
        (i64::try_from(time.as_secs()).unwrap_or(i64::MAX), time.subsec_nanos())
    };
    FileStamp {
        device: metadata.device,
        inode: metadata.inode,
        size: metadata.len,
        mtime: time(metadata.modified),
        ctime: time(metadata.changed),
    }
}
