//! One request and its answer, sent and written into the log.

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use ringway::error::{Blame, ErrorKind};
use ringway::plan::Reason;
use ringway::{CancelToken, Mode, Parts, Receipt, Received, Route, TransferError, transfer_file};

use super::admin::{Answered, Uploaded};
use super::cache::{Located, Looking, OpenFile};
use super::connection::{Link, complain};
use super::server::Server;
use super::wire::Wire;
use crate::access_log::{Entry, RequestLine};
use crate::http::{
    self, Answer, Begun, Body, Date, Digest, FileSlice, Method, RelativePath, Request, Status,
};

/// Room for the head of a usual answer, in bytes: it then grows without being moved.
const HEAD_USUAL: usize = 512;

/// How an exchange ended, as far as the connection is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The answer is out, and the next request may follow behind these bytes of body.
    KeepAlive { drain_bytes: u64 },
    /// The answer is out and was the last one.
    Close,
    /// The same, but the client may still be sending.
    Linger,
    /// The answer is not complete.
    Cut,
}

/// A request that was understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a, 'b> {
    pub(crate) server: &'a Rc<Server>,
    /// Ends the transfer.
    pub(crate) token: &'a CancelToken,
    /// When its first byte was there.
    pub(crate) began: Instant,
    pub(crate) request: &'a Request<'b>,
}

/// What went out.
#[derive(Debug)]
pub(super) struct Sent {
    /// Head included.
    bytes: u64,
    receipt: Option<Receipt>,
    failure: Option<Failure>,
}

impl Sent {
    pub(super) fn is_complete(&self) -> bool {
        self.failure.is_none()
    }

    fn is_outdated(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.outdated)
    }
}

/// Why an answer is not complete.
#[derive(Debug)]
struct Failure {
    word: &'static str,
    /// Nothing has gone out, and it is not the client that is gone: it can still be told.
    can_be_told: bool,
    /// Nothing has gone out, because the file is no longer what the head was made from.
    outdated: bool,
}

impl Exchange<'_, '_> {
    /// Answers, sends and logs. `reply` is room for the answer.
    pub(crate) async fn answer<W: Wire>(&self, link: &mut Link<W>, reply: &mut Vec<u8>) -> Ending {
        reply.clear();
        let Exchange { server, request, .. } = self;
        let date = server.date();
        let (answer, head_bytes, sent) = match http::begin(request, server.policy, &date, reply) {
            Begun::Answered(answer) => {
                let head_bytes = reply.len() as u64 - answer.text_bytes;
                (answer, head_bytes, send_all(server, link, reply).await)
            }
            Begun::Open(path) => self.answer_by_path(link, reply, &path, &date).await,
        };
        if sent.failure.as_ref().is_some_and(|failure| failure.can_be_told) {
            let refusal = (Status::InternalServerError, "The file cannot be sent.");
            return refuse(server, link, reply, self.began, refusal).await;
        }
        self.log(link, answer.status, &sent, head_bytes);
        self.ending(&answer, &sent)
    }

    /// Sends the client to the same path by https.
    pub(crate) async fn redirect<W: Wire>(
        &self,
        link: &mut Link<W>,
        reply: &mut Vec<u8>,
        port: u16,
    ) -> Ending {
        reply.clear();
        let answer = http::to_https(self.request, port, &self.server.date(), reply);
        let head_bytes = reply.len() as u64 - answer.text_bytes;
        let sent = send_all(self.server, link, reply).await;
        self.log(link, answer.status, &sent, head_bytes);
        self.ending(&answer, &sent)
    }

    /// Answers with what a path names, from what was seen of it last if it is still so.
    async fn answer_by_path<W: Wire>(
        &self,
        link: &mut Link<W>,
        reply: &mut Vec<u8>,
        path: &RelativePath<'_>,
        date: &Date,
    ) -> (Answer, u64, Sent) {
        let Exchange { server, request, .. } = self;
        // A transfer looks at its file anyway, before it sends anything.
        let mut looking = match request.method {
            Method::Get => Looking::Later,
            _ => Looking::Now,
        };
        loop {
            let located = server.cache.locate(path, self.began, looking).await;
            reply.clear();
            let digest = match &located {
                Located::File(open) if request.method == Method::Head => {
                    self.digest(link, path, open).await
                }
                _ => None,
            };
            let found = (located.found(), digest.as_ref());
            let answer = http::answer(request, path, found, date, reply);
            let head_bytes = reply.len() as u64 - answer.text_bytes;
            let sent = match (answer.file, located.into_file()) {
                (Some(slice), Some(file)) => {
                    self.send_file(link, reply, &file, slice, looking).await
                }
                // An answer without the file, about a file that nobody has looked at.
                (None, Some(_)) if looking == Looking::Later => {
                    looking = Looking::Now;
                    continue;
                }
                _ => send_all(server, link, reply).await,
            };
            if looking == Looking::Now || !sent.is_outdated() {
                return (answer, head_bytes, sent);
            }
            looking = Looking::Now;
        }
    }

