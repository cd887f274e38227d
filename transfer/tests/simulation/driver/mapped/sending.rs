//! The mirror of `route/mapped/sending.rs`.

use ringway::Mode;
use ringway::error::{ErrorKind, Misstep, Side};
use ringway::limits::Thresholds;
use ringway::mapped::{Beyond, ByReference, Next, Origin, Run as Outgo, plan};

use super::{Mapped, Memory, Room};
use crate::bug::Bug;
use crate::content::Rope;
use crate::driver::watch::Ready;
use crate::driver::{Run, would_block};
use crate::event::{EFAULT, EINVAL, EOPNOTSUPP};
use crate::kernel::lend::PipeLease;
use crate::kernel::maps::Gathered;
use crate::kernel::ring::{Pending, Work};
use crate::oracle::End;
use crate::scenario::PAGE;
use crate::script::to_usize;

/// Fewer than the route's, since the windows are smaller.
const PIECES_MAX: usize = 6;

impl Mapped {
    pub(super) async fn send(&mut self, run: &mut Run) -> Result<(), End> {
        let least = self.script.reference_min;
        let by_reference =
            self.refers.then_some(ByReference { whole_pages_min: least, skewed_min: least });
        let (turn, offset) = (&self.turn, self.shown.start);
        self.outgoing.load(|list| plan(&turn.pieces, &turn.changes, offset, by_reference, list));
        let mut turn_began = run.progress.accepted();
        loop {
            match self.outgoing.next() {
                Next::Done => return Ok(()),
                Next::Gather => self.gather(run).await?,
                Next::Reference { .. } => self.refer(run).await?,
                Next::Drain => self.drain(run).await?,
            }
            run.share(&mut turn_began).await;
            run.watch.check().map_err(|kind| run.fail(kind))?;
        }
    }

