//! One request and its answer, sent and written into the log.

use std::error::Error;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use ringway::error::{Blame, ErrorKind};
use ringway::{CancelToken, Parts, Receipt, TransferError, transfer_file};

use super::cache::{Located, Looking, OpenFile};
use super::connection::{Link, complain};
use super::record::{self, Asked, Fate};
use super::server::Server;
use super::wire::Wire;
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
    pub(super) bytes: u64,
    pub(super) receipt: Option<Receipt>,
    failure: Option<Failure>,
}

impl Sent {
    pub(super) fn is_complete(&self) -> bool {
        self.failure.is_none()
    }

    /// Why it is not complete, in one word.
    pub(super) fn failure_word(&self) -> Option<&'static str> {
        self.failure.as_ref().map(|failure| failure.word)
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
        let fate = Fate { began: self.began, status, sent, head_bytes };
        record::answered(self.server, link, Asked::by(self.request), &fate);
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
    let fate = Fate { began, status, sent: &sent, head_bytes };
    record::answered(server, link, Asked::default(), &fate);
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
