//! A rate that several transfers share.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::time::Instant;

use ringway::pace::{Allowance, Pace};
use ringway::runtime::time;

/// A bucket of bytes. Whoever finds it empty sleeps, so a slow receiver takes nothing from the others:
/// it asks only when it can send.
#[derive(Debug)]
pub(crate) struct Budget {
    pace: RefCell<Pace>,
    started: Instant,
}

impl Budget {
    /// So many bytes per second, with a burst of a tenth of a second.
    pub(crate) fn new(bytes_per_second: NonZeroU64) -> Budget {
        let pace = Pace::new(bytes_per_second, burst(bytes_per_second));
        Budget { pace: RefCell::new(pace), started: Instant::now() }
    }

    /// Takes at most so many bytes out, as soon as there are some.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken by a call that did not resolve.
    pub(crate) async fn take(&self, want: u64) -> u64 {
        loop {
            let allowance = self.pace.borrow_mut().allow(self.started.elapsed(), want);
            match allowance {
                Allowance::Now(bytes) => return bytes.max(1),
                Allowance::After(pause) => time::sleep(pause).await,
            }
        }
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.pace.borrow_mut().give_back(bytes);
    }
}

/// What may go at once: a tenth of a second's worth, and a few packets at least.
pub(crate) fn burst(bytes_per_second: NonZeroU64) -> u64 {
    (bytes_per_second.get() / 10).max(16 * 1024)
}