    async fn gather(&mut self, run: &mut Run) -> Result<(), End> {
        let allowed = self.quantum(run).await?;
        if self.frame.is_none() && self.outgoing.gathered().any(is_of_window) {
            self.frame_again(run).await?;
        }
        let sent = self.try_gather(run, allowed);
        let taken = sent.unwrap_or(0);
        run.unused(allowed.saturating_sub(taken));
        match sent {
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "send", errno: 0 })),
            Ok(_) => {
                run.pass(taken)?;
                self.accept(run, taken)
            }
            Err(errno) if would_block(errno) => self.wait(run).await,
            Err(EFAULT) => Err(self.truncated(run)),
            Err(errno) => Err(run.fail_io("send", Side::Sink, errno)),
        }
    }

    fn try_gather(&self, run: &Run, most: u64) -> Result<u64, i32> {
        let (mut pieces, mut all) = (Vec::new(), 0);
        for piece in self.outgoing.gathered().take(PIECES_MAX) {
            let len = piece.len().min(most - all);
            if len == 0 {
                break;
            }
            pieces.push(self.piece(piece, len));
            all += len;
        }
        let behind = self.outgoing.remaining().saturating_sub(all);
        run.host.borrow_mut().try_send_from_maps(run.id, &pieces, corks(behind))
    }

    fn piece(&self, piece: Outgo, len: u64) -> Gathered {
        if let (Outgo::Window { at, .. } | Outgo::Changed { at, .. }, Some(Memory::Map(map))) =
            (piece, &self.frame)
        {
            let from = self.shown.start + at as u64;
            return Gathered::Map(map.id(), from..from + len);
        }
        Gathered::Bytes(self.bytes(piece, len))
    }

    /// The first `len` bytes of a run that lies in memory of our own.
    fn bytes(&self, piece: Outgo, len: u64) -> Rope {
        match piece {
            Outgo::Window { at, .. } | Outgo::Changed { at, .. } => match &self.frame {
                Some(Memory::Lease(lease)) => lease.slice(at as u64, len),
                Some(Memory::Heap(bytes)) => bytes.slice(at as u64, len),
                Some(Memory::Map(_)) | None => Rope::default(),
            },
            Outgo::Made { at, .. } => match &self.room {
                Some(Room::Lease(lease)) => lease.slice(at as u64, len),
                Some(Room::Heap(bytes)) => bytes.slice(at as u64, len),
                None => Rope::default(),
            },
            Outgo::Own { index, at, .. } => self.turn.own[index].slice(at as u64, len),
            Outgo::Kept { at, .. } => self.kept.slice(at as u64, len),
            Outgo::File { .. } | Outgo::Memory { .. } => Rope::default(),
        }
    }

    async fn quantum(&mut self, run: &mut Run) -> Result<u64, End> {
        if run.pace.is_some() {
            self.pipe = None;
        }
        run.quantum().await
    }

    async fn refer(&mut self, run: &mut Run) -> Result<(), End> {
        let allowed = self.quantum(run).await?;
        let lent = match self.pipe.take() {
            Some(pipe) => Some(pipe),
            None => PipeLease::lend(&run.host, run.id),
        };
        let Some(pipe) = lent else {
            run.unused(allowed);
            self.gather_instead();
            return Ok(());
        };
        self.fill(run, pipe, allowed).await
    }

    async fn fill(&mut self, run: &mut Run, pipe: PipeLease, allowed: u64) -> Result<(), End> {
        let mut left = allowed.min(run.limits.pipe_bytes);
        let mut slots = run.host.borrow().pipe_pages;
        let mut pipe = Some(pipe);
        while let Some((offset, len)) = self.outgoing.stageable() {
            let fits = (slots * PAGE).saturating_sub(offset % PAGE);
            let len = len.min(left).min(fits);
            let Some(empty) = pipe.take_if(|_| len > 0) else { break };
            let staged = run.progress.staged();
            let filled = self.fill_once(run, empty, offset, len).await?;
            let Some((moved, back)) = filled else {
                run.unused(allowed.saturating_sub(staged));
                return Ok(());
            };
            pipe = Some(back);
            if moved == 0 {
                return Err(self.truncated(run));
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

    async fn fill_once(
        &mut self,
        run: &mut Run,
        mut pipe: PipeLease,
        at: u64,
        len: u64,
    ) -> Result<Option<(u64, PipeLease)>, End> {
        let inode = run.inodes[self.part];
        let resident = self.fresh
            || (run.plan.mode == Mode::Inline && run.plan.mode_fixed)
            || self.is_resident(run);
        let moved = if resident {
            pipe.fill(run.id, (inode, at, len)).map(|moved| (moved, Some(pipe)))
        } else {
            let work = Work::Fill { inode, at, len, pipe: pipe.into_state() };
            let filling = Pending::submit(&run.host, run.id, work);
            let (ended, stop) = run.watch.supervised(filling, Pending::cancel, false).await;
            if let Some(kind) = stop {
                return Err(run.fail(kind));
            }
            ended.result.map(|moved| (moved, ended.pipe))
        };
        match moved {
            Ok((moved, Some(pipe))) => Ok(Some((moved, pipe))),
            Ok((_, None)) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Err(EINVAL | EOPNOTSUPP) => {
                self.refers = false;
                self.drop_staged(run);
                self.gather_instead();
                Ok(None)
            }
            Err(errno) => Err(run.fail_io("splice", Side::Source, errno)),
        }
    }

    async fn drain(&mut self, run: &mut Run) -> Result<(), End> {
        let Some(mut pipe) = self.pipe.take() else {
            self.drop_staged(run);
            return Ok(());
        };
        let behind = self.outgoing.remaining() - self.outgoing.staged();
        let moved = pipe.drain(run.id, corks(behind));
        self.pipe = Some(pipe);
        match moved {
            Ok(0) => Err(run.fail(ErrorKind::UnexpectedErrno { op: "splice", errno: 0 })),
            Ok(moved) => {
                run.accept(moved)?;
                self.accept(run, moved)
            }
            Err(errno) if would_block(errno) => self.wait(run).await,
            Err(errno) => Err(run.fail_io("splice", Side::Sink, errno)),
        }
    }

    fn accept(&mut self, run: &mut Run, bytes: u64) -> Result<(), End> {
        let accepted = self.outgoing.accept(bytes, &mut self.account);
        accepted.map_err(|beyond| misstep(run, beyond, bytes))
    }

    async fn wait(&mut self, run: &mut Run) -> Result<(), End> {
        if run.writable(true).await? == Ready::HoldOver {
            self.let_go(run)?;
            run.writable(false).await?;
        }
        Ok(())
    }

    fn let_go(&mut self, run: &mut Run) -> Result<(), End> {
        if run.has(Bug::KeepStagedRuns) {
            let staged = self.outgoing.staged();
            self.pipe = None;
            run.rewind();
            self.accept(run, staged)?;
        }
        self.drop_staged(run);
        run.host.borrow_mut().tally.windows_let_go += 1;
        self.fresh = false;
        self.ahead = None;
        let (forgets, mut again) = (run.has(Bug::ForgetChanges), run.has(Bug::RunSentAgain));
        let (mut kept, mut whole) = (Rope::default(), true);
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let snapshot = self.snapshot;
        outgoing.rewrite(|piece| {
            let piece = if std::mem::take(&mut again) { one_byte_earlier(piece) } else { piece };
            let was = match piece {
                Outgo::Window { .. } if snapshot => Origin::Window,
                Outgo::Kept { was, .. } => was,
                Outgo::Changed { .. } if forgets => return piece,
                Outgo::Changed { .. } => Origin::Changed,
                Outgo::Made { .. } => Origin::Made,
                other => return other,
            };
            let at = to_usize(kept.len());
            whole &= self.copy_out(run, piece, &mut kept);
            Outgo::Kept { at, len: to_usize(piece.len()), was }
        });
        self.outgoing = outgoing;
        if !whole {
            return Err(self.truncated(run));
        }
        self.kept = kept;
        self.release();
        Ok(())
    }

    /// Copies a run out of where it lies; `false` if that is a window which is not whole any more.
    fn copy_out(&self, run: &Run, piece: Outgo, into: &mut Rope) -> bool {
        if let (Outgo::Window { at, .. } | Outgo::Changed { at, .. }, Some(Memory::Map(map))) =
            (piece, &self.frame)
        {
            let from = self.shown.start + at as u64;
            into.append(&map.look(run.id, from..from + piece.len()));
            return map.is_whole(run.id);
        }
        let bytes = self.bytes(piece, piece.len());
        into.append(&bytes);
        bytes.len() == piece.len()
    }

    fn drop_staged(&mut self, run: &mut Run) {
        self.pipe = None;
        self.outgoing.rewind();
        run.rewind();
    }

    fn gather_instead(&mut self) {
        let base = self.shown.start;
        self.outgoing.rewrite(|piece| match piece {
            Outgo::File { offset, len } => {
                Outgo::Window { at: to_usize(offset - base), len: to_usize(len) }
            }
            other => other,
        });
    }

    async fn frame_again(&mut self, run: &mut Run) -> Result<(), End> {
        let len = self.shown.end - self.shown.start;
        match self.open(run, self.shown.clone(), len).await? {
            Some(memory) if memory.len(self.shown.start) >= len => {
                self.frame = Some(memory);
                self.is_whole(run)
            }
            _ => Err(self.truncated(run)),
        }
    }
}

/// As if the byte in front of it had not gone.
fn one_byte_earlier(piece: Outgo) -> Outgo {
    match piece {
        Outgo::File { offset, len } => Outgo::File { offset: offset - 1, len: len + 1 },
        Outgo::Window { at, len } if at > 0 => Outgo::Window { at: at - 1, len: len + 1 },
        Outgo::Made { at, len } if at > 0 => Outgo::Made { at: at - 1, len: len + 1 },
        Outgo::Own { index, at, len } if at > 0 => Outgo::Own { index, at: at - 1, len: len + 1 },
        other => other,
    }
}

fn is_of_window(run: Outgo) -> bool {
    matches!(run, Outgo::Window { .. } | Outgo::Changed { .. })
}

fn corks(behind: u64) -> bool {
    (1..=Thresholds::default().cork_max_bytes).contains(&behind)
}

fn misstep(run: &Run, _: Beyond, n: u64) -> End {
    run.fail(ErrorKind::Misstep(Misstep { report: "runs beyond the window", n, limit: 0 }))
}
