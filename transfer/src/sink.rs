//! Where a transfer goes: a closed set of streams that the plan can see.

use ringway_runtime::net::{Stream, TcpStream, UnixStream};

use crate::plan::{SinkFacts, SinkKind};

/// A stream that a transfer can go to: [`TcpStream`] or [`UnixStream`].
///
/// The set is closed, because the route depends on what kind of stream it is.
pub trait Sink: sealed::Sealed {}

pub(crate) mod sealed {
    use super::{SinkFacts, Stream};

    pub trait Sealed {
        #[doc(hidden)]
        fn stream(&self) -> &Stream;
        #[doc(hidden)]
        fn facts(&self) -> SinkFacts;
        #[doc(hidden)]
        fn flush(&self);
    }
}

impl sealed::Sealed for TcpStream {
    fn stream(&self) -> &Stream {
        self
    }

    fn facts(&self) -> SinkFacts {
        SinkFacts { kind: SinkKind::Tcp, same_host: self.is_same_host() }
    }

    /// Pushes what a send with `MSG_MORE` left corked, when nothing follows after all.
    fn flush(&self) {
        self.uncork();
    }
}

impl sealed::Sealed for UnixStream {
    fn stream(&self) -> &Stream {
        self
    }

    fn facts(&self) -> SinkFacts {
        SinkFacts { kind: SinkKind::Unix, same_host: true }
    }

    /// Unix sockets do not cork.
    fn flush(&self) {}
}

impl Sink for TcpStream {}
impl Sink for UnixStream {}
