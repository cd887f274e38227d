//! Signals as futures.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

use crate::net::UnixStream;

/// The signals that a server usually listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `SIGTERM`: end, and finish what is running.
    Terminate,
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGHUP`: read the configuration again.
    HangUp,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

impl Kind {
    fn number(self) -> i32 {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::HangUp => libc::SIGHUP,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
        }
    }
}

/// Receives signals from now on; the process is not ended by them any more.
///
/// Dropping it ends the receiving, but not the ignoring: the handler of the process stays.
pub struct Signals {
    arrivals: UnixStream,
    registrations: Vec<SigId>,
}

impl Signals {
    /// Starts to receive these signals.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2) and sigaction(2).
    pub fn new(kinds: &[Kind]) -> io::Result<Self> {
        let (arrivals, arrive) = StdUnixStream::pair()?;
        let registrations = Vec::with_capacity(kinds.len());
        let mut signals = Self { arrivals: UnixStream::from_std(arrivals)?, registrations };
        for kind in kinds {
            let registration = pipe::register(kind.number(), arrive.try_clone()?)?;
            signals.registrations.push(registration);
        }
        Ok(signals)
    }

    /// Waits for one of the signals. Several that come at once count as one.
    ///
    /// # Errors
    ///
    /// Those of waiting on a socket.
    ///
    /// # Cancel safety
    ///
    /// A signal that was not waited for to the end is kept.
    pub async fn recv(&mut self) -> io::Result<()> {
        self.arrivals.readable().await?;
        let mut bytes = [0u8; 64];
        match self.arrivals.try_recv(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for registration in self.registrations.drain(..) {
            unregister(registration);
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}
