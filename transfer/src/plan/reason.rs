//! Why a route is taken, or cannot be, in words for an operator.

use std::fmt;

use super::Filesystem;

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
    /// A processor looks at the bytes.
    Processed,
    /// The stream is encrypted here; the words say why not by the kernel.
    Sealed {
        /// Such as "the kernel has no TLS".
        no_kernel_tls: &'static str,
    },
    /// The stream is encrypted by the kernel.
    KernelSeals,
    /// The stream is encrypted by the TLS library, from copies; the words say why.
    LibrarySeals {
        /// Such as "the peer speaks TLS 1.2".
        because: &'static str,
    },
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
            Self::Processed => "a processor looks at the bytes on their way",
            Self::Sealed { no_kernel_tls } => {
                return write!(
                    f,
                    "the stream is encrypted: records are sealed in a registered buffer; no kernel \
                     TLS here: {no_kernel_tls}"
                );
            }
            Self::KernelSeals => "the stream is encrypted, and the kernel makes the records",
            Self::LibrarySeals { because } => {
                return write!(f, "the stream is encrypted ({because}), from copies");
            }
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
