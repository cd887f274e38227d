//! The mirror of `route/mapped.rs` with `turn.rs`, for sinks that seal nothing. Which window
//! is next, how runs leave and how far they are out is asked of the real code.

mod frame;
mod sending;

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;

use ringway::Consistency;
use ringway::error::{ErrorKind, Truncated};
use ringway::mapped::{Outgoing, Scan};
use ringway::process::{ProcessorFault, WindowLimits};
use ringway::progress::Extent;
use ringway::receipt::Processed;

use super::watch::Yield;
use super::{Run, splice};
use crate::bug::Bug;
use crate::content::{Origin, Piece, Rope};
use crate::event::Outcome;
use crate::kernel::lend::{BufferLease, PipeLease};
use crate::kernel::maps::MapLease;
use crate::kernel::ring::{Pending, Work};
use crate::oracle::End;
use crate::script::{Script, Turn};
use frame::Ahead;

enum Memory {
    Lease(BufferLease),
    Heap(Rope),
    Map(MapLease),
}

enum Room {
    Lease(BufferLease),
    Heap(Rope),
}

struct Mapped {
    script: Script,
    limits: WindowLimits,
    part: usize,
    /// The range that is scanned, and what is shown of it.
    all: Range<u64>,
    shown: Range<u64>,
    turn: Turn,
    frame: Option<Memory>,
    room: Option<Room>,
    outgoing: Outgoing,
    pipe: Option<PipeLease>,
    kept: Rope,
    ahead: Option<Ahead>,
    refers: bool,
    snapshot: bool,
    fresh: bool,
    account: Processed,
}

pub(super) async fn drive(run: &mut Run) -> Result<(), End> {
    let Some(script) = run.spec.script.clone() else {
        return Err(run.fail(ErrorKind::UnexpectedErrno { op: "processor", errno: 0 }));
    };
    let snapshot = run.spec.wishes.consistency == Consistency::Snapshot;
    let mut mapped = Mapped {
        limits: WindowLimits::default()
            .with_window_bytes(script.window_bytes)
            .with_window_max_bytes(script.window_max_bytes)
            .with_pieces_max(script.pieces_max),
        part: 0,
        all: 0..0,
        shown: 0..0,
        turn: script.end(),
        frame: None,
        room: None,
        outgoing: Outgoing::default(),
        pipe: None,
        kept: Rope::default(),
        ahead: None,
        refers: !snapshot && !run.spec.wishes.forbidden.contains(ringway::Route::Splice),
        snapshot: snapshot && !run.has(Bug::MapSnapshot),
        fresh: true,
        account: Processed::default(),
        script,
    };
    let outcome = mapped.all(run).await;
    let mut kernel = run.host.borrow_mut();
    kernel.oracle.told(run.id, &mapped.account, &run.progress);
    let told = &mapped.account;
    let kinds = [told.referenced_bytes, told.gathered_bytes, told.changed_bytes, told.added_bytes];
    for (count, bytes) in kernel.tally.by_kind.iter_mut().zip(kinds) {
        *count += bytes;
    }
    kernel.tally.processed_completed += u64::from(outcome.is_ok());
    drop(kernel);
    outcome
}

impl Mapped {
    async fn all(&mut self, run: &mut Run) -> Result<(), End> {
        let extents = run.spec.extents.clone();
        let last = extents.iter().rposition(|extent| matches!(extent, Extent::File { .. }));
        for (part, extent) in extents.into_iter().enumerate() {
            match extent {
                Extent::Bytes { len } => self.memory(run, part, len).await?,
                Extent::File { offset, len } => {
                    self.part = part;
                    self.scan(run, offset..offset + len).await?;
                }
            }
            if last == Some(part) {
                self.end(run).await?;
            }
        }
        if last.is_none() {
            self.end(run).await?;
        }
        let given = run.progress.accepted();
        match run.spec.promised() {
            Some(promised) if promised != given => {
                Err(run.fail(ErrorKind::SizeMismatch { promised, given }))
            }
            _ => Ok(()),
        }
    }

