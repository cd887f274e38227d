//! When a turn of a processor should end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The end of a turn; none for work that nobody waits behind.
#[derive(Debug)]
pub(crate) struct Due {
    at: Option<Instant>,
    /// The processor was told that it has come. Its threads may ask as well.
    told: AtomicBool,
}

impl Due {
    pub(crate) fn never() -> Self {
        Self { at: None, told: AtomicBool::new(false) }
    }

    pub(crate) fn after(budget: Duration) -> Self {
        Self { at: Instant::now().checked_add(budget), ..Self::never() }
    }

    pub(crate) fn has_come(&self) -> bool {
        let come = self.at.is_some_and(|due| Instant::now() >= due);
        if come {
            self.told.store(true, Ordering::Relaxed);
        }
        come
    }

    pub(crate) fn was_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}
