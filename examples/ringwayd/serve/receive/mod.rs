//! Files that come in: PUT, from its head to the name that its file has in the end.
//!
//! ```text
//!   judge the head ──▶ look at the name ──▶ 100 Continue ──▶ receive into the staging folder
//!                                                                  │
//!     answer ◀── sync the folder ◀── rename ◀── look again ◀── sync ◀── check the digest
//! ```
//!
//! A file that is to stay and has the digest that came with the other one is what was wanted: nothing is
//! written, and the answer is yes.
//!
//! Until the rename nothing has the final name, and after it the whole file has: a daemon that is
//! killed at any moment leaves at most a file in the staging folder, which the next one removes.
//!
//! | room | is |
//! |---|---|
//! | `staging` | the folder for files that are not whole yet |
//! | `placing` | giving a file its name |
//! | `body` | a body on its way into a file, plain or out of TLS |
//! | `chunks` | a chunked body as a source of a transfer |
//! | `known` | digests of files that are there already |
//! | `resumable` | uploads that can be gone on with: tus 1.0 |
//! | `verify` | the thread that computes digests |
//! | `writers` | who may write |

mod body;
mod chunks;
mod known;
mod placing;
mod resumable;
mod staging;
mod verify;
mod writers;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::receive::ReceiveErrorKind;
use ringway::{CancelToken, ReceiveError, Received};

use self::body::Arrival;
use self::placing::{Failure, Place};
use self::resumable::{Part, Record};
use self::staging::Staged;
pub(crate) use self::staging::{Common, Uploads};
use super::connection::Link;
use super::desk::Incoming as Desk;
use super::exchange::{Ending, send_all};
use super::record::{self, Caption, Fate};
use super::server::Server;
use super::wire::Wire;
use crate::http::tus::{self, Ask, Standing};
use crate::http::upload::{self, Sequel, Upload};
use crate::http::{Answer, Date, FileFacts, Method, Request, Status};

/// How long a slow client has until its rate is judged.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// Why a request is refused: the status and one sentence for the client.
type Refusal = (Status, &'static str);

/// A request that brings a file, taken out of the buffer that its body will need.
#[derive(Debug)]
pub(crate) struct Order {
    task: Task,
    sequel: Sequel,
    caption: Caption,
    began: Instant,
}

/// What is asked for, if it may be.
#[derive(Debug)]
enum Task {
    Put(Result<Upload, Refusal>),
    Resumable(Result<Ask, Refusal>),
}

impl Order {
    /// Whether a request is one that is answered here.
    pub(crate) fn is_in(request: &Request<'_>) -> bool {
        request.method == Method::Put || tus::concerns(request)
    }

    pub(crate) fn of(
        request: &Request<'_>,
        server: &Server,
        uploads: &Uploads,
        certified: bool,
        began: Instant,
    ) -> Order {
        let admitted = uploads.writers.admit(upload::bearer(request), certified);
        let (policy, most) = (server.policy, uploads.body_bytes_max);
        let task = match request.method {
            Method::Put => Task::Put(admitted.and_then(|()| upload::judge(request, policy, most))),
            _ => Task::Resumable(admitted.and_then(|()| tus::judge(request, policy, most))),
        };
        Order { task, sequel: Sequel::of(request), caption: Caption::of(request), began }
    }
}

/// What came of an upload.
enum Outcome {
    Stored {
        created: bool,
        facts: io::Result<FileFacts>,
    },
    /// It is there already, under its name; the connection is where it is after a refusal.
    There(FileFacts, Sequel),
    /// The connection is where the next request begins, or where the body does.
    Refused(Refusal, Sequel),
}

/// Receives, answers and logs.
pub(crate) async fn answer<W: Wire>(
    server: &Rc<Server>,
    uploads: &Uploads,
    link: &mut Link<W>,
    (desk, reply): (&mut Desk, &mut Vec<u8>),
    token: &CancelToken,
    order: Order,
) -> Ending {
    let Order { task, sequel, caption, began } = order;
    let mut receipt = None;
    reply.clear();
    let answer = match task {
        Task::Put(Err(refusal)) => upload::refused(sequel, refusal, &server.date(), reply),
        Task::Put(Ok(upload)) => {
            let under_way = UnderWay { server, uploads, link, desk, token, upload: &upload };
            let outcome = Box::pin(under_way.run(&mut receipt)).await;
            told(&outcome, &upload, &server.date(), reply)
        }
        Task::Resumable(ask) => {
            let going = Going { server, uploads, link, desk, token, sequel };
            Box::pin(going.on(ask, &mut receipt, reply)).await
        }
    };
    let head_bytes = reply.len() as u64 - answer.text_bytes;
    let sent = send_all(server, link, reply).await;
    let fate = Fate { began, status: answer.status, sent: &sent, head_bytes };
    record::uploaded(server, link, caption.asked(), &fate, receipt.as_ref());
    match (sent.is_complete(), answer.keep_alive) {
        (false, _) => Ending::Cut,
        (true, true) => Ending::KeepAlive { drain_bytes: answer.drain_bytes },
        (true, false) => Ending::Linger,
    }
}

/// Tells a client what came of its PUT.
fn told(outcome: &Outcome, upload: &Upload, date: &Date, reply: &mut Vec<u8>) -> Answer {
    let read = upload.sequel().after_body();
    match outcome {
        Outcome::Stored { created, facts: Ok(facts) } => {
            upload::stored(read, *created, &facts.etag, &upload.digests, date, reply)
        }
        Outcome::Stored { facts: Err(_), .. } => {
            let refusal = (Status::InternalServerError, "The file cannot be looked at.");
            upload::refused(read, refusal, date, reply)
        }
        Outcome::There(facts, sequel) => {
            upload::stored(*sequel, false, &facts.etag, &upload.digests, date, reply)
        }
        Outcome::Refused(refusal, sequel) => upload::refused(*sequel, *refusal, date, reply),
    }
}

/// A request of a resumable upload and what it needs.
struct Going<'a, W> {
    server: &'a Rc<Server>,
    uploads: &'a Uploads,
    link: &'a mut Link<W>,
    desk: &'a mut Desk,
    token: &'a CancelToken,
    sequel: Sequel,
}

