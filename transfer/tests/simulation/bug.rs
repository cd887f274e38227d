//! Bugs that can be put back, each of which the simulation must find.

/// A bug of somebody else's, or one that would be easy to make here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The pool keeps a pipe with residue: one client's bytes reach the next.
    ReusePipeWithResidue,
    /// Bytes count as sent when they enter the pipe.
    CountOnEntry,
    /// A rewind leaves the fill that runs ahead, of bytes that no longer follow.
    KeepAheadOnRewind,
    /// Offsets of 32 bits, as in Netty before it was noticed.
    OffsetsOf32Bits,
    /// `MSG_MORE` on the last bytes: 200 ms of waiting.
    MoreOnTail,
    /// What was offered counts, before the socket said what it took.
    AcceptOffered,
    /// A short read counts as what was asked for: the rest of the buffer is stale.
    IgnoreShortRead,
    /// After a short send the buffer is sent from its beginning again.
    ResendFromStart,
    /// The end of the file is tried again: a spin or a hang.
    RetryAtEnd,
    /// A rewind refunds the rate limit twice.
    RefundTwice,
    /// A failed transfer leaves the socket corked.
    LeaveCorked,
    /// A snapshot is spliced, so that later writes are seen.
    SpliceSnapshot,
    /// A dropped future frees its buffer while the kernel still uses it.
    FreeBufferOnDrop,
    /// After a rewind, what was read before it is sent, and not what was read again.
    SendOldRead,
    /// A window is not asked whether it is whole.
    TrustCutWindow,
    /// After a stall a run that was half sent is sent from its beginning.
    RunSentAgain,
    /// After a stall what was changed in place is taken from the file again.
    ForgetChanges,
    /// A snapshot is mapped, and sent as it is later.
    MapSnapshot,
    /// What was thrown away with a pipe counts as sent.
    KeepStagedRuns,
}

impl Bug {
    pub(crate) const ALL: [Self; 19] = [
        Self::ReusePipeWithResidue,
        Self::CountOnEntry,
        Self::KeepAheadOnRewind,
        Self::OffsetsOf32Bits,
        Self::MoreOnTail,
        Self::AcceptOffered,
        Self::IgnoreShortRead,
        Self::ResendFromStart,
        Self::RetryAtEnd,
        Self::RefundTwice,
        Self::LeaveCorked,
        Self::SpliceSnapshot,
        Self::FreeBufferOnDrop,
        Self::SendOldRead,
        Self::TrustCutWindow,
        Self::RunSentAgain,
        Self::ForgetChanges,
        Self::MapSnapshot,
        Self::KeepStagedRuns,
    ];
}
