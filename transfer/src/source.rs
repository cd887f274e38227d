//! What a transfer sends: a file, a slice of one, or parts; and the facts that the plan needs.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use ringway_runtime::fs::{self, File, FileKind, FileSystem};

use crate::error::{ErrorKind, Side, TransferError, errno};
use crate::limits::{Limits, Thresholds};
use crate::plan::{
    Consistency, DirectIo, Filesystem, Residency, Route, SinkFacts, SourceFacts, Wishes,
};
use crate::progress::{Extent, FILE_END_MAX};
use crate::receipt::{Change, FileStamp};

/// The block to which direct reads are aligned; no device of today asks for more than a page.
pub(crate) const DIRECT_BLOCK: u64 = 4096;
/// A generated file (procfs) tells no length, so it is read whole before it is sent: up to this.
const GENERATED_MAX: usize = 4 << 20;

/// Anything that [`transfer_file`](crate::transfer_file) can send. Made from a [`File`], a
/// [`FileSlice`] or [`Parts`].
#[derive(Debug, Clone)]
pub struct Source {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    Bytes(Bytes),
    /// A file, and the range of it; `None` means the length that it has when the transfer starts.
    File(File, Option<Range<u64>>),
    /// The same by a caller that has just looked at the file itself.
    Seen(File, Range<u64>, fs::Metadata),
    /// The same once the transfer has started: a file, as it was then.
    Fixed(File, FileStamp),
}

/// A range of a file.
///
/// ```no_run
/// # async fn example(file: ringway::runtime::fs::File) {
/// let second_half = ringway::FileSlice::new(&file, 5000..10_000);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: File,
    range: Range<u64>,
}

impl FileSlice {
    /// The bytes `range` of a file. That they exist is checked when the transfer starts.
    #[must_use]
    pub fn new(file: &File, range: Range<u64>) -> Self {
        Self { file: file.clone(), range }
    }
}

/// Bytes and slices of files, sent in this order and coalesced: a response's head and body, the parts
/// of a multipart range, the batch of a log broker.
///
/// ```no_run
/// # async fn example(file: ringway::runtime::fs::File, stream: &mut ringway::runtime::net::TcpStream) {
/// use ringway::{Parts, transfer_file};
///
/// let parts = Parts::new().bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").file(&file, 0..100);
/// transfer_file(parts, stream).await;
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Parts {
    parts: Vec<Part>,
}

impl Parts {
    /// No parts yet.
    #[must_use]
    pub fn new() -> Self {
        Self { parts: Vec::with_capacity(2) }
    }

    /// Adds bytes of memory.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.parts.push(Part::Bytes(bytes.into()));
        self
    }

    /// Adds a range of a file.
    #[must_use]
    pub fn file(mut self, file: &File, range: Range<u64>) -> Self {
        self.parts.push(Part::File(file.clone(), Some(range)));
        self
    }

    /// Adds a range of a file that the caller has just looked at: `seen` saves the transfer a look of
    /// its own, and counts as the state in which the file was when the transfer started.
    #[must_use]
    pub fn file_as_seen(mut self, file: &File, range: Range<u64>, seen: fs::Metadata) -> Self {
        self.parts.push(Part::Seen(file.clone(), range, seen));
        self
    }

    /// Adds a whole file, as long as it is when the transfer starts.
    #[must_use]
    pub fn whole_file(mut self, file: &File) -> Self {
        self.parts.push(Part::File(file.clone(), None));
        self
    }
}

impl From<Parts> for Source {
    fn from(parts: Parts) -> Self {
        Self { parts: parts.parts }
    }
}

impl From<FileSlice> for Source {
    fn from(slice: FileSlice) -> Self {
        Self { parts: vec![Part::File(slice.file, Some(slice.range))] }
    }
}

impl From<&File> for Source {
    fn from(file: &File) -> Self {
        Self { parts: vec![Part::File(file.clone(), None)] }
    }
}

impl From<File> for Source {
    fn from(file: File) -> Self {
        Self { parts: vec![Part::File(file, None)] }
    }
}

/// A source whose lengths are fixed, with what is known of it.
pub(crate) struct Body {
    parts: Vec<Part>,
    pub(crate) facts: SourceFacts,
}

impl Source {
    /// Whether a whole file is asked for that tells no length (procfs, sysfs).
    pub(crate) fn is_generated(&self) -> bool {
        self.parts.iter().any(is_generated)
    }

    /// Which parts are files.
    pub(crate) fn files(&self) -> Vec<bool> {
        self.parts.iter().map(|part| !matches!(part, Part::Bytes(_))).collect()
    }

    /// The first file that is not as the caller had seen it, if one was seen and can be looked at.
    pub(crate) fn changed_since_seen(&self) -> Option<Change> {
        self.parts.iter().find_map(|part| match part {
            Part::Seen(file, _, seen) => change_since(seen, file),
            Part::Bytes(_) | Part::File(..) | Part::Fixed(..) => None,
        })
    }

    /// Reads such files whole, so that the rest of the transfer sees memory.
    pub(crate) async fn read_generated(&mut self) -> Result<(), TransferError> {
        for part in self.parts.iter_mut().filter(|part| is_generated(part)) {
            if let Part::File(file, None) = part {
                let text = read_generated(file).await;
                let text =
                    text.map_err(|error| TransferError::from_io("read", Side::Source, error, 0))?;
                *part = Part::Bytes(text.into());
            }
        }
        Ok(())
    }
}

/// Whether a file is made up when it is read. On a file system that is not known by its number, one
/// without a length may be empty or made up, and only reading it tells.
fn is_generated(part: &Part) -> bool {
    let Part::File(file, None) = part else { return false };
    let Ok(metadata) = file.metadata() else { return false };
    metadata.kind == FileKind::Regular
        && match file.file_system() {
            Ok(FileSystem::Pseudo) => true,
            Ok(FileSystem::Unknown(_)) => metadata.len == 0,
            _ => false,
        }
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

/// Reads a file that tells no length, from its start to its end.
async fn read_generated(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let (read, chunk) = file.read_at(vec![0; 64 << 10], 0, 64 << 10, text.len() as u64).await;
        let (read, chunk) = (read?, chunk.unwrap_or_default());
        if read == 0 {
            return Ok(text);
        }
        text.extend_from_slice(&chunk[..read]);
        if text.len() > GENERATED_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "a generated file of unknown length is larger than 4 MiB: send a range of it",
            ));
        }
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
