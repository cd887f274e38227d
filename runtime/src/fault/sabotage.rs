//! Guards that can be taken away, each by the name of the bug that is then back.

#[cfg(feature = "fault")]
use std::cell::Cell;
use std::marker::PhantomData;

macro_rules! sabotages {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A guard of the library that is not there. The identifiers are other projects' issues.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Sabotage {
            $($(#[$doc])+ $name,)+
        }

        impl Sabotage {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

sabotages! {
    /// A pipe goes back to the pool with bytes in it (liburing#412, curvine#1002).
    PipeWithResidueKept,
    /// A pipe goes back though an aborted op may have left bytes in it (the same bugs, unseen).
    UncertainPipeKept,
    /// The buffer lives in the future, and goes with it (foyer#1286, liburing#733).
    BufferFreedOnDrop,
    /// A cancelled op never returns its lease (compio#746).
    OrphanLeaseLost,
    /// The descriptor of an open whose future was dropped stays open (tokio#7979, tokio-uring#129,
    /// compio#315).
    OrphanDescriptorLeaked,
    /// A cancellation that finds the submission queue full is lost (compio, `cancel`).
    CancelLostOnFullQueue,
    /// A cancellation goes to the kernel before the op that it is for, and finds nothing (our own).
    CancelOvertakesOp,
    /// More ops are started than the completion queue can tell of (io-uring#302, liburing#705).
    CompletionBudgetIgnored,
    /// A completion gives its place back when it is polled, not when it is there (neon
    /// tokio-epoll-uring#60).
    PlaceHeldUntilPolled,
    /// The doorbell is heard once and not hung up again: the next wake is lost (our own).
    DoorbellNotRearmed,
    /// The kernel may start as many threads as it likes (liburing#420, #293).
    WorkersNotCapped,
    /// There is a pipe for whoever asks (enghitalo/vanilla#77).
    PipesNotCounted,
    /// A splice to a closed socket raises `SIGPIPE` (lalinsky/zio#630).
    SigpipeNotBlocked,
    /// An accept that finds no descriptor is tried again at once, for ever (bun#32705, ioxide#222).
    AcceptWithoutPause,
    /// A transfer that is dropped in the middle leaves no mark on its stream (Kafka).
    DropNotMarked,
    /// A transfer out of a stream that is dropped in the middle leaves no mark on it: the next reader
    /// takes the rest of a body for its own (Kafka, the other way round).
    DroppedReceiveNotMarked,
    /// A stream whose transfer was dropped takes bytes again at once (Kafka).
    PoisonIgnored,
    /// A read counts for as many bytes as it was asked for (R9: bytes of the last user are sent).
    ShortReadIgnored,
    /// What has entered a pipe counts as sent (Netty, by reading).
    StagedCountsAsSent,
    /// "More follows" is said of the last bytes too (golang#10948).
    MoreOnTail,
    /// File offsets have 32 bits (Netty, by reading).
    OffsetsCut,
    /// A peer that stalls keeps the pipe of its transfer (R11).
    StalledPeerKeepsPipe,
    /// A peer that stalls is not sent what the cork holds back (our own).
    StalledPeerIsCorked,
    /// The end of a file that became shorter is not noticed: the transfer spins (R6).
    EndOfFileIgnored,
    /// A file is read beyond the length that was promised (R6).
    PromisedLengthIgnored,
    /// What was loaded from or stored into a page that had gone counts (RocketMQ, R7).
    RegionFaultForgotten,
    /// The length of a mapped file is not compared after the work (R7).
    RegionLengthUnchecked,
    /// Regions are mapped for whoever asks (LevelDB caps them, RocketMQ does not).
    RegionsNotCounted,
    /// A sealed record of which a part went out is taken back: its number seals something else too
    /// (RFC 8446, 5.3).
    HalfSentRecordRewound,
    /// The rest of a record of which a part went out is forgotten when its buffer is given back.
    HalfSentRecordForgotten,
    /// What a send that was dropped has sent is not told to the session: numbers are missing (our own).
    DroppedSendForgotten,
    /// What was read to be sealed, and was not, stays in the buffer for whoever is next (R9).
    UnsealedRemainsKept,
    /// A key seals as many records as there are (RFC 8446, 5.5).
    KeyLimitIgnored,
    /// The peer asks for new keys and gets none (RFC 8446, 4.6.3).
    KeyUpdateUnanswered,
    /// A window is sent without asking whether it is whole (RocketMQ, R7).
    CutWindowSent,
    /// What is left of a run that was sent in part begins at its beginning again (RocketMQ returns cumulative
    /// counts as this call's).
    RunSentAgain,
}

#[cfg(feature = "fault")]
thread_local! {
    static ARMED: Cell<Option<Sabotage>> = const { Cell::new(None) };
}

/// Takes a guard away from everything that this thread does, until the result is dropped.
///
/// Without the feature `fault` it takes nothing away.
///
/// ```
/// use ringway_runtime::fault::{Sabotage, sabotage, sabotaged};
///
/// let armed = sabotage(Sabotage::MoreOnTail);
/// assert_eq!(sabotaged(Sabotage::MoreOnTail), cfg!(feature = "fault"));
/// drop(armed);
/// assert!(!sabotaged(Sabotage::MoreOnTail));
/// ```
#[must_use = "the guard is back when this is dropped"]
pub fn sabotage(guard: Sabotage) -> Sabotaging {
    #[cfg(feature = "fault")]
    ARMED.set(Some(guard));
    #[cfg(not(feature = "fault"))]
    let _ = guard;
    Sabotaging { of_this_thread: PhantomData }
}

/// A guard is away as long as this lives.
#[derive(Debug)]
pub struct Sabotaging {
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Sabotaging {
    fn drop(&mut self) {
        #[cfg(feature = "fault")]
        ARMED.set(None);
    }
}

/// Whether a guard was taken away: asked by the guard itself.
#[cfg(feature = "fault")]
#[must_use]
pub fn sabotaged(guard: Sabotage) -> bool {
    ARMED.get() == Some(guard)
}

/// No guard can be taken away without the feature `fault`.
#[cfg(not(feature = "fault"))]
#[inline(always)]
#[must_use]
pub const fn sabotaged(_guard: Sabotage) -> bool {
    false
}
