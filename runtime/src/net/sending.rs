//! A send in the ring, of a buffer or of a pipe.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::mem::IoBuf;
use crate::op::{Op, Outcome};
use crate::pipe::PipeLease;

/// A send in the ring: resolves to the bytes accepted, and to what it sent from.
///
/// What it sent from is `None` after a zero-copy send that the kernel is not done with.
pub struct Sending<T> {
    pub(super) op: Op,
    pub(super) kind: PhantomData<fn() -> T>,
}

impl<T> Sending<T> {
    /// Asks for cancellation. Await the future all the same: it resolves to what really happened.
    pub fn cancel(&mut self) {
        self.op.cancel();
    }
}

impl<B: IoBuf> Sending<B> {
    /// Cancels the send and lets go of it: `heir` gets what the future would have resolved to, once the
    /// kernel is done with the buffer. That is at once if it is done already, and otherwise on the ring's
    /// thread, after the completions were recorded and before anybody is woken by them, also while the
    /// runtime ends. For those who must know from where to go on after a drop.
    ///
    /// It is called once, unless the kernel does not let go before the runtime's shutdown timeout.
    pub fn abandon_to(self, heir: impl FnOnce(io::Result<usize>, Option<B>) + 'static) {
        self.op.abandon_to(|outcome| {
            let (sent, buffer) = resolved(outcome);
            heir(sent, buffer);
        });
    }
}

impl<B: IoBuf> Future for Sending<B> {
    type Output = (io::Result<usize>, Option<B>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.op).poll(context).map(resolved)
    }
}

fn resolved<B: IoBuf>(outcome: Outcome) -> (io::Result<usize>, Option<B>) {
    let buffer = outcome.held.memory.and_then(B::from_buffer);
    (outcome.result.map(|sent| sent as usize), buffer)
}

impl Future for Sending<PipeLease> {
    type Output = (io::Result<usize>, Option<PipeLease>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.op).poll(context));
        Poll::Ready((outcome.result.map(|sent| sent as usize), outcome.held.pipe))
    }
}

impl<T> fmt::Debug for Sending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}
