//! Which ways transfers went, from their receipts, at a cost that does not show in what is measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ringway::{Mode, Receipt, Route, plan::Reason};

/// Shared by the connections of an arm.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways(Rc<RefCell<Vec<(Way, u64)>>>);

/// What tells one receipt from another here.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    route: Route,
    mode: Mode,
    reason: Reason,
    /// The first thing that was done instead of what was planned, and why.
    fallback: Option<(&'static str, &'static str)>,
}

impl Ways {
    pub(super) fn note(&self, receipt: &Receipt) {
        let Receipt { route, mode, reason, .. } = *receipt;
        let fallback = receipt.fallbacks.first().map(|fallback| (fallback.what, fallback.why));
        let way = Way { route, mode, reason, fallback };
        let mut ways = self.0.borrow_mut();
        // A handful at most: looked through faster than hashed.
        match ways.iter_mut().find(|(known, _)| *known == way) {
            Some((_, times)) => *times += 1,
            None => ways.push((way, 1)),
        }
    }

    /// What was noted since this was last asked.
    pub(super) fn take(&self) -> BTreeMap<String, u64> {
        let in_words = |(way, times): (Way, u64)| {
            let Way { route, mode, reason, fallback } = way;
            let fallback =
                fallback.map_or_else(String::new, |(what, why)| format!("; {what} ({why})"));
            (format!("{route} ({mode}): {reason}{fallback}"), times)
        };
        self.0.take().into_iter().map(in_words).collect()
    }
}
