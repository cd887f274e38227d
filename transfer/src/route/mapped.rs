//! Through a processor: a window of the file is looked at, and what is kept of it leaves by reference
//! or gathered.
//!
//! ```text
//!   scan ──▶ frame ──▶ turn ──▶ runs ──▶ outgoing ──▶ socket
//!   what is   map or    the      which    how far, by reference (pipe)
//!   shown     read it   caller   leave how         or gathered (sendmsg)
//!                                         sealed ──▶ records, where the sink seals here
//! ```
//!
//! `scan`, `runs` and `outgoing` are pure. A window counts as sent when the socket has accepted its last
//! byte and the file is still as long as it was: see [`Mapped::is_whole`].

mod frame;
#[cfg(test)]
mod oracle;
mod outgoing;
mod runs;
mod scan;
mod sealed;
mod sending;
mod together;
mod turn;

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::{self as runtime, PipeLease, lease};

use self::frame::{Ahead, Memory};
use self::outgoing::Outgoing;
use self::sealed::Records;
use self::turn::{Desk, Errand, Room, Shown, Verdict};
use super::{Run, splice, to_len};
use crate::error::{ErrorKind, Side, TransferError, Truncated};
use crate::process::{ProcessorFault, WRITES_MIN, WindowLimits};
use crate::progress::Extent;
use crate::receipt::Processed;

use self::runs::Texture;
pub(crate) use self::scan::Scan;
pub(crate) use self::turn::Seat;
pub use self::turn::Work;

/// What decides, without anything that waits: for tests without a kernel, and no part of the interface.
pub mod decisions {
    pub use super::outgoing::{Beyond, Next, Outgoing};
    pub use super::runs::{ByReference, Origin, Run, plan};
    pub use super::scan::{HUGE_PAGE, Scan};
    pub use crate::process::{Changes, Piece};
}

/// Everything that the route needs to know of a transfer that is processed.
pub(crate) struct Processing<'t> {
    pub(crate) seat: Seat<'t>,
    pub(crate) limits: WindowLimits,
    /// The parts of the body, in order.
    pub(crate) stretches: Vec<Stretch>,
    /// Bytes that were promised to go out in all.
    pub(crate) promised: Option<u64>,
    /// Whether long unchanged runs may leave by reference.
    pub(crate) refers: bool,
    /// Whether what was inspected must be what is sent.
    pub(crate) snapshot: bool,
}

/// A part of the body.
#[derive(Debug, Clone)]
pub(crate) enum Stretch {
    /// Memory of the caller: sent as it is.
    Memory { part: usize, len: u64 },
    /// Shown to the processor.
    Shown { part: usize, range: Range<u64> },
}

/// What is held between two windows, and for one.
struct Mapped<'t> {
    processing: Processing<'t>,
    part: usize,
    desk: Desk,
    room: Option<Room>,
    /// Bytes that the processor wants to write in a turn, as it said at the start.
    writes: usize,
    frame: Option<Memory>,
    shown: Shown,
    outgoing: Outgoing,
    pipe: Option<PipeLease>,
    /// Where what is sent must be sealed here.
    records: Option<Records<'t>>,
    /// What could not be made again when the peer stalled.
    kept: Vec<u8>,
    /// The memory of the last window, to be used again.
    heap: Vec<u8>,
    /// The window after this one.
    ahead: Option<Ahead>,
    /// This range was resident when the window before it was sent: it is not asked a second time.
    resident: Option<Range<u64>>,
    /// The processor changes windows in place.
    changes: bool,
    /// The file cannot be mapped, whoever asks.
    unmappable: bool,
    /// What is kept of this window looks like, or what was of the last one.
    texture: Texture,
    /// Nothing was waited for since the window was looked at, so that it is resident still.
    fresh: bool,
}

/// What a buffer of the pool is lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lends {
    /// For a window that is read.
    Window,
    /// For what the processor writes.
    Output,
    /// For the records that are made here.
    Records,
    /// A buffer belongs to this thread, and the work is done on another.
    Nothing,
}

pub(super) async fn drive<'t>(
    run: &mut Run<'t>,
    processing: Processing<'t>,
) -> Result<(), TransferError> {
    let records = Records::of(run)?;
    let desk = Desk { pieces_max: processing.limits.pieces_max, ..Desk::default() };
    let mut mapped = Mapped {
        processing,
        part: 0,
        desk,
        room: None,
        writes: 0,
        frame: None,
        shown: Shown::default(),
        outgoing: Outgoing::default(),
        pipe: None,
        records,
        kept: Vec::new(),
        heap: Vec::new(),
        ahead: None,
        resident: None,
        changes: false,
        unmappable: false,
        texture: Texture::default(),
        fresh: true,
    };
    if let Some(processor) = mapped.processing.seat.processor() {
        (mapped.changes, mapped.writes) = (processor.changes(), processor.writes());
    }
    let outcome = mapped.all(run).await;
    drop(mapped);
    if let Some(tls) = run.sink.tls().filter(|_| outcome.is_err()) {
        run.receipt.half_sent_bytes = tls.half_sent();
    }
    outcome
}

