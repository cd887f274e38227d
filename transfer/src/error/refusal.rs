//! Wishes that cannot be met together, or not here.

use std::fmt;

use super::Blame;
use crate::plan::{Obstacle, Route};

/// Wishes that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Every route is forbidden.
    AllForbidden,
    /// The same route is forced and forbidden.
    ForcedAndForbidden(Route),
    /// A snapshot must be copied, and the copy is ruled out.
    SnapshotNeedsCopy,
    /// Only the splice is left, and it would fail.
    SpliceImpossible(Obstacle),
}

impl Refusal {
    /// Who is likely to blame.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::SpliceImpossible(Obstacle::PseudoFile) => Blame::File,
            Self::SpliceImpossible(
                Obstacle::SpliceUnusable | Obstacle::NoPipe | Obstacle::NoSpliceSqe,
            ) => Blame::Host,
            _ => Blame::Caller,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::AllForbidden => "allow at least one route",
            Self::ForcedAndForbidden(_) => "do not forbid the route that is forced",
            Self::SnapshotNeedsCopy => "allow the copy, or ask for Consistency::Shared",
            Self::SpliceImpossible(obstacle) => match obstacle {
                Obstacle::SpliceUnusable => "allow the copy, or let the sandbox permit splice(2)",
                Obstacle::PseudoFile => "allow the copy",
                Obstacle::MisalignedDirectIo => "allow the copy, or align the range to 4096 bytes",
                Obstacle::NoPipe => "allow the copy, or raise fs.pipe-user-pages-soft",
                Obstacle::NoSpliceSqe => "allow the copy, or the mode Inline",
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllForbidden => f.write_str("every route is forbidden"),
            Self::ForcedAndForbidden(route) => write!(f, "{route} is both forced and forbidden"),
            Self::SnapshotNeedsCopy => {
                f.write_str("a snapshot was asked for, but only a splice is allowed")
            }
            Self::SpliceImpossible(obstacle) => {
                write!(f, "only a splice is allowed, but {obstacle}")
            }
        }
    }
}

impl std::error::Error for Refusal {}