    /// The digest of a file for a HEAD that asks for it, where it is told.
    async fn digest<W: Wire>(
        &self,
        link: &mut Link<W>,
        path: &RelativePath<'_>,
        open: &OpenFile,
    ) -> Option<Digest> {
        let uploads = self.server.uploads.as_ref()?;
        let certified = link.stream.certificate().is_some();
        let wanted = uploads.wanted_digest(self.request, certified)?;
        // It takes as long as the file is large; only a daemon that ends does not wait for it.
        link.seat.allow_all();
        let computing = Box::pin(uploads.digest_of(path.as_bytes(), open, wanted));
        link.seat.wait(computing).await.ok().flatten()
    }

    fn ending(&self, answer: &Answer, sent: &Sent) -> Ending {
        match (&sent.failure, answer.keep_alive) {
            (Some(_), _) => Ending::Cut,
            (None, true) => Ending::KeepAlive { drain_bytes: answer.drain_bytes },
            (None, false) if self.request.body != Body::None => Ending::Linger,
            (None, false) => Ending::Close,
        }
    }

    /// Head and file in one call, so that they share their packets.
    async fn send_file<W: Wire>(
        &self,
        link: &mut Link<W>,
        reply: &mut Vec<u8>,
        open: &OpenFile,
        slice: FileSlice,
        looking: Looking,
    ) -> Sent {
        // A transfer keeps its own time.
        link.seat.allow_all();
        let parts = Parts::new()
            .bytes(std::mem::replace(reply, Vec::with_capacity(HEAD_USUAL)))
            .file_as_seen(&open.file, slice.start..slice.start + slice.len, open.seen);
        let transfer = transfer_file(parts, &mut link.stream)
            .limits(&self.server.transfer_limits)
            .thresholds(&self.server.thresholds)
            .cancel_token(self.token);
        let transfer = match looking {
            Looking::Later => transfer.only_as_seen(),
            Looking::Now => transfer,
        };
        match transfer.await {
            Ok(receipt) => Sent { bytes: receipt.bytes, receipt: Some(receipt), failure: None },
            Err(error) => {
                if let Some(below) = error.source().and_then(|source| source.downcast_ref()) {
                    complain(self.server, link, below);
                }
                let failure = Failure {
                    word: if link.is_broken { "tls-broken" } else { word(&error) },
                    can_be_told: can_be_told(&error),
                    outdated: matches!(error.kind(), ErrorKind::SourceChanged(_)),
                };
                let receipt = error.receipt().cloned();
                Sent { bytes: error.sent(), receipt, failure: Some(failure) }
            }
        }
    }

    fn log<W>(&self, link: &Link<W>, status: Status, sent: &Sent, head_bytes: u64) {
        let request = self.request;
        let line = RequestLine {
            method: request.method_text,
            target: request.target,
            version: request.version.text(),
        };
        let about = Line { line: Some(line), referer: request.referer, agent: request.user_agent };
        record(self.server, link, about, self.began, status, sent, head_bytes);
    }
}

/// Sends a last answer to a client that could not be understood, or not be served.
pub(crate) async fn refuse<W: Wire>(
    server: &Rc<Server>,
    link: &mut Link<W>,
    reply: &mut Vec<u8>,
    began: Instant,
    (status, reason): (Status, &str),
) -> Ending {
    reply.clear();
    let answer = http::refuse(status, reason, &server.date(), reply);
    let head_bytes = reply.len() as u64 - answer.text_bytes;
    let sent = send_all(server, link, reply).await;
    record(server, link, Line::default(), began, status, &sent, head_bytes);
    if sent.failure.is_some() { Ending::Cut } else { Ending::Linger }
}

/// Sends an answer that is all memory, which mostly takes one call and no waiting.
pub(super) async fn send_all<W: Wire>(server: &Server, link: &mut Link<W>, bytes: &[u8]) -> Sent {
    let mut sent = 0;
    let failed = |sent: usize, word| Sent {
        bytes: sent as u64,
        receipt: None,
        failure: Some(Failure { word, can_be_told: false, outdated: false }),
    };
    let mut allowed = false;
    loop {
        let taken = match &bytes[sent..] {
            [] => match link.stream.try_settle() {
                Ok(true) => break,
                Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error),
            },
            rest => link.stream.try_take(rest),
        };
        match taken {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !std::mem::replace(&mut allowed, true) {
                    link.seat.allow_until(Instant::now() + server.times.send);
                }
                match link.seat.wait(link.stream.tcp().writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return failed(sent, "peer-closed"),
                    Err(_) => return failed(sent, "peer-timed-out"),
                }
            }
            Err(error) => {
                complain(server, link, &error);
                return failed(sent, "peer-closed");
            }
        }
    }
    Sent { bytes: sent as u64, receipt: None, failure: None }
}

/// What the log tells of a request beside its fate.
#[derive(Clone, Copy, Debug, Default)]
struct Line<'b> {
    line: Option<RequestLine<'b>>,
    referer: Option<&'b [u8]>,
    agent: Option<&'b [u8]>,
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
    pub(super) fn of(request: &Request<'_>) -> Caption {
        Caption {
            method: request.method_text.into(),
            target: request.target.into(),
            version: request.version.text(),
            referer: request.referer.map(Box::from),
            agent: request.user_agent.map(Box::from),
        }
    }
}

