//! What a transfer sends: a file, a slice of one, or parts.

mod body;

use std::io;
use std::ops::Range;

use bytes::Bytes;
use ringway_runtime::fs::{self, File, FileKind, FileSystem};

use crate::error::{Side, TransferError};
use crate::receipt::{Change, FileStamp};

pub(crate) use body::{Body, change_since, class_of, residency_matters, residency_of};

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
