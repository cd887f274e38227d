//! Which way a body goes, and why: a pure decision from facts.
//!
//! [`plan`] looks at the source, the sink, the wishes of the caller and what the host allows, and names
//! a [`Route`], a [`Mode`] and the [`Reason`] that the receipt repeats to the operator. It opens
//! nothing and asks nobody; whoever calls it has gathered the facts. The points at which a route
//! becomes the cheaper one are data: [`Thresholds`].

use std::fmt;

pub use crate::error::Refusal;
use crate::limits::Thresholds;

/// Chooses the way for one body.
///
/// A forced route or mode is taken or refused, never replaced; a forbidden route is never taken. What
/// it answers to each case is tabled in `tests/plan_table.rs`.
///
/// # Errors
///
/// A [`Refusal`] when the wishes contradict each other, or leave only a route that cannot carry this
/// source on this host.
pub fn plan(
    source: &SourceFacts,
    sink: &SinkFacts,
    wishes: &Wishes,
    host: &Capabilities,
    thresholds: &Thresholds,
) -> Result<Plan, Refusal> {
    let (route, reason) = choose_route(source, wishes, host, thresholds)?;
    let (mode, mode_fixed) = choose_mode(route, source, wishes, host);
    let by_reference = route == Route::Splice && source.direct_io == DirectIo::No;
    let overwritable = match sink.kind {
        _ if !by_reference || source.file_bytes == 0 => Overwritable::OnReturn,
        SinkKind::Tcp if !sink.same_host => Overwritable::OnceDrained,
        SinkKind::Tcp | SinkKind::Unix => Overwritable::Unknowable,
    };
    let registered = route == Route::Copy && host.registered_buffers;
    Ok(Plan { route, mode, mode_fixed, reason, registered, overwritable })
}

fn choose_route(
    source: &SourceFacts,
    wishes: &Wishes,
    host: &Capabilities,
    thresholds: &Thresholds,
) -> Result<(Route, Reason), Refusal> {
    let forbidden = wishes.forbidden;
    let snapshot = wishes.consistency == Consistency::Snapshot;
    if Route::ALL.iter().all(|&route| forbidden.contains(route)) {
        return Err(Refusal::AllForbidden);
    }
    if let Some(route) = wishes.route
        && forbidden.contains(route)
    {
        return Err(Refusal::ForcedAndForbidden(route));
    }
    let must_splice = wishes.route == Some(Route::Splice) || forbidden.contains(Route::Copy);
    if must_splice && snapshot {
        return Err(Refusal::SnapshotNeedsCopy);
    }
    if must_splice && let Some(obstacle) = obstacle(source, wishes, host) {
        return Err(Refusal::SpliceImpossible(obstacle));
    }
    if let Some(route) = wishes.route {
        return Ok((route, Reason::Forced));
    }
    Ok(match reason_to_copy(source, wishes, host, thresholds) {
        None if forbidden.contains(Route::Splice) => (Route::Copy, Reason::OtherForbidden),
        None => (Route::Splice, Reason::LargeBody),
        Some(_) if forbidden.contains(Route::Copy) => (Route::Splice, Reason::OtherForbidden),
        Some(reason) => (Route::Copy, reason),
    })
}

/// What makes a splice of these file bytes fail for certain.
fn obstacle(source: &SourceFacts, wishes: &Wishes, host: &Capabilities) -> Option<Obstacle> {
    if source.file_bytes == 0 {
        return None;
    }
    if !host.splice {
        return Some(Obstacle::SpliceUnusable);
    }
    if source.filesystem == Filesystem::Pseudo {
        return Some(Obstacle::PseudoFile);
    }
    if source.direct_io == DirectIo::Misaligned {
        return Some(Obstacle::MisalignedDirectIo);
    }
    if host.pipe_bytes == 0 {
        return Some(Obstacle::NoPipe);
    }
    if !host.splice_sqe && matches!(wishes.mode, Some(Mode::Ring | Mode::Hybrid)) {
        return Some(Obstacle::NoSpliceSqe);
    }
    None
}

/// Why copying is the better way, or the only one: the first reason in order of weight.
fn reason_to_copy(
    source: &SourceFacts,
    wishes: &Wishes,
    host: &Capabilities,
    thresholds: &Thresholds,
) -> Option<Reason> {
    let SourceFacts { file_bytes, file_parts, filesystem, .. } = *source;
    if file_bytes == 0 {
        return Some(Reason::NothingFromFile);
    }
    if wishes.consistency == Consistency::Snapshot {
        return Some(Reason::Snapshot);
    }
    if let Some(obstacle) = obstacle(source, wishes, host) {
        return Some(Reason::SpliceImpossible(obstacle));
    }
    if matches!(filesystem, Filesystem::Network | Filesystem::Fuse) {
        return Some(Reason::CopyingFilesystem(filesystem));
    }
    let small = match source.residency {
        Residency::Resident => thresholds.copy_max_bytes,
        Residency::Cold | Residency::Unknown => thresholds.cold_copy_max_bytes,
    };
    if file_bytes <= small {
        return Some(Reason::SmallBody);
    }
    let parts = u64::try_from(file_parts).unwrap_or(u64::MAX);
    if parts > 1 && file_bytes / parts <= thresholds.gather_max_bytes {
        return Some(Reason::ShortParts);
    }
    if host.pipe_bytes < thresholds.pipe_min_bytes {
        return Some(Reason::SmallPipe);
    }
    let may_wait = wishes.mode.unwrap_or_else(|| mode_by_facts(source).0) != Mode::Inline;
    if may_wait && !host.splice_sqe {
        return Some(Reason::NoWorkerSplice);
    }
    if may_wait && host.pipe_bytes < thresholds.worker_pipe_min_bytes {
        return Some(Reason::SmallPipe);
    }
    None
}