impl Mapped<'_> {
    async fn all(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let stretches = std::mem::take(&mut self.processing.stretches);
        let shown = |stretch: &Stretch| matches!(stretch, Stretch::Shown { .. });
        let last = stretches.iter().rposition(shown);
        for (index, stretch) in stretches.into_iter().enumerate() {
            match stretch {
                Stretch::Memory { part, len } => self.memory(run, part, len).await?,
                Stretch::Shown { part, range } => {
                    self.part = part;
                    self.scan(run, range).await?;
                }
            }
            if last == Some(index) {
                self.end(run).await?;
            }
        }
        if last.is_none() {
            self.end(run).await?;
        }
        let given = run.progress.accepted();
        match self.processing.promised {
            Some(promised) if promised != given => {
                Err(run.fail(ErrorKind::SizeMismatch { promised, given }))
            }
            _ => Ok(()),
        }
    }

    /// Sends memory of the caller, which nobody looks at.
    async fn memory(
        &mut self,
        run: &mut Run<'_>,
        part: usize,
        len: u64,
    ) -> Result<(), TransferError> {
        self.keeps_promise(run, len)?;
        if self.records.is_some() {
            return self.seal_memory(run, part, len).await;
        }
        let began = run.progress.accepted();
        loop {
            let sent = run.progress.accepted() - began;
            if sent == len {
                return Ok(());
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
            splice::send_memory(run, part, sent, len - sent).await?;
            run.give_way().await;
        }
    }

    /// Shows a range of a file, window by window, and sends what is kept of each.
    async fn scan(&mut self, run: &mut Run<'_>, range: Range<u64>) -> Result<(), TransferError> {
        let mut scan = Scan::new(range, &self.processing.limits);
        let mut looked = 0;
        while let Some(wanted) = scan.next() {
            run.watch.check().map_err(|kind| run.fail(kind))?;
            let opened = self.open(run, wanted.clone(), scan.least()).await?;
            let Some(memory) = opened else { return Err(truncated(run)) };
            let len = self.have(memory, &wanted);
            let shown = wanted.start..wanted.start + len as u64;
            self.shown = Shown { offset: shown.start, len, last: scan.is_last(&shown) };
            let (verdict, took) = self.turn(run, scan.takes_its_time()).await?;
            // What it saw may have been zeros behind the new end of the file, so this comes first.
            self.is_whole(run)?;
            let used = self.judged(run, verdict)? as u64;
            // Nobody waits behind a turn that runs elsewhere.
            let took = if self.processing.seat.is_elsewhere() { Duration::ZERO } else { took };
            let late = scan.took(took, self.processing.limits.turn_budget);
            account(run).turns_late += u64::from(late);
            scan.used(&shown, used, self.desk.answer.bytes > 0, self.desk.hurried)
                .map_err(|fault| run.fail(ErrorKind::Processor(fault)))?;
            self.open_ahead(run, scan.next());
            self.send(run).await?;
            self.is_whole(run)?;
            account(run).scanned_bytes += used;
            run.progressed();
            self.put_away();
            // Looking takes time as sending does, so others have their turn after it too.
            looked += used;
            if scan.gives_way() || looked >= run.limits.quantum_bytes {
                looked = 0;
                runtime::yield_now().await;
            }
        }
        self.release();
        Ok(())
    }

    /// Tells the processor that there is no more, and sends what it adds.
    async fn end(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        self.shown = Shown::default();
        let (verdict, _) = self.turn(run, false).await?;
        self.judged(run, verdict)?;
        self.send(run).await?;
        self.release();
        Ok(())
    }

    /// Takes a window, and tells how much of what was wanted it has.
    fn have(&mut self, memory: Memory, wanted: &Range<u64>) -> usize {
        let len = memory.len().min(to_len(wanted.end - wanted.start));
        self.frame = Some(memory);
        self.fresh = true;
        len
    }

    /// One turn of the processor: with the window, or with none at the end.
    async fn turn(
        &mut self,
        run: &mut Run<'_>,
        takes_its_time: bool,
    ) -> Result<(Verdict, Duration), TransferError> {
        self.desk.clear();
        self.kept.clear();
        let room = self.room(run).await?;
        let (verdict, took) = match &mut self.processing.seat {
            Seat::Here(processor) => {
                let budget = (!takes_its_time).then_some(self.processing.limits.turn_budget);
                let mut room = room;
                let (memory, shown) = (&mut self.frame, self.shown);
                let done = self.desk.show(&mut **processor, memory, shown, &mut room, budget);
                self.room = Some(room);
                run.watch.excuse(done.1);
                done
            }
            Seat::Elsewhere(..) => self.turn_elsewhere(run, room).await?,
        };
        let account = account(run);
        account.turns += 1;
        account.processing += took;
        Ok((verdict, took))
    }

    /// The same where the caller's closure runs it. All that it needs goes there and comes back.
    async fn turn_elsewhere(
        &mut self,
        run: &mut Run<'_>,
        room: Room,
    ) -> Result<(Verdict, Duration), TransferError> {
        let lost = (Verdict::Fault(ProcessorFault::Lost), Duration::ZERO);
        let Seat::Elsewhere(home, away) = &mut self.processing.seat else { return Ok(lost) };
        let (Some(processor), Room::Heap(room)) = (home.take(), room) else { return Ok(lost) };
        let memory = self.frame.take().and_then(Memory::into_portable);
        let desk = std::mem::take(&mut self.desk);
        let errand = Errand { processor, memory, desk, room, shown: self.shown };
        let returned = run.watch.excused(pin!(errand.send(away))).await;
        let Ok((errand, verdict, took)) = returned.map_err(|kind| run.fail(kind))? else {
            return Ok(lost);
        };
        let Errand { processor, memory, desk, room, .. } = errand;
        *home = Some(processor);
        self.desk = desk;
        self.room = Some(Room::Heap(room));
        self.frame = memory.map(Memory::from);
        Ok((verdict, took))
    }

    /// Memory for what the processor writes.
    async fn room(&mut self, run: &mut Run<'_>) -> Result<Room, TransferError> {
        if let Some(room) = self.room.take() {
            return Ok(room);
        }
        if self.lends_to() != Lends::Output {
            let most = to_len(self.processing.limits.window_max_bytes);
            let bytes = if self.writes > WRITES_MIN { self.writes.min(most) } else { WRITES_MIN };
            return Ok(Room::Heap(vec![0; bytes]));
        }
        let lent = run.watch.excused(pin!(lease(self.writes))).await;
        let lent = lent.map_err(|kind| run.fail(kind))?;
        lent.map(Room::Lease).map_err(|error| run.fail_io("lease", Side::Host, error))
    }

    /// What the one buffer is for that a transfer may hold. Two that each wait for a second one would wait
    /// for ever, so everything else lies in memory of its own.
    fn lends_to(&self) -> Lends {
        if self.records.is_some() {
            Lends::Records
        } else if self.processing.seat.is_elsewhere() {
            Lends::Nothing
        } else if self.writes > WRITES_MIN {
            Lends::Output
        } else {
            Lends::Window
        }
    }

    /// The bytes that were used, if nothing went wrong and no promise is broken.
    fn judged(&mut self, run: &mut Run<'_>, verdict: Verdict) -> Result<usize, TransferError> {
        let used = match verdict {
            Verdict::Used(used) => used,
            Verdict::Fault(fault) => return Err(run.fail(ErrorKind::Processor(fault))),
            Verdict::Failed(error) => {
                return Err(TransferError::from_processor(error, run.progress.accepted()));
            }
        };
        self.keeps_promise(run, self.desk.answer.bytes)?;
        account(run).digests.append(&mut self.desk.answer.digests);
        Ok(used)
    }

    /// Whether `more` bytes may still go out.
    fn keeps_promise(&self, run: &Run<'_>, more: u64) -> Result<(), TransferError> {
        let given = run.progress.accepted().saturating_add(more);
        match self.processing.promised {
            Some(promised) if given > promised => {
                Err(run.fail(ErrorKind::SizeMismatch { promised, given }))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file still has all of the window: a shorter one shows zeros behind its end, and no
    /// signal tells.
    fn is_whole(&self, run: &Run<'_>) -> Result<(), TransferError> {
        match &self.frame {
            Some(Memory::Map(_)) if sabotaged(Sabotage::CutWindowSent) => Ok(()),
            Some(Memory::Map(window)) => window.check().map_err(|_| truncated(run)),
            // What was read is ours, and was the file's. A splice behind it asks for the length itself.
            _ => Ok(()),
        }
    }

    /// The window is dealt with; its memory may serve for the next one.
    fn put_away(&mut self) {
        if let Some(Memory::Heap(bytes)) = self.frame.take() {
            self.heap = bytes;
        }
    }

    /// Lets go of everything that only a window needs.
    fn release(&mut self) {
        self.put_away();
        self.room = None;
        self.pipe = None;
    }
}

/// The parts of a body in order. `shown` says which memory stands for a file that was read already.
pub(crate) fn stretches(extents: &[Extent], shown: impl Fn(usize) -> bool) -> Vec<Stretch> {
    let stretch = |(part, extent): (usize, &Extent)| match *extent {
        Extent::File { offset, len } => Stretch::Shown { part, range: offset..offset + len },
        Extent::Bytes { len } if shown(part) => Stretch::Shown { part, range: 0..len },
        Extent::Bytes { len } => Stretch::Memory { part, len },
    };
    extents.iter().enumerate().map(stretch).collect()
}

/// The file became shorter. What was to be sent cannot be known, so `expected` counts the source.
fn truncated(run: &Run<'_>) -> TransferError {
    let (expected, sent) = (run.body.facts.file_bytes, run.progress.accepted());
    run.fail(ErrorKind::Truncated(Truncated { expected, sent }))
}

fn account<'r>(run: &'r mut Run<'_>) -> &'r mut Processed {
    run.receipt.processed.get_or_insert_default()
}
