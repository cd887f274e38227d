//! Where the bytes of a window are, and how they come there.

use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use ringway_runtime::fs::File;
use ringway_runtime::region::{self, Access, Populate, Refusal};
use ringway_runtime::{Lease, lease};

use super::scan::HUGE_PAGE;
use super::turn::Portable;
use super::{Lends, Mapped};
use crate::error::errno::{EINVAL, EOPNOTSUPP};
use crate::error::{Side, TransferError};
use crate::plan::{DirectIo, Mode, Residency};
use crate::route::{Run, to_len};
use crate::source::DIRECT_BLOCK;

/// Windows that are read beside a lent buffer have as many bytes as the largest buffer has by default.
const HEAP_MAX: u64 = 256 << 10;

/// The bytes behind a window.
pub(super) enum Memory {
    /// Read into a buffer of the pool.
    Lease(Lease),
    /// Read into memory of its own: for another thread, or longer than any buffer.
    Heap(Vec<u8>),
    /// Mapped: pages of the file, or private copies of those that were changed.
    Map(region::Window),
}

/// A window that is being mapped while the one before it is sent.
pub(super) struct Ahead {
    range: Range<u64>,
    state: Mapping,
}

enum Mapping {
    Under(region::Populating),
    Over(Result<region::Window, Refusal>),
}

impl Memory {
    pub(super) fn into_portable(self) -> Option<Portable> {
        match self {
            Self::Lease(_) => None,
            Self::Heap(bytes) => Some(Portable::Heap(bytes)),
            Self::Map(window) => Some(Portable::Map(window)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Lease(lease) => lease.len(),
            Self::Heap(bytes) => bytes.len(),
            Self::Map(window) => window.len(),
        }
    }
}

impl From<Portable> for Memory {
    fn from(portable: Portable) -> Self {
        match portable {
            Portable::Heap(bytes) => Self::Heap(bytes),
            Portable::Map(window) => Self::Map(window),
        }
    }
}

impl Mapped<'_> {
    /// Has the bytes `range` of a part, or fewer but at least `least` of them. `None` if the file ends
    /// before that.
    pub(super) async fn open(
        &mut self,
        run: &mut Run<'_>,
        range: Range<u64>,
        least: u64,
    ) -> Result<Option<Memory>, TransferError> {
        if self.reads(run) {
            return self.read(run, range, least).await;
        }
        let mapped = match self.ahead.take().filter(|ahead| ahead.range == range) {
            Some(Ahead { state: Mapping::Over(mapped), .. }) => mapped,
            Some(Ahead { state: Mapping::Under(populating), .. }) => {
                self.populated(run, populating).await?
            }
            None => match self.mapping(run, range.clone()) {
                Some(populating) => self.populated(run, populating).await?,
                None => return self.read(run, range, least).await,
            },
        };
        match mapped {
            Ok(window) => {
                // It may begin earlier, where a huge page does.
                let from = to_len(range.start - window.file_range().start);
                let Some(window) = window.slice(from..window.len()) else { return Ok(None) };
                if let Some(processed) = &mut run.receipt.processed {
                    processed.windows_mapped += 1;
                }
                Ok(Some(Memory::Map(window)))
            }
            Err(Refusal::PastEnd { .. }) => Ok(None),
            Err(refusal) => {
                // What refuses one window for its shortage may grant the next; a file that cannot be
                // mapped never can.
                self.unmappable = matches!(
                    refusal,
                    Refusal::NotMappable(_) | Refusal::NotPermitted | Refusal::HandlerReplaced
                );
                run.receipt.note_fallback("read instead of mapped", refusal.reason());
                self.read(run, range, least).await
            }
        }
    }

    /// Starts to map what follows, if that has to wait for a disk.
    pub(super) fn open_ahead(&mut self, run: &Run<'_>, range: Option<Range<u64>>) {
        (self.ahead, self.resident) = (None, None);
        let Some(range) = range.filter(|_| !self.reads(run)) else { return };
        if run.pace.is_some() {
            return;
        }
        if self.populate(run, &range) == Populate::Inline {
            self.resident = Some(range);
            return;
        }
        let Some(mut populating) = self.mapping(run, range.clone()) else { return };
        // The op begins with the first poll. Who awaits it later gives it another waker.
        let mut context = Context::from_waker(Waker::noop());
        let state = match Pin::new(&mut populating).poll(&mut context) {
            Poll::Ready(mapped) => Mapping::Over(mapped),
            Poll::Pending => Mapping::Under(populating),
        };
        self.ahead = Some(Ahead { range, state });
    }

    /// Whether windows are read, and not mapped.
    fn reads(&self, run: &Run<'_>) -> bool {
        self.processing.snapshot
            || self.unmappable
            // Copies into record slots ask for nothing ahead.
            || (self.records.is_some() && self.texture.is_short())
            || run.body.file(self.part).is_none()
    }