    async fn memory(&mut self, run: &mut Run, part: usize, len: u64) -> Result<(), End> {
        self.keeps_promise(run, len)?;
        let began = run.progress.accepted();
        let mut turn_began = began;
        loop {
            let sent = run.progress.accepted() - began;
            if sent == len {
                return Ok(());
            }
            run.watch.check().map_err(|kind| run.fail(kind))?;
            splice::send_memory(run, part, sent, len - sent).await?;
            run.share(&mut turn_began).await;
        }
    }

    async fn scan(&mut self, run: &mut Run, range: Range<u64>) -> Result<(), End> {
        let mut scan = Scan::new(range.clone(), &self.limits);
        self.all = range;
        let mut looked = 0;
        while let Some(wanted) = scan.next() {
            run.watch.check().map_err(|kind| run.fail(kind))?;
            let opened = self.open(run, wanted.clone(), scan.least()).await?;
            let Some(memory) = opened else { return Err(self.truncated(run)) };
            let len = memory.len(wanted.start).min(wanted.end - wanted.start);
            self.frame = Some(memory);
            self.fresh = true;
            self.shown = wanted.start..wanted.start + len;
            let late = self.look(run, scan.takes_its_time()).await?;
            self.is_whole(run)?;
            self.keeps_promise(run, self.turn.bytes)?;
            let budget = self.limits.turn_budget;
            scan.took(if late { 2 * budget } else { Duration::ZERO }, budget);
            let used = self.turn.used;
            scan.used(&self.shown, used, self.turn.bytes > 0, self.turn.hurried)
                .map_err(|fault| run.fail(ErrorKind::Processor(fault)))?;
            self.open_ahead(run, scan.next());
            self.send(run).await?;
            self.is_whole(run)?;
            self.account.scanned_bytes += used;
            self.frame = None;
            looked += used;
            if scan.gives_way() || looked >= run.limits.quantum_bytes {
                looked = 0;
                Yield::new(&run.host, run.id).await;
            }
        }
        self.release();
        Ok(())
    }

    async fn end(&mut self, run: &mut Run) -> Result<(), End> {
        self.frame = None;
        self.shown = 0..0;
        self.room(run).await?;
        self.turn = self.script.end();
        self.furnish();
        run.host.borrow_mut().oracle.inspected(run.id, Rope::default());
        self.keeps_promise(run, self.turn.bytes)?;
        self.send(run).await?;
        self.release();
        Ok(())
    }

    /// One turn of the processor. Whether it was late.
    async fn look(&mut self, run: &mut Run, takes_its_time: bool) -> Result<bool, End> {
        self.kept.clear();
        self.room(run).await?;
        if self.script.elsewhere {
            let errand = Pending::submit(&run.host, run.id, Work::Errand);
            let outcome = run.watch.excused(errand).await;
            let ended = outcome.map_err(|kind| run.fail(kind))?;
            if ended.result.is_err() {
                run.host.borrow_mut().oracle.processor_fails(run.id);
                return Err(run.fail(ErrorKind::Processor(ProcessorFault::Lost)));
            }
        }
        let told = run.host.borrow_mut().turn_of_processor(run.id);
        let (records, late) = match told {
            Outcome::Errno(_) => {
                run.host.borrow_mut().oracle.processor_fails(run.id);
                return Err(run.fail(ErrorKind::Processor(ProcessorFault::Failed)));
            }
            Outcome::Short(records) if !takes_its_time && !self.script.elsewhere => (records, true),
            Outcome::Short(_) | Outcome::Full => (u64::MAX, false),
        };
        let seen = self.seen(run);
        self.turn = self.script.turn(&self.all, &self.shown, &seen, records);
        run.host.borrow_mut().oracle.inspected(run.id, seen);
        self.change(run);
        self.furnish();
        self.account.turns += 1;
        Ok(late)
    }

