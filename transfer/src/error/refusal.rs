//! Wishes that cannot be met together, or not here.

use std::fmt;

use super::Blame;
use crate::plan::{Encryption, Obstacle, Route};

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
    /// A route that makes records is forced, and the stream is not encrypted.
    NotEncrypted(Route),
    /// A route is forced that does not go with how this TLS stream is encrypted.
    #[expect(missing_docs, reason = "the sentence above names them")]
    Encrypted { route: Route, encryption: Encryption },
    /// The only route that this TLS stream can take is forbidden.
    OnlyWayForbidden(Route),
    /// There is a processor, and this route shows it nothing.
    ProcessingNeedsMapped(Route),
    /// There is a processor, and the one route that shows it something is forbidden.
    ProcessingForbidden,
    /// There is a processor, and what it leaves is not sent by ops of the ring.
    ProcessedInline,
    /// The route for processing is forced, and there is no processor.
    NothingToProcess,
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
            Self::NotEncrypted(_) => "force no route, or make the stream a TLS stream",
            Self::Encrypted { .. } => "force no route: an encrypted stream has only one",
            Self::OnlyWayForbidden(_) => "do not forbid the only route of an encrypted stream",
            Self::SnapshotNeedsCopy => "allow the copy, or ask for Consistency::Shared",
            Self::ProcessingNeedsMapped(_) => "force no route where there is a processor",
            Self::ProcessingForbidden => "allow the route Mapped, or give no processor",
            Self::ProcessedInline => "use the mode Hybrid or Inline",
            Self::NothingToProcess => "give a processor, or do not force the route Mapped",
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
            Self::NotEncrypted(route) => {
                write!(f, "{route} makes TLS records, and this stream is not encrypted")
            }
            Self::Encrypted { route, encryption } => match encryption {
                Encryption::Registered { no_kernel_tls } if *route == Route::KernelTls => {
                    write!(f, "no kernel TLS here: {no_kernel_tls}")
                }
                Encryption::Registered { .. } => {
                    write!(f, "the stream is encrypted here, so {route} cannot take it")
                }
                Encryption::KernelTls => {
                    write!(f, "the stream is encrypted by the kernel, so {route} cannot take it")
                }
                Encryption::Library { because } => {
                    write!(f, "the stream is encrypted ({because}), so {route} cannot take it")
                }
            },
            Self::OnlyWayForbidden(route) => {
                write!(f, "{route} is the only route of this encrypted stream, and it is forbidden")
            }
            Self::SpliceImpossible(obstacle) => {
                write!(f, "only a splice is allowed, but {obstacle}")
            }
            Self::ProcessingNeedsMapped(route) => {
                write!(f, "{route} is forced, and shows nothing to the processor that was given")
            }
            Self::ProcessingForbidden => f.write_str(
                "a processor was given, and the route that shows it the bytes is forbidden",
            ),
            Self::ProcessedInline => {
                f.write_str("the mode ring was asked for, and what is processed is sent inline")
            }
            Self::NothingToProcess => f.write_str("map is forced, and there is no processor"),
        }
    }
}

impl std::error::Error for Refusal {}