impl<W: Wire> Going<'_, W> {
    async fn on(
        self,
        ask: Result<Ask, Refusal>,
        receipt: &mut Option<Received>,
        reply: &mut Vec<u8>,
    ) -> Answer {
        let Going { server, uploads, link, desk, token, sequel } = self;
        let unread = |refusal: Refusal| (refusal, sequel);
        let outcome = match ask {
            Err(refusal) => Err(unread(refusal)),
            Ok(Ask::Create { path, length, metadata, digests }) => {
                let record = Record::new(path, length, metadata, digests);
                link.seat.allow_all();
                let made = uploads.create(server, record).await.map_err(unread);
                made.map(|(id, over)| {
                    let offset = over.then_some(length);
                    tus::created(sequel, &id, offset, &server.date(), reply)
                })
            }
            Ok(Ask::Tell(id)) => {
                // It may have to be kept first, which takes as long as the disk does.
                link.seat.allow_all();
                let known = uploads.standing(server, &id).await.map_err(unread);
                known.map(|(offset, record)| {
                    let (length, metadata) = (record.length, &*record.metadata);
                    let standing = Standing { offset, length, metadata };
                    tus::told(sequel, &standing, &server.date(), reply)
                })
            }
            Ok(Ask::Append { id, offset, body, expects_continue }) => {
                let arrival =
                    Arrival { server, uploads, link, desk, token, body, expects_continue };
                let part = Part { arrival, id, offset };
                let appended = part.append(sequel, receipt).await;
                let read = sequel.after_body();
                appended.map(|offset| tus::moved(read, Some(offset), &server.date(), reply))
            }
            Ok(Ask::Terminate(id)) => {
                let ended = uploads.terminate(&id).await.map_err(unread);
                ended.map(|()| tus::moved(sequel, None, &server.date(), reply))
            }
        };
        outcome.unwrap_or_else(|(refusal, sequel)| {
            tus::refused(sequel, refusal, &server.date(), reply)
        })
    }
}

/// One upload and what it needs.
struct UnderWay<'a, W> {
    server: &'a Rc<Server>,
    uploads: &'a Uploads,
    link: &'a mut Link<W>,
    desk: &'a mut Desk,
    token: &'a CancelToken,
    upload: &'a Upload,
}