    fn mapping(&self, run: &Run<'_>, range: Range<u64>) -> Option<region::Populating> {
        let file = run.body.file(self.part)?;
        let access = if self.changes { Access::Private } else { Access::ReadOnly };
        let options = region::Options::new().access(access).populate(self.populate(run, &range));
        let long = range.end - range.start >= HUGE_PAGE;
        let start = range.start - if long { range.start % HUGE_PAGE } else { 0 };
        Some(options.map(file, start..range.end))
    }

    /// Who makes the pages of a range present.
    fn populate(&self, run: &Run<'_>, range: &Range<u64>) -> Populate {
        if self.resident.as_ref() == Some(range) {
            return Populate::Inline;
        }
        let len = range.end - range.start;
        let ask = || run.body.residency(self.part, range.start, len, run.limits);
        let inline = match run.plan.mode {
            mode if run.plan.mode_fixed => mode == Mode::Inline,
            _ => ask() == Residency::Resident,
        };
        if inline { Populate::Inline } else { Populate::Worker }
    }

    async fn populated(
        &mut self,
        run: &mut Run<'_>,
        populating: region::Populating,
    ) -> Result<Result<region::Window, Refusal>, TransferError> {
        let mapped = run.watch.excused(pin!(populating)).await;
        mapped.map_err(|kind| run.fail(kind))
    }

    /// Reads a window into memory.
    async fn read(
        &mut self,
        run: &mut Run<'_>,
        range: Range<u64>,
        least: u64,
    ) -> Result<Option<Memory>, TransferError> {
        if let Some(processed) = &mut run.receipt.processed {
            processed.windows_read += 1;
        }
        let len = to_len(range.end - range.start);
        let offset = range.start;
        let Some(file) = run.body.file(self.part) else {
            // A generated file that was read whole already.
            let text = run.body.memory(self.part);
            let text = text.get(to_len(offset)..).unwrap_or_default();
            let text = &text[..len.min(text.len())];
            let memory = Memory::Heap(text.to_vec());
            return Ok((text.len() == len).then_some(memory));
        };
        let lends = self.lends_to();
        if lends == Lends::Window
            && let Some(lease) = self.buffer(run, len, to_len(least)).await?
        {
            return read_lease(run, file, lease, offset, len).await;
        }
        let most = match lends {
            // No more than what is sealed at once.
            Lends::Records => run.limits.seal_batch_bytes,
            Lends::Output => HEAP_MAX,
            Lends::Window | Lends::Nothing => u64::MAX,
        };
        let (len, heap) = (len.min(to_len(most.max(least))), std::mem::take(&mut self.heap));
        if run.body.facts.direct_io == DirectIo::No {
            read_heap(run, file, heap, offset, len).await
        } else {
            Box::pin(read_heap_direct(run, file, heap, offset, len)).await
        }
    }

    /// A buffer of the pool, unless the least that is needed does not fit into one.
    async fn buffer(
        &mut self,
        run: &mut Run<'_>,
        len: usize,
        least: usize,
    ) -> Result<Option<Lease>, TransferError> {
        // Direct reads are of whole blocks: one more at each end.
        let direct = run.body.facts.direct_io != DirectIo::No;
        let extra = if direct { 2 * to_len(DIRECT_BLOCK) } else { 0 };
        let lent = run.watch.excused(pin!(lease(len + extra))).await;
        let lent = lent.map_err(|kind| run.fail(kind))?;
        let lent = match lent {
            Ok(lent) => lent,
            // A configuration without buffers.
            Err(_) => return Ok(None),
        };
        if lent.capacity() < least + extra {
            return Ok(None);
        }
        run.receipt.buffer_bytes = run.receipt.buffer_bytes.max(lent.capacity() as u64);
        run.receipt.buffer_registered = lent.is_registered();
        Ok(Some(lent))
    }
}

