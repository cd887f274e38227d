//! Waiting again and again for what arrives on one stream.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::stream::Stream;
use crate::local;
use crate::op::{Effect, Flow, Held, Op};
use crate::sys::sqe::{FINISHED, READABLE, Sqe};

/// Tells each time when something has arrived on a stream, for one poll op instead of one for each time.
///
/// It is for connections that wait many times, such as those which are kept alive between requests. The
/// first wait is a poll like that of [`Stream::readable`]; from the second on a multishot poll stands in
/// the ring (io_uring_prep_poll_multishot(3)). That costs a cancellation in the end.
///
/// Receive with [`Stream::try_recv`] or [`Stream::read`], which know whether they have taken all there
/// was. What receives otherwise, such as a transfer into a file, does not: begin with new arrivals after it.
///
/// ```no_run
/// # async fn serve(stream: ringway_runtime::net::TcpStream) -> std::io::Result<()> {
/// let mut arrivals = stream.arrivals();
/// let mut request = [0; 4096];
/// loop {
///     arrivals.next().await?;
///     match stream.try_recv(&mut request) {
///         Ok(0) => return Ok(()),
///         Ok(received) => println!("{received} bytes"),
///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
///         Err(error) => return Err(error),
///     }
/// }
/// # }
/// ```
pub struct Arrivals {
    flow: Arc<Flow>,
    /// The poll that stands.
    standing: Option<Op>,
    has_waited: bool,
    /// Nothing more comes: whoever receives finds that out.
    finished: bool,
}

impl Stream {
    /// What arrives from now on, to be waited for many times.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        let flow = Arc::clone(&self.flow);
        Arrivals { flow, standing: None, has_waited: false, finished: false }
    }
}

impl Arrivals {
    /// Waits until there is something to receive, or the peer has finished. It may resolve though there is
    /// nothing: what it tells of can have been received already.
    ///
    /// # Errors
    ///
    /// Those of waiting; an error of the connection shows when it is used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> io::Result<()> {
        // The poll that stands tells of changes. What a receive has left is none, nor is an end of the
        // stream that was told together with bytes before it.
        if self.finished || !self.flow.is_dry() {
            return Ok(());
        }
        if !self.has_waited {
            Self::submit(&self.flow, Sqe::poll)?.await.result?;
            self.has_waited = true;
            return Ok(());
        }
        let op = match &mut self.standing {
            Some(op) => op,
            none => none.insert(Self::submit(&self.flow, Sqe::standing_poll)?),
        };
        let outcome = op.await;
        if !outcome.more {
            // It was ended, as for want of room among the completions: the next one looks anew.
            self.standing = None;
        }
        self.finished = outcome.result? & !READABLE != 0;
        Ok(())
    }

    fn submit(flow: &Arc<Flow>, poll: impl FnOnce(i32, u32) -> Sqe) -> io::Result<Op> {
        let sqe = poll(flow.as_fd().as_raw_fd(), READABLE | FINISHED);
        let held = Held { flow: Some(Arc::clone(flow)), ..Held::default() };
        Ok(local::current()?.port.submit(sqe, held, Effect::None))
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals")
            .field("standing", &self.standing.is_some())
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