impl<W: Wire> UnderWay<'_, W> {
    async fn run(mut self, receipt: &mut Option<Received>) -> Outcome {
        let unread = self.upload.sequel();
        let place = match Place::find(self.server, self.uploads, self.upload).await {
            Ok(place) => place,
            Err(refusal) => return self.unless_there(refusal, unread).await,
        };
        let mut staged = match self.uploads.stage().await {
            Ok(staged) => staged,
            Err(error) => return Outcome::Refused(of_file_error(&error), unread),
        };
        let outcome = self.receive_into(&mut staged, receipt).await;
        let outcome = match outcome {
            Ok(()) => self.keep(&staged, &place).await,
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(created) => {
                let facts = super::cache::facts_of(&staged.file, &self.upload.path);
                Outcome::Stored { created, facts }
            }
            Err((refusal, sequel)) => {
                self.uploads.discard(staged).await;
                self.unless_there(refusal, sequel).await
            }
        }
    }

    /// A file that is to stay is no reason to refuse the same one.
    async fn unless_there(&self, refusal: Refusal, sequel: Sequel) -> Outcome {
        if refusal != placing::TAKEN {
            return Outcome::Refused(refusal, sequel);
        }
        self.link.seat.allow_all();
        let asking = self.uploads.has_already(self.server, self.upload);
        match self.link.seat.wait(asking).await {
            Ok(Some(facts)) => Outcome::There(facts, sequel),
            Ok(None) | Err(_) => Outcome::Refused(refusal, sequel),
        }
    }

    async fn receive_into(
        &mut self,
        staged: &mut Staged,
        receipt: &mut Option<Received>,
    ) -> Result<(), (Refusal, Sequel)> {
        let UnderWay { server, uploads, token, upload, .. } = *self;
        let (body, expects_continue) = (upload.body, upload.expects_continue);
        let (link, desk) = (&mut *self.link, &mut *self.desk);
        let mut arrival = Arrival { server, uploads, link, desk, token, body, expects_continue };
        let file = (&mut staged.file, 0);
        let arrived = arrival.receive(file, uploads.body_bytes_max, receipt).await;
        // Half a body may have been read: only closing is clear.
        arrived.map_err(|refusal| (refusal, upload.sequel().at_the_end()))
    }

    /// Checks, makes durable and names what was received. Says whether the name is new.
    async fn keep(&self, staged: &Staged, place: &Place) -> Result<bool, (Refusal, Sequel)> {
        let read = self.upload.sequel().after_body();
        let refuse = |refusal: Refusal| (refusal, read);
        let failed = |error: io::Error| refuse(of_file_error(&error));
        let wanted = &self.upload.digests;
        if !wanted.is_empty() {
            let computed = self.uploads.verifier.digests(&staged.file, wanted).await;
            if computed.map_err(failed)? != *wanted {
                let sentence = "The body does not have the digest that came with it.";
                return Err(refuse((Status::BadRequest, sentence)));
            }
        }
        if self.uploads.sync {
            staged.file.sync_all().await.map_err(failed)?;
        }
        match place.take(self.server, self.uploads, self.upload, staged).await {
            Ok(created) => Ok(created),
            Err(Failure::Refused(refusal)) => Err(refuse(refusal)),
            Err(Failure::Io(error)) => Err(failed(error)),
        }
    }
}

/// What a client is told when the body did not arrive.
fn of_receive_error(error: &ReceiveError) -> Refusal {
    use ReceiveErrorKind as Kind;
    match error.kind() {
        Kind::ShortBody(_)
        | Kind::CutOff
        | Kind::Tls { .. }
        | Kind::PeerClosed { .. }
        | Kind::PeerUnreachable { .. } => (Status::BadRequest, "The body ended before its length."),
        Kind::Malformed => (Status::BadRequest, "The chunks of the body are malformed."),
        Kind::TooLong { .. } | Kind::Misfit(_) => {
            (Status::ContentTooLarge, "The file is larger than is allowed here.")
        }
        Kind::PeerTimedOut { .. } | Kind::PeerTooSlow(_) | Kind::DeadlineExceeded { .. } => {
            (Status::RequestTimeout, "The body comes too slowly.")
        }
        Kind::NoSpace { .. } | Kind::QuotaExceeded { .. } | Kind::FileTooLarge { .. } => {
            (Status::InsufficientStorage, "There is no room for the file.")
        }
        Kind::Cancelled | Kind::HostLimit { .. } => (Status::ServiceUnavailable, "Try again."),
        _ => (Status::InternalServerError, "The file cannot be stored."),
    }
}

/// The same for a call on the file or its folder.
fn of_file_error(error: &io::Error) -> Refusal {
    /// `ErrorKind` has no stable names for these.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Status::InsufficientStorage, "There is no room for the file.")
        }
        io::ErrorKind::PermissionDenied => (Status::Forbidden, "This may not be written."),
        _ => match error.raw_os_error() {
            Some(ENFILE | EMFILE) => (Status::ServiceUnavailable, "Too busy; try again."),
            _ => (Status::InternalServerError, "The file cannot be stored."),
        },
    }
}
