//! What a seed begins with: files, bodies, limits, and what the transfers may do.

use std::num::NonZeroU64;
use std::time::Duration;

use ringway::limits::Thresholds;
use ringway::pace::{Deadline, Floor, Pace};
use ringway::plan::{
    Capabilities, DirectIo, Filesystem, Plan, Refusal, Residency, RouteSet, SinkFacts, SinkKind,
    SourceFacts, Wishes, plan,
};
use ringway::progress::{Extent, FILE_END_MAX};
use ringway::{Consistency, Limits, Mode, Route};

use crate::chance::Chance;
use crate::script::Script;

pub(crate) const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;

/// Everything that does not change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Lengths, in bytes.
    pub(crate) files: Vec<u64>,
    pub(crate) transfers: Vec<TransferSpec>,
    pub(crate) pipes_max: usize,
    pub(crate) pipe_pages: u64,
    pub(crate) buffers_max: usize,
    pub(crate) buffer_bytes: u64,
    pub(crate) socket_bytes: u64,
}

/// One transfer to be.
#[derive(Debug, Clone)]
pub(crate) struct TransferSpec {
    pub(crate) extents: Vec<Extent>,
    /// Which file each extent is of.
    pub(crate) files: Vec<usize>,
    pub(crate) wishes: Wishes,
    pub(crate) filesystem: Filesystem,
    pub(crate) limits: Limits,
    pub(crate) copy_max_bytes: u64,
    /// 0 never ends a body by sendfile.
    pub(crate) sendfile_max_bytes: u64,
    /// Bytes per second, and the burst.
    pub(crate) rate: Option<(NonZeroU64, u64)>,
    /// Bytes per second, and the grace.
    pub(crate) floor: Option<(u64, Duration)>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) zero_copy: bool,
    /// What a processor does on the way, if there is one.
    pub(crate) script: Option<Script>,
}

impl TransferSpec {
    pub(crate) fn pace(&self) -> Option<Pace> {
        self.rate.map(|(rate, burst)| Pace::new(rate, burst))
    }

    pub(crate) fn floor(&self) -> Option<Floor> {
        self.floor.map(|(rate, grace)| Floor::new(rate, grace))
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.deadline.map(Deadline)
    }

    /// Bytes that were promised to go out.
    pub(crate) fn promised(&self) -> Option<u64> {
        let script = self.script.as_ref()?;
        Some(crate::oracle::total(self).saturating_add_signed(script.promised?))
    }

    /// Whether no route can do what is wished.
    pub(crate) fn contradicts_itself(&self) -> bool {
        let Wishes { route, forbidden, consistency, mode, processed } = self.wishes;
        if processed {
            return mode == Some(Mode::Ring) || forbidden.contains(Route::Mapped);
        }
        let must_splice = route == Some(Route::Splice) || forbidden.contains(Route::Copy);
        route.is_some_and(|route| forbidden.contains(route))
            || must_splice && consistency == Consistency::Snapshot
    }

    /// The real plan for these facts.
    pub(crate) fn plan(&self, resident: bool, pipe_bytes: u64) -> Result<Plan, Refusal> {
        let of_file = |extent: &Extent| match *extent {
            Extent::File { len, .. } if len > 0 => Some(len),
            _ => None,
        };
        let source = SourceFacts {
            total_bytes: self.extents.iter().map(|extent| extent.len()).sum(),
            file_bytes: self.extents.iter().filter_map(of_file).sum(),
            file_parts: self.extents.iter().filter_map(of_file).count(),
            filesystem: self.filesystem,
            direct_io: DirectIo::No,
            residency: if resident { Residency::Resident } else { Residency::Cold },
        };
        let host =
            Capabilities { splice: true, splice_sqe: true, registered_buffers: true, pipe_bytes };
        let sink = SinkFacts { kind: SinkKind::Tcp, same_host: false };
        let mut thresholds = Thresholds::default().with_copy_max_bytes(self.copy_max_bytes);
        thresholds.gather_max_bytes = 0;
        thresholds.pipe_min_bytes = 0;
        thresholds.worker_pipe_min_bytes = 0;
        plan(&source, &sink, &self.wishes, &host, &thresholds)
    }
}