/// Fills a buffer, as far as it goes.
async fn read_lease(
    run: &mut Run<'_>,
    file: &File,
    mut lease: Lease,
    offset: u64,
    len: usize,
) -> Result<Option<Memory>, TransferError> {
    if run.body.facts.direct_io != DirectIo::No {
        return Box::pin(read_direct(run, file, lease, offset, len)).await;
    }
    let len = len.min(lease.capacity());
    lease.set_filled(0);
    while lease.len() < len {
        let (at, left) = (offset + lease.len() as u64, len - lease.len());
        if run.plan.mode == Mode::Inline {
            match file.try_read(&mut lease, at, left) {
                Ok(0) => return Ok(None),
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if run.plan.mode_fixed {
                        run.receipt.note_fallback("read by the ring", "it is not in memory");
                    }
                }
                Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => {}
                Err(error) => return Err(run.fail_io("preadv2", Side::Source, error)),
            }
            run.receipt.mode = Mode::Hybrid;
        } else if !run.plan.mode_fixed {
            // It may have become resident, or have been so all the time.
            match file.try_read(&mut lease, at, left) {
                Ok(0) => return Ok(None),
                Ok(_) => continue,
                Err(_) => {}
            }
        }
        run.receipt.read_sqes += 1;
        let start = lease.len();
        let reading = pin!(file.read_at(lease, start, left, at));
        let outcome = run.watch.excused(reading).await;
        let (read, back) = outcome.map_err(|kind| run.fail(kind))?;
        let read = read.map_err(|error| run.fail_io("read", Side::Source, error))?;
        let Some(back) = back.filter(|_| read > 0) else { return Ok(None) };
        lease = back;
    }
    Ok(Some(Memory::Lease(lease)))
}

/// The same in whole blocks, as `O_DIRECT` demands; what lies before the range moves away.
async fn read_direct(
    run: &mut Run<'_>,
    file: &File,
    lease: Lease,
    offset: u64,
    len: usize,
) -> Result<Option<Memory>, TransferError> {
    let block = to_len(DIRECT_BLOCK);
    let skip = to_len(offset % DIRECT_BLOCK);
    let room = lease.capacity() / block * block;
    let asked = (skip + len).next_multiple_of(block).min(room);
    run.receipt.read_sqes += 1;
    let reading = pin!(file.read_at(lease, 0, asked, offset - skip as u64));
    let outcome = run.watch.excused(reading).await;
    let (read, back) = outcome.map_err(|kind| run.fail(kind))?;
    let read = read.map_err(|error| run.fail_io("read", Side::Source, error))?;
    let useful = read.saturating_sub(skip).min(len);
    let Some(mut lease) = back.filter(|_| useful > 0) else { return Ok(None) };
    lease.spare_mut().copy_within(skip..skip + useful, 0);
    lease.set_filled(useful);
    Ok(Some(Memory::Lease(lease)))
}

/// Reads into memory of its own, by the ring.
async fn read_heap(
    run: &mut Run<'_>,
    file: &File,
    mut bytes: Vec<u8>,
    offset: u64,
    len: usize,
) -> Result<Option<Memory>, TransferError> {
    let mut filled = 0;
    while filled < len {
        // What is left of the last window is overwritten, or cut off by the read.
        bytes.resize(len, 0);
        let (read, back) = read_once(run, file, bytes, filled..len, offset + filled as u64).await?;
        if read == 0 {
            return Ok(None);
        }
        (bytes, filled) = (back, filled + read);
    }
    Ok(Some(Memory::Heap(bytes)))
}

/// The same in whole blocks, to a place in the memory where blocks may be read to; and then moved to its
/// front. May be shorter, where the file is.
async fn read_heap_direct(
    run: &mut Run<'_>,
    file: &File,
    mut bytes: Vec<u8>,
    offset: u64,
    len: usize,
) -> Result<Option<Memory>, TransferError> {
    let block = to_len(DIRECT_BLOCK);
    let skip = to_len(offset % DIRECT_BLOCK);
    let (asked, start) = ((skip + len).next_multiple_of(block), offset - skip as u64);
    bytes.resize(asked + block, 0);
    let pad = bytes.as_ptr().align_offset(block).min(block);
    let mut filled = 0;
    while filled < skip + len {
        // It keeps its place: there is room for as much.
        bytes.resize(asked + block, 0);
        let range = pad + filled..pad + asked;
        let (read, back) = read_once(run, file, bytes, range, start + filled as u64).await?;
        (bytes, filled) = (back, filled + read);
        if read == 0 || !read.is_multiple_of(block) {
            break;
        }
    }
    let useful = filled.saturating_sub(skip).min(len);
    bytes.copy_within(pad + skip..pad + skip + useful, 0);
    bytes.truncate(useful);
    Ok((useful > 0).then_some(Memory::Heap(bytes)))
}

/// One read by the ring, of a range of the memory. It ends with what was read.
async fn read_once(
    run: &mut Run<'_>,
    file: &File,
    bytes: Vec<u8>,
    range: Range<usize>,
    offset: u64,
) -> Result<(usize, Vec<u8>), TransferError> {
    run.receipt.read_sqes += 1;
    let reading = pin!(file.read_at(bytes, range.start, range.len(), offset));
    let outcome = run.watch.excused(reading).await;
    let (read, back) = outcome.map_err(|kind| run.fail(kind))?;
    let read = read.map_err(|error| run.fail_io("read", Side::Source, error))?;
    Ok((if back.is_some() { read } else { 0 }, back.unwrap_or_default()))
}