    /// What the window shows.
    fn seen(&self, run: &Run) -> Rope {
        let len = self.shown.end - self.shown.start;
        match &self.frame {
            Some(Memory::Lease(lease)) => lease.slice(0, len),
            Some(Memory::Heap(bytes)) => bytes.slice(0, len),
            Some(Memory::Map(map)) => map.look(run.id, self.shown.clone()),
            None => Rope::default(),
        }
    }

    /// Does to the window what the processor has done to it.
    fn change(&mut self, run: &Run) {
        let len = self.shown.end - self.shown.start;
        let whole = 0..crate::script::to_usize(len);
        for range in self.turn.changes.within(whole) {
            let (at, len) = (range.start as u64, range.len() as u64);
            let place = self.shown.start + at;
            let inode = run.inodes[self.part];
            let mut changed = Rope::default();
            let origin = Origin::Changed { inode, at: place };
            changed.push(Piece::of_processor(run.id, origin, len));
            match &mut self.frame {
                Some(Memory::Lease(lease)) => lease.overlay(at, &changed),
                Some(Memory::Heap(bytes)) => bytes.overlay(at, &changed),
                Some(Memory::Map(map)) => map.change(place..place + len),
                None => {}
            }
        }
    }

    /// What was converted lies in the room.
    fn furnish(&mut self) {
        match &mut self.room {
            Some(Room::Lease(lease)) => {
                lease.set_filled(0);
                lease.put(&self.turn.made);
            }
            Some(Room::Heap(bytes)) => *bytes = self.turn.made.clone(),
            None => {}
        }
    }

    async fn room(&mut self, run: &mut Run) -> Result<(), End> {
        if self.room.is_some() {
            return Ok(());
        }
        self.room = Some(if self.script.lends_room {
            Room::Lease(self.buffer(run).await?)
        } else {
            Room::Heap(Rope::default())
        });
        Ok(())
    }

    async fn buffer(&self, run: &mut Run) -> Result<BufferLease, End> {
        let host = run.host.clone();
        let lending = poll_fn(move |_| match BufferLease::lend(&host) {
            Some(lease) => Poll::Ready(lease),
            None => Poll::Pending,
        });
        run.watch.excused(lending).await.map_err(|kind| run.fail(kind))
    }

    fn is_resident(&self, run: &Run) -> bool {
        run.spec.filesystem == ringway::plan::Filesystem::Local && run.is_resident(self.part)
    }

    fn keeps_promise(&self, run: &Run, more: u64) -> Result<(), End> {
        let given = run.progress.accepted().saturating_add(more);
        match run.spec.promised() {
            Some(promised) if given > promised => {
                Err(run.fail(ErrorKind::SizeMismatch { promised, given }))
            }
            _ => Ok(()),
        }
    }

    fn is_whole(&self, run: &Run) -> Result<(), End> {
        match &self.frame {
            Some(Memory::Map(_)) if run.has(Bug::TrustCutWindow) => Ok(()),
            Some(Memory::Map(map)) if !map.is_whole(run.id) => Err(self.truncated(run)),
            _ => Ok(()),
        }
    }

    fn release(&mut self) {
        self.frame = None;
        self.room = None;
        self.pipe = None;
    }

    fn truncated(&self, run: &Run) -> End {
        let of_file = |extent: &Extent| match *extent {
            Extent::File { len, .. } => len,
            Extent::Bytes { .. } => 0,
        };
        let expected = run.spec.extents.iter().map(of_file).sum();
        run.fail(ErrorKind::Truncated(Truncated { expected, sent: run.progress.accepted() }))
    }
}

impl Memory {
    /// Bytes of the file that it has from a place on.
    fn len(&self, from: u64) -> u64 {
        match self {
            Self::Lease(lease) => lease.len(),
            Self::Heap(bytes) => bytes.len(),
            Self::Map(map) => map.range.end - from,
        }
    }
}
