//! Which way a body comes in, and why: a pure decision from facts.

use std::fmt;

use crate::limits::Thresholds;
use crate::plan::{Filesystem, Mode, Route, RouteSet};

/// Chooses the way for one body out of a stream into a file.
///
/// # Errors
///
/// [`Unfit`] when the wishes leave no route that can carry it.
pub fn plan(
    facts: &Facts,
    route: Option<Route>,
    forbidden: RouteSet,
    thresholds: &Thresholds,
) -> Result<Plan, Unfit> {
    let obstacle = obstacle(facts);
    if let Some(route) = route {
        let why = match (route, obstacle) {
            _ if forbidden.contains(route) => Some(Reason::Forbidden),
            // More routes lead out of a file than into one.
            _ if ![Route::Splice, Route::Copy].contains(&route) => Some(Reason::NotForReceiving),
            (Route::Splice, obstacle) => obstacle,
            _ => None,
        };
        return match why {
            Some(why) => Err(Unfit { route, why }),
            None => Ok(Plan { route, mode: mode(facts, route), reason: Reason::Forced }),
        };
    }
    let to_copy = obstacle.or_else(|| reason_to_copy(facts, thresholds));
    let (route, reason) = match to_copy {
        None if !forbidden.contains(Route::Splice) => (Route::Splice, Reason::LargeBody),
        None => (Route::Copy, Reason::OtherForbidden),
        Some(reason) if !forbidden.contains(Route::Copy) => (Route::Copy, reason),
        Some(why) if obstacle.is_some() => return Err(Unfit { route: Route::Splice, why }),
        Some(_) => (Route::Splice, Reason::OtherForbidden),
    };
    if forbidden.contains(route) {
        return Err(Unfit { route, why: Reason::Forbidden });
    }
    Ok(Plan { route, mode: mode(facts, route), reason })
}

/// What makes a splice fail for certain.
fn obstacle(facts: &Facts) -> Option<Reason> {
    if facts.decoded {
        return Some(Reason::Decoded);
    }
    if !facts.splice {
        return Some(Reason::SpliceUnusable);
    }
    if facts.filesystem == Filesystem::Pseudo {
        return Some(Reason::CopyingFilesystem(facts.filesystem));
    }
    if mode(facts, Route::Splice) != Mode::Inline && !facts.splice_sqe {
        return Some(Reason::NoWorkerSplice);
    }
    None
}

/// Why copying is the better way: the first reason in order of weight.
fn reason_to_copy(facts: &Facts, thresholds: &Thresholds) -> Option<Reason> {
    if matches!(facts.filesystem, Filesystem::Network | Filesystem::Fuse) {
        return Some(Reason::CopyingFilesystem(facts.filesystem));
    }
    if facts.to_come.is_some_and(|bytes| bytes <= thresholds.receive_copy_max_bytes) {
        return Some(Reason::SmallBody);
    }
    None
}

/// Nothing waits for a disk where there is none. Buffers are always written by the ring.
fn mode(facts: &Facts, route: Route) -> Mode {
    match (facts.filesystem, route) {
        (Filesystem::Memory, Route::Splice) => Mode::Inline,
        _ => Mode::Hybrid,
    }
}

/// What is known of stream, file and host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The bytes of the stream are not those of the body: they are decrypted or decoded first.
    pub decoded: bool,
    /// Bytes that are still to come out of the stream, where that is known.
    pub to_come: Option<u64>,
    /// The class of the file system of the file.
    pub filesystem: Filesystem,
    /// Whether splice(2) works here.
    pub splice: bool,
    /// Whether the ring can splice.
    pub splice_sqe: bool,
}

/// The chosen way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Through a pipe or through a buffer.
    pub route: Route,
    /// Who writes: the ring, or for files in memory the loop.
    pub mode: Mode,
    /// Why this route.
    pub reason: Reason,
}

