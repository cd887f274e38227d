//! Where a transfer goes: a closed set of streams that the plan can see.

use ringway_runtime::net::{Stream, TcpStream, UnixStream};

use crate::plan::{Encryption, SinkFacts, SinkKind};
use crate::tls::{Backend, TlsStream};

/// A stream that a transfer can go to: [`TcpStream`], [`UnixStream`] or [`TlsStream`].
///
/// The set is closed, because the route depends on what kind of stream it is.
pub trait Sink: sealed::Sealed {}

pub(crate) mod sealed {
    use super::{SinkFacts, Stream, TlsStream};

    pub trait Sealed {
        #[doc(hidden)]
        fn stream(&self) -> &Stream;
        #[doc(hidden)]
        fn facts(&self) -> SinkFacts;
        #[doc(hidden)]
        fn flush(&self);
        /// The session, where bytes must be sealed before they reach the stream.
        #[doc(hidden)]
        fn tls(&self) -> Option<&TlsStream> {
            None
        }
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

impl sealed::Sealed for TlsStream {
    fn stream(&self) -> &Stream {
        self.tcp()
    }

    fn facts(&self) -> SinkFacts {
        let encryption = match self.backend() {
            Backend::Registered { kernel_tls } => {
                Encryption::Registered { no_kernel_tls: kernel_tls }
            }
            Backend::KernelTls => Encryption::KernelTls,
            Backend::Rustls { reason } => Encryption::Library { because: reason },
        };
        let same_host = self.tcp().is_same_host();
        SinkFacts { kind: SinkKind::Tls(encryption), same_host }
    }

    fn flush(&self) {
        self.close_record();
        self.tcp().uncork();
    }

    fn tls(&self) -> Option<&TlsStream> {
        Some(self)
    }
}

impl Sink for TcpStream {}
impl Sink for UnixStream {}
impl Sink for TlsStream {}
