//! Staged records that their transfer does not wait for any more: what has gone out stays out, what has not
//! is taken back, and the rest of the one in between is kept.
//!
//! ```text
//!   transfer dropped ──▶ send cancelled ──▶ its completion: n bytes ──▶ │ whole │ half │ untouched │
//!     (landing)            (the op has the buffer)                         count   keep    take back
//! ```

use std::future::poll_fn;
use std::task::Poll;

use ringway_runtime::Lease;
use ringway_runtime::fault::{Sabotage, sabotaged};
use ringway_runtime::net::Sending;

use super::*;
use crate::tls::record::Sent;

impl TlsStream {
    /// Gives up what is staged, which lies back to back in `sealed`: the socket has taken `sent` bytes of
    /// it, and was told of the records that are out whole. Returns how much plaintext the stream keeps.
    pub(crate) fn give_up(&self, sealed: &[u8], sent: usize) -> u64 {
        self.state.lock().give_up(sealed, sent)
    }

    /// Lets go of a send of all that is staged, which is all of its buffer; the socket had taken `before`
    /// bytes of it by earlier sends. Until its outcome is known nothing else is sent.
    pub(crate) fn land(&self, op: Sending<Lease>, before: usize) {
        if sabotaged(Sabotage::DroppedSendForgotten) {
            return;
        }
        self.state.lock().landing = true;
        let state = self.state.share();
        op.abandon_to(move |sent, lease| {
            let mut state = state.lock();
            state.land(before, sent.unwrap_or(0), lease.as_deref());
            let waker = state.landed.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
    }

    /// Waits until no send of a transfer that was dropped is under way.
    pub(super) async fn landed(&self) {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if !state.landing {
                return Poll::Ready(());
            }
            state.landed = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn land(&mut self, before: usize, count: usize, sealed: Option<&[u8]>) {
        self.landing = false;
        let Some(sealed) = sealed else {
            self.broken.get_or_insert("a buffer with its records did not come back");
            return;
        };
        let (whole, plaintext) = Sent::between(sealed.len(), before, before + count);
        self.engine.took(whole, plaintext);
        self.give_up(sealed, before + count);
    }

    fn give_up(&mut self, sealed: &[u8], sent: usize) -> u64 {
        let sent = Sent::of(sealed.len(), sent);
        self.engine.rewind(sent.untouched);
        if sent.rest.is_empty() {
            return 0;
        }
        if sabotaged(Sabotage::HalfSentRecordRewound) {
            self.engine.rewind(1);
            return 0;
        }
        self.engine.keep(&sealed[sent.rest], sent.rest_plaintext);
        sent.rest_plaintext
    }
}
