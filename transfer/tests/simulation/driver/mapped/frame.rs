//! The mirror of `route/mapped/frame.rs`, without `O_DIRECT`.

use std::ops::Range;

use ringway::Mode;
use ringway::error::Side;
use ringway::mapped::HUGE_PAGE;

use super::{Mapped, Memory};
use crate::content::Rope;
use crate::driver::Run;
use crate::event::{EAGAIN, EFAULT, EINTR, EINVAL, EOPNOTSUPP};
use crate::kernel::lend::BufferLease;
use crate::kernel::maps::{MapLease, NotMapped};
use crate::kernel::ring::{Pending, Work};
use crate::oracle::End;

/// How often populating is repeated.
const TRIES: u32 = 16;
/// Less than the route's, since the bodies are smaller.
const HEAP_MAX: u64 = 20 << 10;

/// A window that is being mapped while the one before it is sent.
pub(super) struct Ahead {
    range: Range<u64>,
    mapped: Result<MapLease, NotMapped>,
    populating: Option<Pending>,
}

impl Mapped {
    /// Has the bytes of a range, or fewer but at least `least`; `None` if the file ends before that.
    pub(super) async fn open(
        &mut self,
        run: &mut Run,
        range: Range<u64>,
        least: u64,
    ) -> Result<Option<Memory>, End> {
        if self.reads() {
            return self.read(run, range, least).await;
        }
        let ahead = match self.ahead.take().filter(|ahead| ahead.range == range) {
            Some(ahead) => ahead,
            None => self.mapping(run, range.clone()),
        };
        let map = match self.populated(run, ahead).await? {
            Ok(map) => map,
            Err(NotMapped::PastEnd) => return Ok(None),
            Err(NotMapped::Shortage) => return self.read(run, range, least).await,
        };
        run.host.borrow_mut().tally.windows_mapped += 1;
        self.account.windows_mapped += 1;
        Ok(Some(Memory::Map(map)))
    }

    /// Starts to map what follows, if that has to wait for a disk.
    pub(super) fn open_ahead(&mut self, run: &Run, range: Option<Range<u64>>) {
        self.ahead = None;
        let Some(range) = range.filter(|_| !self.reads()) else { return };
        if run.pace.is_some() || self.populates_inline(run) {
            return;
        }
        self.ahead = Some(self.mapping(run, range));
    }

    fn reads(&self) -> bool {
        self.snapshot
    }

    fn mapping(&self, run: &Run, range: Range<u64>) -> Ahead {
        let inode = run.inodes[self.part];
        let long = range.end - range.start >= HUGE_PAGE;
        let start = range.start - if long { range.start % HUGE_PAGE } else { 0 };
        let mapped = MapLease::map(&run.host, run.id, inode, start..range.end);
        let populating = match &mapped {
            Ok(map) if !self.populates_inline(run) => {
                Some(Pending::submit(&run.host, run.id, Work::Populate { map: map.id() }))
            }
            _ => None,
        };
        Ahead { range, mapped, populating }
    }

    fn populates_inline(&self, run: &Run) -> bool {
        match run.plan.mode_fixed {
            true => run.plan.mode == Mode::Inline,
            false => self.is_resident(run),
        }
    }

    async fn populated(
        &self,
        run: &mut Run,
        ahead: Ahead,
    ) -> Result<Result<MapLease, NotMapped>, End> {
        let map = match ahead.mapped {
            Ok(map) => map,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut populating = ahead.populating;
        for _ in 0..TRIES {
            let done = match populating.take() {
                Some(op) => {
                    let outcome = run.watch.excused(op).await;
                    outcome.map_err(|kind| run.fail(kind))?.result
                }
                None => map.populate_inline(run.id),
            };
            match done {
                Ok(_) => return Ok(Ok(map)),
                Err(EAGAIN | EINTR) => {
                    let again = Work::Populate { map: map.id() };
                    populating = Some(Pending::submit(&run.host, run.id, again));
                }
                Err(EFAULT) => return Ok(Err(NotMapped::PastEnd)),
                Err(_) => return Ok(Err(NotMapped::Shortage)),
            }
        }
        Ok(Err(NotMapped::Shortage))
    }

    /// Reads a window into memory.
    async fn read(
        &mut self,
        run: &mut Run,
        range: Range<u64>,
        least: u64,
    ) -> Result<Option<Memory>, End> {
        self.account.windows_read += 1;
        run.host.borrow_mut().tally.windows_read += 1;
        let (offset, len) = (range.start, range.end - range.start);
        if !self.script.lends_room && !self.script.elsewhere {
            let lease = self.buffer(run).await?;
            if lease.capacity() >= least {
                return self.read_lease(run, lease, offset, len).await;
            }
        }
        let most = if self.script.lends_room { HEAP_MAX } else { u64::MAX };
        let len = len.min(most.max(least));
        let mut bytes = Rope::default();
        while bytes.len() < len {
            let (at, left) = (offset + bytes.len(), len - bytes.len());
            let work = Work::ReadHeap { inode: run.inodes[self.part], at, len: left };
            let reading = Pending::submit(&run.host, run.id, work);
            let ended = run.watch.excused(reading).await.map_err(|kind| run.fail(kind))?;
            ended.result.map_err(|errno| run.fail_io("read", Side::Source, errno))?;
            if ended.read.len() == 0 {
                return Ok(None);
            }
            bytes.append(&ended.read);
        }
        Ok(Some(Memory::Heap(bytes)))
    }

    async fn read_lease(
        &self,
        run: &mut Run,
        mut lease: BufferLease,
        offset: u64,
        len: u64,
    ) -> Result<Option<Memory>, End> {
        let len = len.min(lease.capacity());
        let inode = run.inodes[self.part];
        while lease.len() < len {
            let start = lease.len();
            let (at, left) = (offset + start, len - start);
            if run.plan.mode == Mode::Inline || !run.plan.mode_fixed {
                let read = run.host.borrow_mut().try_read(run.id, (inode, at, left), lease.id());
                match read {
                    Ok(0) => return Ok(None),
                    Ok(_) => continue,
                    Err(EAGAIN | EINVAL | EOPNOTSUPP) => {}
                    Err(_) if run.plan.mode != Mode::Inline => {}
                    Err(errno) => return Err(run.fail_io("preadv2", Side::Source, errno)),
                }
            }
            let work = Work::Read { inode, at, len: left, buffer: lease.into_id(), start };
            let reading = Pending::submit(&run.host, run.id, work);
            let ended = run.watch.excused(reading).await.map_err(|kind| run.fail(kind))?;
            let read = ended.result.map_err(|errno| run.fail_io("read", Side::Source, errno))?;
            let Some(back) = ended.buffer.filter(|_| read > 0) else { return Ok(None) };
            lease = back;
        }
        Ok(Some(Memory::Lease(lease)))
    }
}
