//! What is told of an exchange when it is over: a line in the access log, and the counts.

use std::fmt::{self, Write};
use std::time::{Instant, SystemTime};

use ringway::plan::Reason;
use ringway::{Mode, Receipt, Received, Route};

use super::admin::{Answered, Uploaded};
use super::connection::Link;
use super::exchange::Sent;
use super::server::Server;
use crate::access_log::{Entry, RequestLine};
use crate::http::{Request, Status};

/// What the log tells of a request; nothing of one that was not understood.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'b> {
    line: Option<RequestLine<'b>>,
    referer: Option<&'b [u8]>,
    agent: Option<&'b [u8]>,
}

impl<'b> Asked<'b> {
    pub(super) fn by(request: &Request<'b>) -> Self {
        let line = RequestLine {
            method: request.method_text,
            target: request.target,
            version: request.version.text(),
        };
        Self { line: Some(line), referer: request.referer, agent: request.user_agent }
    }
}

/// The words of a request whose buffer is used for other things before it is logged.
#[derive(Debug)]
pub(super) struct Caption {
    method: Box<str>,
    target: Box<str>,
    version: &'static str,
    referer: Option<Box<[u8]>>,
    agent: Option<Box<[u8]>>,
}

impl Caption {
    pub(super) fn of(request: &Request<'_>) -> Self {
        Self {
            method: request.method_text.into(),
            target: request.target.into(),
            version: request.version.text(),
            referer: request.referer.map(Box::from),
            agent: request.user_agent.map(Box::from),
        }
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        let line =
            RequestLine { method: &self.method, target: &self.target, version: self.version };
        Asked { line: Some(line), referer: self.referer.as_deref(), agent: self.agent.as_deref() }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate<'s> {
    pub(super) began: Instant,
    pub(super) status: Status,
    pub(super) sent: &'s Sent,
    /// Bytes that went out before the body.
    pub(super) head_bytes: u64,
}

impl Fate<'_> {
    fn body_bytes(&self) -> u64 {
        self.sent.bytes.saturating_sub(self.head_bytes)
    }

    fn answered(&self, way: Option<Way>) -> Answered {
        Answered {
            status: self.status.code(),
            body_bytes: self.body_bytes(),
            route: way,
            failure: self.sent.failure_word(),
        }
    }
}

/// Route and mode of a body, in the words of log and counts.
type Way = (&'static str, &'static str);

/// Tells of an answer, with the way that its body took.
pub(super) fn answered<W>(server: &Server, link: &Link<W>, asked: Asked<'_>, fate: &Fate<'_>) {
    let receipt = fate.sent.receipt.as_ref();
    let way = receipt.map(|receipt| way(receipt.route, receipt.mode));
    if let Some(meters) = &server.meters {
        meters.count(fate.answered(way));
    }
    log(server, link, asked, fate, way, || receipt.map_or(String::new(), unusual));
}

/// Tells of an upload, with the way that its body took in.
pub(super) fn uploaded<W>(
    server: &Server,
    link: &Link<W>,
    asked: Asked<'_>,
    fate: &Fate<'_>,
    received: Option<&Received>,
) {
    let way = received.map(|received| way(received.route, received.mode));
    if let Some(meters) = &server.meters {
        meters.count(fate.answered(None));
        meters.count_upload(Uploaded {
            status: fate.status,
            bytes: received.map_or(0, |received| received.written),
            route: way,
            took: fate.began.elapsed(),
        });
    }
    log(server, link, asked, fate, way, || received.map_or(String::new(), stored));
}

fn log<W>(
    server: &Server,
    link: &Link<W>,
    asked: Asked<'_>,
    fate: &Fate<'_>,
    way: Option<Way>,
    reason: impl FnOnce() -> String,
) {
    let Some(log) = &server.log else { return };
    let reason = reason();
    log.borrow_mut().record(&Entry {
        at: SystemTime::now(),
        peer: Some(link.peer),
        user: link.user.as_deref(),
        request: asked.line,
        status: fate.status.code(),
        body_bytes: fate.body_bytes(),
        referer: asked.referer,
        user_agent: asked.agent,
        route: way.map(|(route, _)| route),
        mode: way.map(|(_, mode)| mode),
        reason: Some(reason.as_str()).filter(|reason| !reason.is_empty()),
        duration: fate.began.elapsed(),
        error: fate.sent.failure_word(),
    });
}

fn way(route: Route, mode: Mode) -> Way {
    let route = match route {
        Route::Splice => "splice",
        Route::Copy => "copy",
        Route::Registered => "registered",
        Route::KernelTls => "kernel-tls",
        _ => "other",
    };
    let mode = match mode {
        Mode::Ring => "ring",
        Mode::Hybrid => "hybrid",
        Mode::Inline => "inline",
    };
    (route, mode)
}

/// What was not as usual, in words; mostly nothing, which takes no memory.
fn unusual(receipt: &Receipt) -> String {
    let mut words = String::new();
    // The choice by size is the usual one; any other was not the first choice.
    let usual = matches!(
        receipt.reason,
        Reason::LargeBody | Reason::SmallBody | Reason::KernelSeals | Reason::Sealed { .. }
    );
    if !usual {
        add(&mut words, &receipt.reason);
    }
    for fallback in &receipt.fallbacks {
        add(&mut words, fallback);
    }
    if let Some(change) = &receipt.source_changed {
        add(&mut words, &format_args!("file changed: {change}"));
    }
    words
}

/// How much of a body was stored, and why in this way.
fn stored(received: &Received) -> String {
    let mut words = format!("{} bytes stored: {}", received.written, received.reason);
    for fallback in &received.fallbacks {
        add(&mut words, fallback);
    }
    words
}

fn add(words: &mut String, what: &dyn fmt::Display) {
    let semicolon = if words.is_empty() { "" } else { "; " };
    // Writing to a String does not fail.
    _ = write!(words, "{semicolon}{what}");
}
