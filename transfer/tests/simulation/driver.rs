//! The routes without their kernel: line for line what `route/splice.rs`, `route/copy.rs` and
//! `route/mapped` decide,
//! over the model, asking the real [`Progress`], [`Pace`] and plan. Whoever changes a route changes
//! its mirror here. [`Bug`] puts mistakes back.

mod copy;
mod mapped;
mod splice;
mod watch;

use std::rc::Rc;

use ringway::error::{ErrorKind, Misstep, Side, classify};
use ringway::pace::{Allowance, Pace};
use ringway::plan::{Plan, Route};
use ringway::progress::{Extent, FILE_END_MAX, Fill, Progress};
use ringway::{Consistency, Limits};

use crate::bug::Bug;
use crate::content::Rope;
use crate::event::EAGAIN;
use crate::kernel::Host;
use crate::oracle::End;
use crate::scenario::{PAGE, TransferSpec};
use watch::{Ready, Stop, Watch, Yield};

/// One transfer under way.
struct Run {
    host: Host,
    id: usize,
    spec: Rc<TransferSpec>,
    /// The file of each part, as it was opened.
    inodes: Rc<[usize]>,
    progress: Progress,
    plan: Plan,
    limits: Limits,
    watch: Watch,
    pace: Option<Pace>,
    may_copy: bool,
    copies_anyway: bool,
}

/// Takes a transfer from its plan to its end.
pub(crate) async fn drive(
    host: Host,
    id: usize,
    spec: Rc<TransferSpec>,
    inodes: Rc<[usize]>,
) -> Result<u64, End> {
    let failed = |kind| End { kind, sent: 0 };
    let (resident, pipe_bytes) = {
        let kernel = host.borrow();
        let resident = inodes.iter().all(|&inode| kernel.inodes[inode].resident);
        (resident, kernel.pipe_pages * PAGE)
    };
    let planned = spec.plan(resident, pipe_bytes);
    let mut plan = planned.map_err(|refusal| failed(ErrorKind::Refused(refusal)))?;
    if host.borrow().has(Bug::SpliceSnapshot) && spec.wishes.consistency == Consistency::Snapshot {
        plan.route = Route::Splice;
    }
    // What a processor lets through is not known beforehand.
    let endless = || vec![Extent::Bytes { len: FILE_END_MAX }];
    let extents = if spec.script.is_some() { endless() } else { spec.extents.clone() };
    let progress = Progress::new(extents);
    let progress = progress.map_err(|overflow| failed(ErrorKind::LengthOverflow(overflow)))?;
    let mut run = Run {
        watch: Watch::start(&host, id, &spec),
        may_copy: spec.wishes.route.is_none() && !spec.wishes.forbidden.contains(Route::Copy),
        pace: spec.pace(),
        limits: spec.limits.clone(),
        copies_anyway: false,
        host,
        id,
        spec,
        inodes,
        progress,
        plan,
    };
    let outcome = match run.plan.route {
        Route::Splice => splice::drive(&mut run).await,
        Route::Mapped => mapped::drive(&mut run).await,
        _ => copy::drive(&mut run).await,
    };
    if outcome.is_err() && !run.has(Bug::LeaveCorked) {
        run.host.borrow_mut().flush(id);
    }
    outcome.map(|()| run.progress.accepted())
}

impl Run {
    fn has(&self, bug: Bug) -> bool {
        self.host.borrow().has(bug)
    }

    fn fail(&self, kind: ErrorKind) -> End {
        End { kind, sent: self.progress.accepted() }
    }

    fn fail_io(&self, op: &'static str, side: Side, errno: i32) -> End {
        self.fail(classify(op, side, errno))
    }

    fn report(&mut self, counted: Result<(), Misstep>) -> Result<(), End> {
        counted.map_err(|misstep| self.fail(ErrorKind::Misstep(misstep)))?;
        self.host.borrow_mut().oracle.compare(self.id, &self.progress);
        Ok(())
    }