/// The mode, and whether it stays for the whole transfer.
fn choose_mode(
    route: Route,
    source: &SourceFacts,
    wishes: &Wishes,
    host: &Capabilities,
) -> (Mode, bool) {
    if let Some(mode) = wishes.mode {
        return (mode, true);
    }
    if route == Route::Splice && !host.splice_sqe {
        return (Mode::Inline, true);
    }
    mode_by_facts(source)
}

fn mode_by_facts(source: &SourceFacts) -> (Mode, bool) {
    if source.file_bytes == 0 {
        return (Mode::Inline, true);
    }
    if source.direct_io != DirectIo::No {
        return (Mode::Hybrid, true);
    }
    match source.filesystem {
        Filesystem::Memory => (Mode::Inline, true),
        // A resident page may still have to be revalidated elsewhere, and that waits.
        Filesystem::Network | Filesystem::Fuse | Filesystem::Pseudo => (Mode::Hybrid, true),
        Filesystem::Local | Filesystem::Unknown => (residency_mode(source.residency), false),
    }
}

/// The mode for a range of this residency, where nothing else decides.
///
/// Resident data is moved inline, which is cheapest. Anything else is read by the ring, so that a
/// cold file makes a worker or the disk wait, and not the event loop.
#[must_use]
pub fn residency_mode(residency: Residency) -> Mode {
    match residency {
        Residency::Resident => Mode::Inline,
        Residency::Cold | Residency::Unknown => Mode::Hybrid,
    }
}

/// The chosen way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The route of the file bytes.
    pub route: Route,
    /// Who makes the calls, at the start.
    pub mode: Mode,
    /// Whether `mode` stays for the whole transfer, because it was forced or nothing else fits.
    pub mode_fixed: bool,
    /// Why this route.
    pub reason: Reason,
    /// Whether the copy's buffer is to be a registered one.
    pub registered: bool,
    /// When the file may be overwritten in place without the peer seeing it.
    pub overwritable: Overwritable,
}

impl Plan {
    /// The mode for the next quantum, whose residency is now known.
    #[must_use]
    pub fn mode_for(&self, residency: Residency) -> Mode {
        if self.mode_fixed { self.mode } else { residency_mode(residency) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.route, self.mode, self.reason)
    }
}

/// How file bytes reach the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Page cache, pipe, socket: by reference, with no copy in user space.
    Splice,
    /// File, buffer, socket: a copy, with header and trailer in the same packets.
    Copy,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 2] = [Self::Splice, Self::Copy];
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Splice => "splice",
            Self::Copy => "copy",
        })
    }
}

/// A set of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RouteSet(u8);

impl RouteSet {
    /// No route.
    pub const EMPTY: Self = Self(0);

    /// This set and `route`.
    #[must_use]
    pub const fn with(self, route: Route) -> Self {
        Self(self.0 | 1 << route as u8)
    }

    /// Whether `route` is in it.
    #[must_use]
    pub const fn contains(self, route: Route) -> bool {
        self.0 & 1 << route as u8 != 0
    }
}

/// Who makes the two calls of each quantum: the one that reads and the one that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The ring makes both: two splices, or a read and a send.
    Ring,
    /// The ring reads; the loop sends by a call that does not block.
    Hybrid,
    /// The loop makes both, for resident data.
    Inline,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Hybrid => "hybrid",
            Self::Inline => "inline",
        })
    }
}

/// Which version of a file the peer may see if it is overwritten in place meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Consistency {
    /// The file is left alone while its bytes are in flight; they may go by reference.
    #[default]
    Shared,
    /// The bytes are those at the time of reading, so they are copied.
    Snapshot,
}

/// When a file may be overwritten in place without the peer reading the new bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overwritable {
    /// As soon as the transfer has resolved: nothing is held by reference.
    OnReturn,
    /// Once nothing unacknowledged is left in the socket's queue.
    OnceDrained,
    /// Nobody can tell: the pages move by reference into a receive queue on this host.
    Unknowable,
}

/// What is known of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFacts {
    /// Bytes of the whole body.
    pub total_bytes: u64,
    /// Those of them that come from files.
    pub file_bytes: u64,
    /// File ranges that are not empty.
    pub file_parts: usize,
    /// The least capable filesystem among them.
    pub filesystem: Filesystem,
    /// Whether a file was opened with `O_DIRECT`.
    pub direct_io: DirectIo,
    /// Whether the first quantum is in the page cache.
    pub residency: Residency,
}