/// Why a body takes its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It is large, or may be, and nothing speaks against a pipe.
    LargeBody,
    /// It is short: a pipe costs more than a copy.
    SmallBody,
    /// The caller wants it.
    Forced,
    /// The caller forbids the other one.
    OtherForbidden,
    /// The caller forbids this one.
    Forbidden,
    /// The bytes must pass through memory to be decrypted or decoded.
    Decoded,
    /// The file system copies anyway, or is not made for splices.
    CopyingFilesystem(Filesystem),
    /// splice(2) does not work here.
    SpliceUnusable,
    /// The ring cannot splice, and the loop must not wait for a disk.
    NoWorkerSplice,
    /// No pipe is to be had, and the copy is ruled out.
    NoPipe,
    /// The route leads out of a file only.
    NotForReceiving,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LargeBody => "a large body",
            Self::SmallBody => "a small body",
            Self::Forced => "forced by the caller",
            Self::OtherForbidden => "the other route is forbidden",
            Self::Forbidden => "it is forbidden by the caller",
            Self::Decoded => "the stream must be decoded in memory",
            Self::CopyingFilesystem(_) => "the file system is not made for splices",
            Self::SpliceUnusable => "splice(2) does not work here",
            Self::NoWorkerSplice => "the ring cannot splice here",
            Self::NoPipe => "no pipe is to be had",
            Self::NotForReceiving => "it does not lead into a file",
        })
    }
}

/// Wishes that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unfit {
    /// The route that is left.
    pub route: Route,
    /// Why it cannot be taken.
    pub why: Reason,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} is left as the route, and {}", self.route, self.why)
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Facts = Facts {
        decoded: false,
        to_come: Some(1 << 30),
        filesystem: Filesystem::Local,
        splice: true,
        splice_sqe: true,
    };

    fn chosen(facts: Facts) -> (Route, Mode, Reason) {
        let plan = plan(&facts, None, RouteSet::EMPTY, &Thresholds::default()).unwrap();
        (plan.route, plan.mode, plan.reason)
    }

    #[test]
    fn auto_goes_by_facts() {
        let copy = |reason| (Route::Copy, Mode::Hybrid, reason);
        assert_eq!(chosen(LARGE), (Route::Splice, Mode::Hybrid, Reason::LargeBody));
        assert_eq!(chosen(Facts { to_come: None, ..LARGE }).0, Route::Splice);
        assert_eq!(chosen(Facts { to_come: Some(100), ..LARGE }), copy(Reason::SmallBody));
        assert_eq!(chosen(Facts { decoded: true, ..LARGE }), copy(Reason::Decoded));
        assert_eq!(chosen(Facts { splice: false, ..LARGE }), copy(Reason::SpliceUnusable));
        assert_eq!(chosen(Facts { splice_sqe: false, ..LARGE }), copy(Reason::NoWorkerSplice));
        let memory = Facts { filesystem: Filesystem::Memory, splice_sqe: false, ..LARGE };
        assert_eq!(chosen(memory), (Route::Splice, Mode::Inline, Reason::LargeBody));
        let network = Filesystem::Network;
        let over_network = Facts { filesystem: network, ..LARGE };
        assert_eq!(chosen(over_network), copy(Reason::CopyingFilesystem(network)));
    }

    #[test]
    fn a_wish_is_met_or_refused_and_never_replaced() {
        let ask = |facts: Facts, route, forbidden| {
            plan(&facts, route, forbidden, &Thresholds::default()).map(|plan| plan.route)
        };
        let none = RouteSet::EMPTY;
        let small = Facts { to_come: Some(1), ..LARGE };
        assert_eq!(ask(small, Some(Route::Splice), none), Ok(Route::Splice));
        assert_eq!(ask(LARGE, Some(Route::Copy), none), Ok(Route::Copy));
        assert_eq!(ask(LARGE, None, none.with(Route::Splice)), Ok(Route::Copy));
        assert_eq!(ask(small, None, none.with(Route::Copy)), Ok(Route::Splice));
        let decoded = Facts { decoded: true, ..LARGE };
        let unfit = Unfit { route: Route::Splice, why: Reason::Decoded };
        assert_eq!(ask(decoded, Some(Route::Splice), none), Err(unfit));
        assert_eq!(ask(decoded, None, none.with(Route::Copy)), Err(unfit));
        let both = none.with(Route::Copy).with(Route::Splice);
        assert!(ask(LARGE, None, both).is_err() && ask(small, None, both).is_err());
        assert!(ask(LARGE, Some(Route::Copy), none.with(Route::Copy)).is_err());
    }
}
