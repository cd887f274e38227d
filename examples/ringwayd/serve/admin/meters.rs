//! What one thread counts while it serves. No atomics: each thread has its own.

use std::cell::{Cell, RefCell};

use ringway::runtime::Stats;

/// The counters of a thread.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    body_bytes: Cell<u64>,
    statuses: RefCell<Vec<(u16, u64)>>,
    routes: RefCell<Vec<((&'static str, &'static str), u64)>>,
    failures: RefCell<Vec<(&'static str, u64)>>,
}

/// The numbers of a thread at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) body_bytes: u64,
    pub(crate) connections: u64,
    pub(crate) statuses: Vec<(u16, u64)>,
    pub(crate) routes: Vec<((&'static str, &'static str), u64)>,
    pub(crate) failures: Vec<(&'static str, u64)>,
    pub(crate) stats: Stats,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    /// Route and mode of the transfer, if there was one.
    pub(crate) route: Option<(&'static str, &'static str)>,
    pub(crate) failure: Option<&'static str>,
}

impl Meters {
    /// Counts an answer.
    pub(crate) fn count(&self, answered: Answered) {
        self.body_bytes.set(self.body_bytes.get().wrapping_add(answered.body_bytes));
        bump(&mut self.statuses.borrow_mut(), answered.status);
        if let Some(route) = answered.route {
            bump(&mut self.routes.borrow_mut(), route);
        }
        if let Some(failure) = answered.failure {
            bump(&mut self.failures.borrow_mut(), failure);
        }
    }

    /// The numbers now, with those that others keep.
    pub(crate) fn read(&self, connections: usize, stats: Stats) -> Reading {
        Reading {
            body_bytes: self.body_bytes.get(),
            connections: connections as u64,
            statuses: self.statuses.borrow().clone(),
            routes: self.routes.borrow().clone(),
            failures: self.failures.borrow().clone(),
            stats,
        }
    }
}

/// There are a dozen keys at most, and the usual one stands first.
fn bump<K: PartialEq>(counts: &mut Vec<(K, u64)>, key: K) {
    match counts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += 1,
        None => counts.push((key, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_what_became_of_them() {
        let meters = Meters::default();
        let route = Some(("splice", "inline"));
        let whole = Answered { status: 200, body_bytes: 10, route, failure: None };
        meters.count(whole);
        meters.count(Answered { failure: Some("peer-closed"), body_bytes: 3, ..whole });
        meters.count(Answered { status: 404, route: None, body_bytes: 0, failure: None });
        let reading = meters.read(2, Stats::default());
        assert_eq!((reading.body_bytes, reading.connections), (13, 2));
        assert_eq!(reading.statuses, [(200, 2), (404, 1)]);
        assert_eq!(reading.routes, [(("splice", "inline"), 2)]);
        assert_eq!(reading.failures, [("peer-closed", 1)]);
    }
}