/// The class of a filesystem, as far as a route depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// On a disk of this host, with a page cache: ext4, xfs, btrfs, overlayfs and the like.
    Local,
    /// In memory: tmpfs, memfd, hugetlbfs. Never cold, short of swapping.
    Memory,
    /// Served by another machine or by a hypervisor: NFS, SMB, Ceph, 9p, vboxsf.
    Network,
    /// Served by a program: FUSE.
    Fuse,
    /// Made up by the kernel while it is read: procfs, sysfs.
    Pseudo,
    /// Not one that is known here.
    Unknown,
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "a local filesystem",
            Self::Memory => "a filesystem in memory",
            Self::Network => "a network or shared-folder filesystem",
            Self::Fuse => "a FUSE filesystem",
            Self::Pseudo => "a pseudo filesystem",
            Self::Unknown => "an unknown filesystem",
        })
    }
}

/// Whether a file bypasses the page cache, see `O_DIRECT` in open(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectIo {
    /// It does not.
    No,
    /// It does, and every range begins and ends on a block.
    Aligned,
    /// It does, and some range does not: splice answers `EINVAL`.
    Misaligned,
}

/// Whether file bytes are in the page cache. Eviction can make it untrue at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Residency {
    /// All of them are.
    Resident,
    /// Some are not.
    Cold,
    /// The kernel would not say.
    Unknown,
}

/// What is known of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkFacts {
    /// The kind of socket.
    pub kind: SinkKind,
    /// Whether the peer is on this host: loopback, or a container behind a veth.
    pub same_host: bool,
}

/// The kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// A TCP stream.
    Tcp,
    /// A Unix stream.
    Unix,
}

/// What the caller asks for. The default asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The route to take, whatever it costs.
    pub route: Option<Route>,
    /// Routes not to take.
    pub forbidden: RouteSet,
    /// The mode to use, whatever it costs. `Inline` on a cold file blocks the event loop.
    pub mode: Option<Mode>,
    /// Which version of the file the peer may see.
    pub consistency: Consistency,
}

/// What the host allows, found by probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// splice(2) between a file and a pipe, and a pipe and this kind of socket, works.
    pub splice: bool,
    /// The ring takes `IORING_OP_SPLICE`.
    pub splice_sqe: bool,
    /// Buffers are registered with the ring.
    pub registered_buffers: bool,
    /// The size of the pipe that can be had now, in bytes; 0 when there is none.
    pub pipe_bytes: u64,
}

/// Why a route was taken, in words for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The caller forced the route.
    Forced,
    /// The caller forbade the other one, which would have been cheaper.
    OtherForbidden,
    /// Enough bytes, of a plain file, for the pipe to pay.
    LargeBody,
    /// The body is memory only.
    NothingFromFile,
    /// The caller wants the bytes as they were when they were read.
    Snapshot,
    /// Few file bytes.
    SmallBody,
    /// Many short file ranges.
    ShortParts,
    /// A filesystem on which splice works, but where copying is the safe choice.
    CopyingFilesystem(Filesystem),
    /// The pipe that could be had is too small to pay.
    SmallPipe,
    /// The file may be cold and no worker can splice it, so that a splice would block the loop.
    NoWorkerSplice,
    /// A splice would fail.
    SpliceImpossible(Obstacle),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forced => "the caller forced this route",
            Self::OtherForbidden => "the caller forbade the route that would have been chosen",
            Self::LargeBody => "large body of a plain file: splicing saves the copy",
            Self::NothingFromFile => "nothing comes from a file: memory is sent as it is",
            Self::Snapshot => "a snapshot was asked for: splicing would send later changes",
            Self::SmallBody => "small body: one buffer and one send beat a pipe",
            Self::ShortParts => "many short ranges: gathering them beats a splice for each",
            Self::CopyingFilesystem(on) => return write!(f, "{on}: bytes are copied to be safe"),
            Self::SmallPipe => "the pipe to be had is too small to beat a copy",
            Self::NoWorkerSplice => "the file may be cold and the ring has no splice to wait in",
            Self::SpliceImpossible(obstacle) => return write!(f, "{obstacle}"),
        })
    }
}

/// What makes a splice impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// The kernel, or a sandbox around this process, refuses splice(2).
    SpliceUnusable,
    /// The file is made up by the kernel while it is read.
    PseudoFile,
    /// An `O_DIRECT` range does not begin and end on a block.
    MisalignedDirectIo,
    /// No pipe can be had.
    NoPipe,
    /// The forced mode needs `IORING_OP_SPLICE` and the ring lacks it.
    NoSpliceSqe,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SpliceUnusable => "splice does not work here",
            Self::PseudoFile => "the file is on a pseudo filesystem, which cannot be spliced",
            Self::MisalignedDirectIo => "an O_DIRECT range that is not aligned cannot be spliced",
            Self::NoPipe => "no pipe is free and none can be made",
            Self::NoSpliceSqe => "the ring has no splice, which the forced mode needs",
        })
    }
}
