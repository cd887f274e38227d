//! When a turn of a processor should end.

use std::time::{Duration, Instant};

/// The end of a turn; none for work that nobody waits behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due(Option<Instant>);

impl Due {
    pub(crate) const NEVER: Self = Self(None);

    pub(crate) fn after(budget: Duration) -> Self {
        Self(Instant::now().checked_add(budget))
    }

    pub(crate) fn has_come(self) -> bool {
        self.0.is_some_and(|due| Instant::now() >= due)
    }
}
