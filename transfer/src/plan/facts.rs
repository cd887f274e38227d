//! What a plan is made from: facts about the source, the sink and the host, and the caller's wishes.

use std::fmt;

use super::{Consistency, Mode, Route, RouteSet};

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

impl SinkFacts {
    /// Whether the bytes of a file may reach the socket as they are.
    #[must_use]
    pub fn takes_file_bytes(&self) -> bool {
        match self.kind {
            SinkKind::Tcp | SinkKind::Unix | SinkKind::Tls(Encryption::KernelTls) => true,
            SinkKind::Tls(Encryption::Registered { .. } | Encryption::Library { .. }) => false,
        }
    }
}

/// The kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// A TCP stream.
    Tcp,
    /// A Unix stream.
    Unix,
    /// A TLS stream over TCP: plain bytes must not reach the socket.
    Tls(Encryption),
}

/// Who makes the records of a TLS stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// They are sealed in place in a buffer of ours (TLS 1.3); the words say why not by the kernel.
    Registered {
        /// Such as "the kernel has no TLS".
        no_kernel_tls: &'static str,
    },
    /// The kernel makes them of whatever reaches the socket.
    KernelTls,
    /// The TLS library makes them, from copies; the words say why.
    Library {
        /// Such as "the peer speaks TLS 1.2".
        because: &'static str,
    },
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
    /// Whether a processor looks at the file bytes.
    pub processed: bool,
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
