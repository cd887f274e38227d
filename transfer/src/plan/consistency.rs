//! Which bytes the peer may see, and until when they may still change.

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