/// Logs an upload, with the route that its body took.
pub(super) fn record_upload<W>(
    server: &Server,
    link: &Link<W>,
    caption: &Caption,
    began: Instant,
    (status, sent, head_bytes): (Status, &Sent, u64),
    received: Option<&Received>,
) {
    if let Some(meters) = &server.meters {
        meters.count(Answered {
            status: status.code(),
            body_bytes: sent.bytes.saturating_sub(head_bytes),
            route: None,
            failure: sent.failure.as_ref().map(|failure| failure.word),
        });
        meters.count_upload(Uploaded {
            status,
            bytes: received.map_or(0, |received| received.written),
            route: received.map(|received| (route(received.route), mode(received.mode))),
            took: began.elapsed(),
        });
    }
    let Some(log) = &server.log else { return };
    let mut reason = String::new();
    if let Some(received) = received {
        add(&mut reason, &format_args!("{} bytes stored: {}", received.written, received.reason));
        for fallback in &received.fallbacks {
            add(&mut reason, fallback);
        }
    }
    log.borrow_mut().record(&Entry {
        at: SystemTime::now(),
        peer: Some(link.peer),
        user: link.user.as_deref(),
        request: Some(RequestLine {
            method: &caption.method,
            target: &caption.target,
            version: caption.version,
        }),
        status: status.code(),
        body_bytes: sent.bytes.saturating_sub(head_bytes),
        referer: caption.referer.as_deref(),
        user_agent: caption.agent.as_deref(),
        route: received.map(|received| route(received.route)),
        mode: received.map(|received| mode(received.mode)),
        reason: Some(reason.as_str()).filter(|reason| !reason.is_empty()),
        duration: began.elapsed(),
        error: sent.failure.as_ref().map(|failure| failure.word),
    });
}

fn record<W>(
    server: &Server,
    link: &Link<W>,
    about: Line<'_>,
    began: Instant,
    status: Status,
    sent: &Sent,
    head_bytes: u64,
) {
    if let Some(meters) = &server.meters {
        meters.count(Answered {
            status: status.code(),
            body_bytes: sent.bytes.saturating_sub(head_bytes),
            route: sent.receipt.as_ref().map(|taken| (route(taken.route), mode(taken.mode))),
            failure: sent.failure.as_ref().map(|failure| failure.word),
        });
    }
    let Some(log) = &server.log else { return };
    let reason = sent.receipt.as_ref().map_or(String::new(), reason);
    log.borrow_mut().record(&Entry {
        at: SystemTime::now(),
        peer: Some(link.peer),
        user: link.user.as_deref(),
        request: about.line,
        status: status.code(),
        body_bytes: sent.bytes.saturating_sub(head_bytes),
        referer: about.referer,
        user_agent: about.agent,
        route: sent.receipt.as_ref().map(|receipt| route(receipt.route)),
        mode: sent.receipt.as_ref().map(|receipt| mode(receipt.mode)),
        reason: Some(reason.as_str()).filter(|reason| !reason.is_empty()),
        duration: began.elapsed(),
        error: sent.failure.as_ref().map(|failure| failure.word),
    });
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Splice => "splice",
        Route::Copy => "copy",
        Route::Registered => "registered",
        Route::KernelTls => "kernel-tls",
        _ => "other",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Ring => "ring",
        Mode::Hybrid => "hybrid",
        Mode::Inline => "inline",
    }
}

/// What was not as usual, in words; mostly nothing, which takes no memory.
fn reason(receipt: &Receipt) -> String {
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

fn add(words: &mut String, what: &dyn fmt::Display) {
    let semicolon = if words.is_empty() { "" } else { "; " };
    // Writing to a String does not fail.
    _ = write!(words, "{semicolon}{what}");
}

/// The kind of an error in one word for the log.
fn word(error: &TransferError) -> &'static str {
    match error.kind() {
        ErrorKind::Truncated(_) | ErrorKind::InvalidRange { .. } => "truncated",
        ErrorKind::SourceChanged(_) => "file-changed",
        ErrorKind::PeerClosed { .. } | ErrorKind::Tls { blame: Blame::Peer } => "peer-closed",
        ErrorKind::PeerTimedOut { .. } | ErrorKind::PeerTooSlow(_) => "peer-timed-out",
        ErrorKind::PeerUnreachable { .. } => "peer-unreachable",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::SourceUnreadable { .. } | ErrorKind::SourceNotRegular { .. } => "unreadable",
        ErrorKind::HostLimit { .. } | ErrorKind::HostDenied { .. } => "host-limit",
        _ => "failed",
    }
}

/// Whether the client has seen nothing and is still there.
fn can_be_told(error: &TransferError) -> bool {
    let is_over = matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Tls { .. });
    let ours = error.blame() != Blame::Peer && !is_over;
    ours && error.sent() == 0
}
