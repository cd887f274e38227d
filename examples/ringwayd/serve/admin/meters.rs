//! What one thread counts while it serves. No atomics: each thread has its own.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ringway::runtime::Stats;

use crate::http::Status;

/// The counters of a thread.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    body_bytes: Cell<u64>,
    statuses: RefCell<Vec<(u16, u64)>>,
    routes: RefCell<Vec<((&'static str, &'static str), u64)>>,
    failures: RefCell<Vec<(&'static str, u64)>>,
    uploads: RefCell<Uploads>,
}

/// The numbers of a thread at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) body_bytes: u64,
    pub(crate) connections: u64,
    pub(crate) statuses: Vec<(u16, u64)>,
    pub(crate) routes: Vec<((&'static str, &'static str), u64)>,
    pub(crate) failures: Vec<(&'static str, u64)>,
    pub(crate) uploads: Uploads,
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

/// What has come in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    /// Bytes that were written, of what was refused later as well.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Bodies that were taken, by route and mode.
    pub(crate) taken: Vec<((&'static str, &'static str), u64)>,
    pub(crate) refused: Vec<(&'static str, u64)>,
}

/// One request that brings a file, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploaded {
    pub(crate) status: Status,
    pub(crate) bytes: u64,
    /// Route and mode, if a body was received.
    pub(crate) route: Option<(&'static str, &'static str)>,
    pub(crate) took: Duration,
}

impl Meters {
    /// Counts a request that brings a file.
    pub(crate) fn count_upload(&self, uploaded: Uploaded) {
        let mut uploads = self.uploads.borrow_mut();
        uploads.bytes = uploads.bytes.wrapping_add(uploaded.bytes);
        match (reason(uploaded.status), uploaded.route) {
            (Some(reason), _) => bump(&mut uploads.refused, reason),
            (None, Some(route)) => {
                uploads.seconds += uploaded.took.as_secs_f64();
                bump(&mut uploads.taken, route);
            }
            // Creating, asking and ending an upload bring nothing.
            (None, None) => {}
        }
    }

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
            uploads: self.uploads.borrow().clone(),
            stats,
        }
    }
}

/// Why it was refused; none if it was not.
fn reason(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::Ok | Status::Created | Status::NoContent => return None,
        Status::Unauthorized | Status::Forbidden => "not-allowed",
        Status::BadRequest => "bad-body",
        Status::Conflict | Status::Locked | Status::NotFound => "conflict",
        Status::PreconditionFailed => "precondition",
        Status::ContentTooLarge => "too-large",
        Status::RequestTimeout => "too-slow",
        Status::InsufficientStorage => "no-room",
        Status::ServiceUnavailable => "busy",
        Status::InternalServerError => "failed",
        _ => "other",
    })
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

    #[test]
    fn what_comes_in_is_counted_by_its_way_or_by_why_it_was_refused() {
        let meters = Meters::default();
        let (route, took) = (Some(("splice", "hybrid")), Duration::from_millis(500));
        let whole = Uploaded { status: Status::Created, bytes: 10, route, took };
        meters.count_upload(whole);
        meters.count_upload(Uploaded { status: Status::NoContent, ..whole });
        meters.count_upload(Uploaded { status: Status::RequestTimeout, bytes: 3, ..whole });
        meters.count_upload(Uploaded { status: Status::Created, bytes: 0, route: None, took });
        let uploads = meters.read(0, Stats::default()).uploads;
        assert_eq!(uploads.taken, [(("splice", "hybrid"), 2)]);
        assert_eq!(uploads.refused, [("too-slow", 1)]);
        assert_eq!((uploads.bytes, uploads.seconds), (23, 1.0));
    }
}
