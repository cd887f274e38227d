//! Files that come in: PUT, from its head to the name that its file has in the end.
//!
//! ```text
//!   judge the head ──▶ look at the name ──▶ 100 Continue ──▶ receive into the staging folder
//!                                                                  │
//!     answer ◀── sync the folder ◀── rename ◀── look again ◀── sync ◀── check the digest
//! ```
//!
//! Until the rename nothing has the final name, and after it the whole file has: a daemon that is
//! killed at any moment leaves at most a file in the staging folder, which the next one removes.
//!
//! | room | is |
//! |---|---|
//! | `staging` | the folder for files that are not whole yet |
//! | `placing` | giving a file its name |
//! | `body` | a chunked body as a source of a transfer |
//! | `verify` | the thread that computes digests |
//! | `tokens` | who may write |

mod body;
mod placing;
mod staging;
mod tokens;
mod verify;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::receive::{Origin, ReceiveErrorKind};
use ringway::runtime::fs::File;
use ringway::runtime::net::TcpStream;
use ringway::{CancelToken, Incoming, Limits, ReceiveError, Received, transfer_file};

use self::body::Chunks;
use self::placing::{Failure, Place};
use self::staging::Staged;
pub(crate) use self::staging::{Common, Uploads};
use super::connection::Link;
use super::desk::Incoming as Desk;
use super::exchange::{Caption, Ending, record_upload, send_all};
use super::server::Server;
use crate::http::upload::{self, CONTINUE, Sequel, Upload};
use crate::http::{Body, FileFacts, Request, Status};

/// How long a slow client has until its rate is judged.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// Why a request is refused: the status and one sentence for the client.
type Refusal = (Status, &'static str);

/// A request that brings a file, taken out of the buffer that its body will need.
#[derive(Debug)]
pub(crate) struct Order {
    upload: Result<Upload, Refusal>,
    sequel: Sequel,
    caption: Caption,
    began: Instant,
}

impl Order {
    pub(crate) fn of(
        request: &Request<'_>,
        server: &Server,
        uploads: &Uploads,
        began: Instant,
    ) -> Order {
        let upload = match uploads.tokens.admit(upload::bearer(request)) {
            true => upload::judge(request, server.policy, uploads.body_bytes_max),
            false => Err((Status::Unauthorized, "Writing here takes a token that is known.")),
        };
        Order { upload, sequel: Sequel::of(request), caption: Caption::of(request), began }
    }
}

/// What came of an upload.
enum Outcome {
    Stored {
        created: bool,
        facts: io::Result<FileFacts>,
    },
    /// The connection is where the next request begins, or where the body does.
    Refused(Refusal, Sequel),
}

/// Receives, answers and logs.
pub(crate) async fn answer(
    server: &Rc<Server>,
    uploads: &Uploads,
    link: &mut Link<TcpStream>,
    (desk, reply): (&mut Desk, &mut Vec<u8>),
    token: &CancelToken,
    order: Order,
) -> Ending {
    let Order { upload, sequel, caption, began } = order;
    let (mut receipt, mut digests) = (None, Vec::new());
    let outcome = match upload {
        Err(refusal) => Outcome::Refused(refusal, sequel),
        Ok(upload) => {
            digests.clone_from(&upload.digests);
            let under_way = UnderWay { server, uploads, link, desk, token, upload: &upload };
            Box::pin(under_way.run(&mut receipt)).await
        }
    };
    reply.clear();
    let date = server.date();
    let answer = match outcome {
        Outcome::Stored { created, facts } => match facts {
            Ok(facts) => {
                let sequel = sequel.after_body();
                upload::stored(sequel, created, &facts.etag, &digests, &date, reply)
            }
            Err(_) => {
                let refusal = (Status::InternalServerError, "The file cannot be looked at.");
                upload::refused(sequel.after_body(), refusal, &date, reply)
            }
        },
        Outcome::Refused(refusal, sequel) => upload::refused(sequel, refusal, &date, reply),
    };
    let head_bytes = reply.len() as u64 - answer.text_bytes;
    let sent = send_all(server, link, reply).await;
    let fate = (answer.status, &sent, head_bytes);
    record_upload(server, link, &caption, began, fate, receipt.as_ref());
    match (sent.is_complete(), answer.keep_alive) {
        (false, _) => Ending::Cut,
        (true, true) => Ending::KeepAlive { drain_bytes: answer.drain_bytes },
        (true, false) => Ending::Linger,
    }
}

/// One upload and what it needs.
struct UnderWay<'a> {
    server: &'a Rc<Server>,
    uploads: &'a Uploads,
    link: &'a mut Link<TcpStream>,
    desk: &'a mut Desk,
    token: &'a CancelToken,
    upload: &'a Upload,
}

impl UnderWay<'_> {
    async fn run(mut self, receipt: &mut Option<Received>) -> Outcome {
        let unread = self.upload.sequel();
        let place = match Place::find(self.server, self.uploads, self.upload).await {
            Ok(place) => place,
            Err(refusal) => return Outcome::Refused(refusal, unread),
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
                Outcome::Refused(refusal, sequel)
            }
        }
    }

    async fn receive_into(
        &mut self,
        staged: &mut Staged,
        receipt: &mut Option<Received>,
    ) -> Result<(), (Refusal, Sequel)> {
        // Half a body may have been read: only closing is clear.
        let broken = self.upload.sequel().at_the_end();
        if self.upload.expects_continue && self.desk.is_empty() {
            let sent = send_all(self.server, self.link, CONTINUE).await;
            if !sent.is_complete() {
                return Err(((Status::RequestTimeout, "The client is gone."), broken));
            }
        }
        // A transfer keeps its own time.
        self.link.seat.allow_all();
        match self.transfer(&mut staged.file).await {
            Ok(received) => {
                *receipt = Some(received);
                Ok(())
            }
            Err(error) => {
                *receipt = error.receipt().cloned();
                Err((of_receive_error(&error), broken))
            }
        }
    }

    async fn transfer(&mut self, file: &mut File) -> Result<Received, ReceiveError> {
        let most = self.uploads.body_bytes_max;
        let limits = Limits::default().with_peer_timeout(self.uploads.silence_max);
        let (rate, grace) = self.uploads.rate_min;
        match self.upload.body {
            Body::None => {
                let body = Incoming::exactly(&mut self.link.stream, 0);
                transfer_file(body, file).await
            }
            Body::Length(length) => {
                let here = usize::try_from(length).unwrap_or(usize::MAX);
                let given = self.desk.unread();
                let given = given[..given.len().min(here)].to_vec();
                self.desk.consume(given.len());
                let body = Incoming::exactly(&mut self.link.stream, length).after(given);
                let receive = transfer_file(body.at_most(most), file).limits(limits);
                receive.minimum_rate(rate, grace).cancel_token(self.token).await
            }
            Body::Chunked => {
                let given = self.desk.unread().to_vec();
                self.desk.consume(given.len());
                let mut chunks = Chunks::new(&mut self.link.stream, given);
                let body = Incoming::to_the_end(Origin::decoded(&mut chunks)).at_most(most);
                let receive = transfer_file(body, file).limits(limits);
                let outcome = receive.minimum_rate(rate, grace).cancel_token(self.token).await;
                self.desk.put_back(&chunks.into_rest());
                outcome
            }
        }
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
        Kind::ShortBody(_) | Kind::PeerClosed { .. } | Kind::PeerUnreachable { .. } => {
            (Status::BadRequest, "The body ended before its length.")
        }
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
