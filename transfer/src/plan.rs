//! Which way a body goes, and why: a pure decision from facts.
//!
//! [`plan`] looks at the source, the sink, the wishes of the caller and what the host allows, and names
//! a [`Route`], a [`Mode`] and the [`Reason`] that the receipt repeats to the operator. It opens
//! nothing and asks nobody; whoever calls it has gathered the facts. The points at which a route
//! becomes the cheaper one are data: [`Thresholds`].

mod consistency;
mod facts;
mod processed;
mod reason;

use std::fmt;

pub use crate::error::Refusal;
use crate::limits::Thresholds;
pub use consistency::{Consistency, Overwritable};
pub use facts::{
    Capabilities, DirectIo, Encryption, Filesystem, Residency, SinkFacts, SinkKind, SourceFacts,
    Wishes,
};
pub(crate) use processed::may_refer;
pub use reason::{Obstacle, Reason};

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
    if wishes.processed {
        return processed::plan(source, sink, wishes, host);
    }
    let (route, reason) = match sink.kind {
        SinkKind::Tcp | SinkKind::Unix => {
            refuse_records(wishes)?;
            choose_route(source, wishes, host, thresholds)?
        }
        SinkKind::Tls(encryption) => choose_encrypted(encryption, wishes)?,
    };
    let (mut mode, mode_fixed) = choose_mode(route, source, wishes, host);
    let is_short = source.file_bytes <= thresholds.cold_copy_max_bytes;
    if mode == Mode::Hybrid && !mode_fixed && route == Route::Copy && is_short {
        // The ring has its one buffer already, so the send goes to the kernel with what others want of it.
        mode = Mode::Ring;
    }
    let by_reference = route == Route::Splice && source.direct_io == DirectIo::No;
    let overwritable = overwritable(source, sink, by_reference);
    let registered = matches!(route, Route::Copy | Route::Registered) && host.registered_buffers;
    Ok(Plan { route, mode, mode_fixed, reason, registered, overwritable })
}

fn overwritable(source: &SourceFacts, sink: &SinkFacts, by_reference: bool) -> Overwritable {
    match sink.kind {
        _ if !by_reference || source.file_bytes == 0 => Overwritable::OnReturn,
        SinkKind::Tcp if !sink.same_host => Overwritable::OnceDrained,
        _ => Overwritable::Unknowable,
    }
}

/// Records for a stream that is not encrypted are refused: the peer could not read them.
fn refuse_records(wishes: &Wishes) -> Result<(), Refusal> {
    match wishes.route {
        Some(route @ (Route::Registered | Route::KernelTls)) => Err(Refusal::NotEncrypted(route)),
        _ => Ok(()),
    }
}

/// Who encrypts has been settled when the stream was made; there is one route for each.
fn choose_encrypted(encryption: Encryption, wishes: &Wishes) -> Result<(Route, Reason), Refusal> {
    let (only, reason) = match encryption {
        Encryption::Registered { no_kernel_tls } => {
            (Route::Registered, Reason::Sealed { no_kernel_tls })
        }
        Encryption::KernelTls => (Route::KernelTls, Reason::KernelSeals),
        Encryption::Library { because } => (Route::Copy, Reason::LibrarySeals { because }),
    };
    match wishes.route {
        Some(route) if wishes.forbidden.contains(route) => Err(Refusal::ForcedAndForbidden(route)),
        Some(route) if route != only => Err(Refusal::Encrypted { route, encryption }),
        _ if wishes.forbidden.contains(only) => Err(Refusal::OnlyWayForbidden(only)),
        Some(_) if !matches!(encryption, Encryption::Library { .. }) => Ok((only, Reason::Forced)),
        // Even where it is forced, it stands for another one, so the reason is told.
        _ => Ok((only, reason)),
    }
}

fn choose_route(
    source: &SourceFacts,
    wishes: &Wishes,
    host: &Capabilities,
    thresholds: &Thresholds,
) -> Result<(Route, Reason), Refusal> {
    let forbidden = wishes.forbidden;
    let snapshot = wishes.consistency == Consistency::Snapshot;
    if [Route::Splice, Route::Copy].iter().all(|&route| forbidden.contains(route)) {
        return Err(Refusal::AllForbidden);
    }
    if let Some(route) = wishes.route
        && forbidden.contains(route)
    {
        return Err(Refusal::ForcedAndForbidden(route));
    }
    if wishes.route == Some(Route::Mapped) {
        return Err(Refusal::NothingToProcess);
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
    /// File, registered buffer, socket, for a TLS stream: each record is sealed where the file's bytes
    /// were read to, so the cipher is all that touches them.
    Registered,
    /// Page cache, pipe, socket, for a TLS stream whose records the kernel makes.
    KernelTls,
    /// Window by window through a processor: what it keeps leaves by reference or gathered.
    Mapped,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 5] =
        [Self::Splice, Self::Copy, Self::Registered, Self::KernelTls, Self::Mapped];
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Splice => "splice",
            Self::Copy => "copy",
            Self::Registered => "registered",
            Self::KernelTls => "kernel-tls",
            Self::Mapped => "map",
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