impl Scenario {
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self::of(&mut Chance::new(seed))
    }

    /// With these extents emptied, each named by its transfer and its part.
    pub(crate) fn without(mut self, extents: &[(usize, usize)]) -> Self {
        for &(transfer, part) in extents {
            self.transfers[transfer].extents[part] = Extent::Bytes { len: 0 };
        }
        self
    }

    pub(crate) fn of(chance: &mut Chance) -> Self {
        // One in eight is of many GiB: the ropes make it as cheap as the others.
        let huge = chance.one_in(8);
        let base = if huge {
            chance.of(&[0, GIB * 2 - 9000, GIB * 4 - 9000, FILE_END_MAX - 64 * GIB])
        } else {
            chance.of(&[0, 0, 0, 1, PAGE, GIB * 2 - 9000, GIB * 4 - 9000])
        };
        let scale = if huge { GIB } else { chance.of(&[200, 3 * PAGE, 20 * PAGE]) };
        let files: Vec<u64> = (0..chance.within(1, 2)).map(|_| base + scale * 14).collect();
        let count = chance.within(1, 4);
        let pipe_pages = if huge { 1 << 18 } else { chance.within(1, 16) };
        let mut transfers = Vec::new();
        for _ in 0..count {
            transfers.push(TransferSpec::of(chance, &files, base, scale, pipe_pages * PAGE));
        }
        let buffer_bytes = if huge { GIB } else { chance.of(&[PAGE, 2 * PAGE, 16 * PAGE]) };
        for (owner, transfer) in transfers.iter_mut().enumerate() {
            if chance.one_in(3) {
                transfer.process(Script::of(chance, owner, scale, buffer_bytes), chance);
            }
        }
        Self {
            files,
            transfers,
            pipes_max: chance.index(6),
            pipe_pages,
            buffers_max: 1 + chance.index(4),
            buffer_bytes,
            socket_bytes: if huge { GIB } else { chance.within(100, 24 * PAGE) },
        }
    }
}

impl TransferSpec {
    fn of(chance: &mut Chance, files: &[u64], base: u64, scale: u64, pipe: u64) -> Self {
        let extents: Vec<_> =
            (0..chance.within(1, 5)).map(|_| extent(chance, base, scale)).collect();
        let total: u64 = extents.iter().map(|extent| extent.len()).sum();
        let quantum = if scale >= GIB { GIB } else { PAGE * chance.within(1, 20) };
        let limits = Limits::default()
            .with_quantum_bytes(quantum)
            .with_pipe_bytes(pipe.max(PAGE))
            .with_pipes_max(1 + chance.index(2))
            .with_copy_batch_bytes(chance.within(PAGE.max(quantum / 32), quantum))
            .with_segments_max(1 + chance.index(8))
            .with_stall_hold(Duration::from_millis(chance.of(&[0, 5, 20])))
            .with_peer_timeout(chance.one_in(4).then_some(Duration::from_millis(400)));
        // A rate under which it lasts for a second or so, in pieces of a tenth of that.
        let rate = NonZeroU64::new(total / chance.within(1, 3) + 10);
        let rate = rate.filter(|_| chance.one_in(4)).map(|rate| (rate, total / 4 + 1));
        let forbidden = match chance.below(20) {
            0 => RouteSet::EMPTY.with(Route::Copy),
            1 => RouteSet::EMPTY.with(Route::Splice),
            _ => RouteSet::EMPTY,
        };
        let snapshot = chance.one_in(3);
        let consistency = if snapshot { Consistency::Snapshot } else { Consistency::Shared };
        let mode =
            chance.of(&[None, None, Some(Mode::Ring), Some(Mode::Hybrid), Some(Mode::Inline)]);
        let route = chance.of(&[None, None, None, Some(Route::Splice), Some(Route::Copy)]);
        Self {
            files: extents.iter().map(|_| chance.index(files.len())).collect(),
            extents,
            wishes: Wishes { route, forbidden, mode, consistency, processed: false },
            filesystem: chance.of(&[Filesystem::Local, Filesystem::Memory, Filesystem::Network]),
            limits,
            copy_max_bytes: chance.of(&[0, 0, PAGE]),
            sendfile_max_bytes: chance.of(&[0, 16 * PAGE]),
            rate,
            floor: chance.one_in(8).then_some((total / 100, Duration::from_millis(300))),
            deadline: chance.one_in(8).then(|| Duration::from_millis(chance.within(1, 3000))),
            zero_copy: chance.one_in(3),
            script: None,
        }
    }

    /// Lets a processor look at it.
    fn process(&mut self, script: Script, chance: &mut Chance) {
        let forbidden = match chance.below(12) {
            0 => RouteSet::EMPTY.with(Route::Mapped),
            1 => RouteSet::EMPTY.with(Route::Splice),
            _ => RouteSet::EMPTY,
        };
        let mode = chance.of(&[None, None, Some(Mode::Hybrid), Some(Mode::Inline)]);
        let route = chance.of(&[None, Some(Route::Mapped)]);
        let mode = if chance.one_in(20) { Some(Mode::Ring) } else { mode };
        let route = if forbidden.contains(Route::Mapped) { None } else { route };
        self.wishes = Wishes { route, forbidden, mode, processed: true, ..self.wishes };
        self.script = Some(script);
    }
}

fn extent(chance: &mut Chance, base: u64, scale: u64) -> Extent {
    let len = match chance.below(8) {
        0 => 0,
        1 => chance.below(10),
        _ => chance.below(scale),
    };
    if chance.one_in(3) {
        return Extent::Bytes { len: len.min(3 * PAGE) };
    }
    // Half of the ranges begin on a page.
    let offset = base + chance.below(scale * 6);
    let offset = if chance.one_in(2) { offset.next_multiple_of(PAGE) } else { offset };
    let len = if chance.one_in(3) { len } else { len.max(scale / 2) };
    // Among the huge ones are ranges that are longer than 32 bits can count.
    let times = if scale >= GIB { chance.within(1, 7) } else { 1 };
    Extent::File { offset, len: len * times }
}
