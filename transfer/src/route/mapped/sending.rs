//! Sending what a processor kept of one window.
//!
//! A sink whose records are made here takes nothing by reference and nothing out of a map: for it
//! `Processing::refers` is false, and `sealed` sends. Where the kernel makes them, plain sends and splices
//! bring it the bytes, and `Run::quantum` and `Run::writable` hear the peer, as for any route.

use std::io;

use ringway_runtime::net::Piece;
use ringway_runtime::{PipeLease, region};

use super::frame::Memory;
use super::outgoing::{Beyond, Next};
use super::runs::{self, ByReference, Origin, PAGE, Run as Outgo};
use super::turn::Room;
use super::{Mapped, account, truncated};
use crate::error::{ErrorKind, Misstep, Side, TransferError};
use crate::plan::{Mode, Residency};
use crate::route::{Ready, Run, splice, to_len};

/// Pieces in one send.
const PIECES_MAX: usize = 512;

impl Mapped<'_> {
    /// Sends everything that the processor asked for in its last turn.
    pub(super) async fn send(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        // The kernel closes a record after so many pieces of pages: of shorter runs it would make more records
        // than a key's limit is reckoned with.
        let least = if run.kernel_seals() { PAGE } else { 0 };
        let by_reference = self.processing.refers.then_some(ByReference {
            whole_pages_min: run.thresholds.reference_min_bytes.max(least),
            skewed_min: run.thresholds.reference_skewed_min_bytes.max(least),
        });
        let has_file = run.body.file(self.part).is_some();
        let (desk, offset) = (&self.desk, self.shown.offset);
        self.outgoing.load(|list| {
            let by_reference = by_reference.filter(|_| has_file);
            runs::plan(&desk.answer.pieces, &desk.changes, offset, by_reference, list);
        });
        self.texture = self.outgoing.texture(self.shown.len as u64);
        if self.records.is_some() {
            return self.seal(run).await;
        }
        loop {
            match self.outgoing.next() {
                Next::Done => return Ok(()),
                Next::Gather => self.gather(run).await?,
                Next::Reference { .. } => self.refer(run).await?,
                Next::Drain => self.drain(run).await?,
            }
            run.give_way().await;
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
    }

    /// Sends what lies in memory, as much as one send and the quantum allow.
    async fn gather(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let allowed = self.quantum(run).await?;
        if self.frame.is_none() && self.outgoing.gathered().any(is_of_window) {
            self.frame_again(run).await?;
        }
        let sent = self.try_gather(run, to_len(allowed));
        let taken = *sent.as_ref().unwrap_or(&0) as u64;
        run.unused(allowed.saturating_sub(taken));
        match sent {
            // A send of nothing would go on for ever.
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 })),
            Ok(_) => {
                run.pass(taken)?;
                self.accept(run, taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(run).await,
            Err(error) if is_poison(&error) => Err(truncated(run)),
            Err(error) => Err(run.fail_io("send", Side::Sink, error)),
        }
    }

    /// One send of what is gathered.
    fn try_gather(&self, run: &mut Run<'_>, most: usize) -> io::Result<usize> {
        if let Some(sent) = self.try_together(run, most) {
            return sent;
        }
        let mut pieces = [const { Piece::Bytes(&[]) }; PIECES_MAX];
        let (mut count, mut all) = (0, 0);
        for piece in self.outgoing.gathered().take(PIECES_MAX) {
            let len = to_len(piece.len()).min(most - all);
            if len == 0 {
                break;
            }
            pieces[count] = self.piece(piece, len);
            count += 1;
            all += len;
        }
        let behind = self.outgoing.remaining().saturating_sub(all as u64);
        run.stream.try_send_pieces(&pieces[..count], corks(run, behind))
    }

    /// The first `len` bytes of a run, where they lie.
    fn piece(&self, run: Outgo, len: usize) -> Piece<'_> {
        if let (Outgo::Window { at, .. } | Outgo::Changed { at, .. }, Some(frame)) =
            (run, &self.frame)
            && let Memory::Map(window) = frame
        {
            return Piece::Window(window, at..at + len);
        }
        let (bytes, at) = self.bytes(run);
        Piece::Bytes(bytes.get(at..at + len).unwrap_or_default())
    }

    /// The memory of our own that a run lies in, and where.
    pub(super) fn bytes(&self, run: Outgo) -> (&[u8], usize) {
        match run {
            Outgo::Window { at, .. } | Outgo::Changed { at, .. } => match &self.frame {
                Some(Memory::Lease(lease)) => (lease, at),
                Some(Memory::Heap(bytes)) => (bytes, at),
                Some(Memory::Map(_)) | None => (&[], 0),
            },
            Outgo::Made { at, .. } => (self.room.as_ref().map_or(&[], Room::written), at),
            Outgo::Own { index, at, .. } => (&self.desk.answer.own[index], at),
            Outgo::Kept { at, .. } => (&self.kept, at),
            Outgo::File { .. } | Outgo::Memory { .. } => (&[], 0),
        }
    }

    /// Copies a run out of where it lies; `false` if that is a window which is not whole any more.
    fn copy_out(&self, run: Outgo, into: &mut Vec<u8>) -> bool {
        let (from, len) = (into.len(), to_len(run.len()));
        if let (Outgo::Window { at, .. } | Outgo::Changed { at, .. }, Some(Memory::Map(window))) =
            (run, &self.frame)
        {
            into.resize(from + len, 0);
            return window.copy_to(at, &mut into[from..]).is_ok_and(|copied| copied == len);
        }
        let (bytes, at) = self.bytes(run);
        into.extend_from_slice(bytes.get(at..at + len).unwrap_or_default());
        into.len() == from + len
    }

    /// How many bytes to send now. Nothing is held where that has to be waited for.
    async fn quantum(&mut self, run: &mut Run<'_>) -> Result<u64, TransferError> {
        if run.pace.is_some() {
            // The rate limit may make it wait, and others may need the pipe meanwhile.
            self.pipe = None;
        }
        if let Some(allowed) = run.quantum_holding(true).await? {
            return Ok(allowed);
        }
        self.let_go(run)?;
        run.quantum().await
    }

    /// Fills a pipe with as many runs by reference as follow each other and fit.
    async fn refer(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let allowed = self.quantum(run).await?;
        let lent = match self.pipe.take() {
            Some(pipe) => Ok(pipe),
            None => splice::lend(run)?,
        };
        match lent {
            Ok(pipe) => self.fill(run, pipe, allowed).await,
            Err(refusal) => {
                run.unused(allowed);
                let why = splice::why(refusal);
                run.receipt.note_fallback("gathered instead of spliced", why);
                self.gather_instead();
                Ok(())
            }
        }
    }

    async fn fill(
        &mut self,
        run: &mut Run<'_>,
        pipe: PipeLease,
        allowed: u64,
    ) -> Result<(), TransferError> {
        let mut left = allowed.min(run.limits.pipe_bytes);
        let mut slots = pipe.capacity() as u64 / PAGE;
        let mut pipe = Some(pipe);
        while let Some((offset, len)) = self.outgoing.stageable() {
            let fits = (slots * PAGE).saturating_sub(offset % PAGE);
            let len = len.min(left).min(fits);
            let Some(empty) = pipe.take_if(|_| len > 0) else { break };
            let staged = run.progress.staged();
            let filled = self.fill_once(run, empty, offset, len).await?;
            let Some((moved, back)) = filled else {
                // The rewind has given back already what was staged before.
                run.unused(allowed.saturating_sub(staged));
                return Ok(());
            };
            pipe = Some(back);
            if moved == 0 {
                return Err(truncated(run));
            }
            run.stage(moved)?;
            self.outgoing.stage(moved).map_err(|beyond| misstep(run, beyond, moved))?;
            left -= moved;
            slots = slots.saturating_sub((offset % PAGE + moved).div_ceil(PAGE));
            if moved < len {
                break;
            }
        }
        run.unused(allowed.saturating_sub(run.progress.staged()));
        self.pipe = pipe.filter(|pipe| pipe.residue() > 0);
        Ok(())
    }

    /// Fills once: inline what was looked at a moment ago, by the ring what may be cold by now. `None` if
    /// the file cannot be spliced, which is gathered then.
    async fn fill_once(
        &mut self,
        run: &mut Run<'_>,
        mut pipe: PipeLease,
        offset: u64,
        len: u64,
    ) -> Result<Option<(u64, PipeLease)>, TransferError> {
        let Some(file) = run.body.file(self.part) else {
            return Err(run.fail(ErrorKind::SourceNotRegular { op: "splice", errno: 0 }));
        };
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        let resident = self.fresh
            || (run.plan.mode == Mode::Inline && run.plan.mode_fixed)
            || run.body.residency(self.part, offset, len, run.limits) == Residency::Resident;
        let moved = if resident {
            run.receipt.inline_splices += 1;
            file.try_fill(&mut pipe, offset, count).map(|moved| (moved, Some(pipe)))
        } else {
            run.receipt.splice_sqes += 1;
            let filling = file.fill(pipe, offset, count);
            let filling = filling.map_err(|error| run.fail_io("splice", Side::Source, error))?;
            let cancel = ringway_runtime::fs::Filling::cancel;
            let ((moved, back), stop) = run.watch.supervised(filling, cancel, false).await;
            if let Some(kind) = stop {
                return Err(run.fail(kind));
            }
            moved.map(|moved| (moved, back))
        };
        match moved {
            Ok((moved, Some(pipe))) => Ok(Some((moved.into(), pipe))),
            Ok((_, None)) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Err(error) if splice::cannot(&error) => {
                let why = "the kernel refuses to splice it";
                run.receipt.note_fallback("gathered instead of spliced", why);
                self.processing.refers = false;
                self.drop_staged(run);
                self.gather_instead();
                Ok(None)
            }
            Err(error) => Err(run.fail_io("splice", Side::Source, error)),
        }
    }

    /// Brings staged bytes into the socket.
    async fn drain(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let Some(mut pipe) = self.pipe.take() else {
            self.drop_staged(run);
            return Ok(());
        };
        let behind = self.outgoing.remaining() - self.outgoing.staged();
        run.receipt.inline_splices += 1;
        let moved = run.stream.try_drain(&mut pipe, corks(run, behind));
        // An empty one is of use for the next runs, and is given back before anything is waited for.
        self.pipe = Some(pipe);
        match moved {
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Ok(moved) => {
                run.accept(moved.into())?;
                self.accept(run, moved.into())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(run).await,
            Err(error) => Err(run.fail_io("splice", Side::Sink, error)),
        }
    }

    pub(super) fn accept(&mut self, run: &mut Run<'_>, bytes: u64) -> Result<(), TransferError> {
        let accepted = self.outgoing.accept(bytes, account(run));
        accepted.map_err(|beyond| misstep(run, beyond, bytes))
    }

    /// Waits for the socket, and lets go of what is held if that takes long.
    async fn wait(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        if run.writable(true).await? == Ready::HoldOver {
            self.let_go(run)?;
            run.writable(false).await?;
        }
        Ok(())
    }

    /// Holds as little as can be: the pipe goes, and the window and what was written go back to their
    /// pools. What can be had from the file again is forgotten, the rest is copied out.
    pub(super) fn let_go(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        // The rest of a half-sent record is staged, and stays with the stream.
        if self.records.is_none() {
            self.drop_staged(run);
        }
        self.fresh = false;
        (self.ahead, self.resident) = (None, None);
        let snapshot = self.processing.snapshot || run.body.file(self.part).is_none();
        let (mut kept, mut whole) = (Vec::new(), true);
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.rewrite(|piece| {
            let was = match piece {
                Outgo::Window { .. } if snapshot => Origin::Window,
                Outgo::Kept { was, .. } => was,
                Outgo::Changed { .. } => Origin::Changed,
                Outgo::Made { .. } => Origin::Made,
                Outgo::Window { .. }
                | Outgo::File { .. }
                | Outgo::Memory { .. }
                | Outgo::Own { .. } => return piece,
            };
            let (at, len) = (kept.len(), to_len(piece.len()));
            whole &= self.copy_out(piece, &mut kept);
            Outgo::Kept { at, len, was }
        });
        self.outgoing = outgoing;
        if !whole {
            return Err(truncated(run));
        }
        let most = &mut account(run).kept_bytes;
        *most = (*most).max(kept.len() as u64);
        self.kept = kept;
        self.release();
        self.heap = Vec::new();
        Ok(())
    }

    /// Throws the staged bytes away, and the pipe with them.
    fn drop_staged(&mut self, run: &mut Run<'_>) {
        self.pipe = None;
        self.outgoing.rewind();
        run.rewind();
    }

    /// No run of this window leaves by reference any more.
    fn gather_instead(&mut self) {
        let base = self.shown.offset;
        self.outgoing.rewrite(|piece| match piece {
            Outgo::File { offset, len } => {
                Outgo::Window { at: to_len(offset - base), len: to_len(len) }
            }
            other => other,
        });
    }

    /// Has the window again that was let go of.
    pub(super) async fn frame_again(&mut self, run: &mut Run<'_>) -> Result<(), TransferError> {
        let range = self.shown.offset..self.shown.offset + self.shown.len as u64;
        let least = self.shown.len as u64;
        match self.open(run, range, least).await? {
            Some(memory) if memory.len() >= self.shown.len => {
                self.frame = Some(memory);
                self.is_whole(run)
            }
            _ => Err(truncated(run)),
        }
    }
}

pub(super) fn is_of_window(run: Outgo) -> bool {
    matches!(run, Outgo::Window { .. } | Outgo::Changed { .. })
}

/// Whether a send failed because the window it was to send from is not whole any more.
fn is_poison(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<region::Poisoned>())
}

/// Whether to let the last packet wait for what follows: for a short rest of the same window only. What
/// comes after the window is not known, and may be nothing.
pub(super) fn corks(run: &Run<'_>, behind: u64) -> bool {
    behind > 0 && run.thresholds.corks(behind, || run.stream.is_paced())
}

pub(super) fn misstep(run: &Run<'_>, _: Beyond, n: u64) -> TransferError {
    run.fail(ErrorKind::Misstep(Misstep { report: "runs beyond the window", n, limit: 0 }))
}