    fn accept(&mut self, bytes: u64) -> Result<(), End> {
        let counted = self.progress.accept(bytes);
        {
            let mut kernel = self.host.borrow_mut();
            let now = kernel.now;
            kernel.oracle.accepted(self.id, bytes, now);
        }
        self.watch.heard(self.progress.accepted());
        self.report(counted)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), End> {
        let counted = self.progress.pass(bytes);
        {
            let mut kernel = self.host.borrow_mut();
            let now = kernel.now;
            kernel.oracle.staged(self.id, bytes);
            kernel.oracle.accepted(self.id, bytes, now);
        }
        self.watch.heard(self.progress.accepted());
        self.report(counted)
    }

    fn stage(&mut self, bytes: u64) -> Result<(), End> {
        if bytes == 0 && self.has(Bug::RetryAtEnd) {
            return Ok(());
        }
        let counted = self.progress.stage(bytes);
        self.host.borrow_mut().oracle.staged(self.id, bytes);
        self.report(counted)
    }

    /// Throws away what is staged; what it cost goes back to the rate limit.
    fn rewind(&mut self) {
        let staged = self.progress.staged();
        if staged > 0 {
            self.progress.rewind();
            {
                let mut kernel = self.host.borrow_mut();
                kernel.oracle.rewound(self.id);
                kernel.tally.rewinds += 1;
                kernel.oracle.compare(self.id, &self.progress);
            }
            self.unused(staged);
            if self.has(Bug::RefundTwice) {
                self.unused(staged);
            }
        }
    }

    /// How many bytes to move next, at most a quantum; waits for the rate limit.
    async fn quantum(&mut self) -> Result<u64, End> {
        let want = self.limits.quantum_bytes.min(self.progress.remaining());
        loop {
            let elapsed = self.watch.elapsed();
            let Some(pace) = &mut self.pace else { return Ok(want) };
            match pace.allow(elapsed, want) {
                Allowance::Now(bytes) => return Ok(bytes.max(1)),
                Allowance::After(pause) => {
                    self.watch.pause(pause).await.map_err(|stop| self.fail(stop))?;
                }
            }
        }
    }

    fn unused(&mut self, bytes: u64) {
        if let Some(pace) = &mut self.pace {
            pace.give_back(bytes);
        }
    }

    fn wants_zero_copy(&self, at_least: u64) -> bool {
        self.spec.zero_copy
            && self.progress.remaining() >= at_least
            && !self.copies_anyway
            && self.plan.route == Route::Copy
    }

    async fn writable(&mut self, holding: bool) -> Result<Ready, End> {
        let hold = holding.then_some(self.limits.stall_hold);
        let sent = self.progress.accepted();
        let ready = self.watch.writable(sent, hold).await;
        ready.map_err(|Stop(kind)| self.fail(kind))
    }

    /// What a send's `MSG_MORE` says after `len` more bytes.
    fn more_after(&self, len: u64) -> bool {
        self.progress.more_after(len) || self.has(Bug::MoreOnTail)
    }

    /// A range as the kernel is asked for it.
    fn range(&self, fill: Fill) -> (usize, u64, u64) {
        let at =
            if self.has(Bug::OffsetsOf32Bits) { fill.offset & 0x7fff_ffff } else { fill.offset };
        (self.inodes[fill.part], at, fill.len)
    }

    fn memory(&self, part: usize, start: u64, len: u64) -> Rope {
        self.host.borrow().oracle.memory(self.id, part, start, len)
    }

    fn is_resident(&self, part: usize) -> bool {
        self.host.borrow().inodes[self.inodes[part]].resident
    }

    /// One client takes one quantum at a time.
    async fn share(&self, turn_began: &mut u64) {
        let sent = self.progress.accepted();
        if sent - *turn_began >= self.limits.quantum_bytes {
            *turn_began = sent;
            Yield::new(&self.host, self.id).await;
        }
    }
}

fn would_block(errno: i32) -> bool {
    errno == EAGAIN
}
