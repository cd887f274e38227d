//! The body of a request on its way into a file: plain or out of TLS, of known length or in chunks.

use std::error::Error;
use std::rc::Rc;

use ringway::receive::Origin;
use ringway::runtime::fs::File;
use ringway::{CancelToken, Incoming, Limits, Receive, ReceiveError, Received, transfer_file};

use super::chunks::Chunks;
use super::{Refusal, of_receive_error};
use crate::http::upload::CONTINUE;
use crate::http::{Body, Status};
use crate::serve::connection::{Link, complain};
use crate::serve::desk::Incoming as Desk;
use crate::serve::exchange::send_all;
use crate::serve::receive::Uploads;
use crate::serve::server::Server;
use crate::serve::wire::Wire;

/// A body, and what receiving it needs.
pub(super) struct Arrival<'a, W> {
    pub(super) server: &'a Rc<Server>,
    pub(super) uploads: &'a Uploads,
    pub(super) link: &'a mut Link<W>,
    /// What was received with the head.
    pub(super) desk: &'a mut Desk,
    pub(super) token: &'a CancelToken,
    pub(super) body: Body,
    pub(super) expects_continue: bool,
}

impl<W: Wire> Arrival<'_, W> {
    /// Writes the body from an offset of the file on: at most so many bytes. What has come stays,
    /// whatever ends it.
    pub(super) async fn receive(
        &mut self,
        (file, offset): (&mut File, u64),
        most: u64,
        receipt: &mut Option<Received>,
    ) -> Result<(), Refusal> {
        if self.expects_continue && self.desk.is_empty() {
            let sent = send_all(self.server, self.link, CONTINUE).await;
            if !sent.is_complete() {
                return Err((Status::RequestTimeout, "The client is gone."));
            }
        }
        // A transfer keeps its own time.
        self.link.seat.allow_all();
        match self.transfer(file, offset, most).await {
            Ok(received) => {
                *receipt = Some(received);
                Ok(())
            }
            Err(error) => {
                if let Some(below) = error.source().and_then(|source| source.downcast_ref()) {
                    complain(self.server, self.link, below);
                }
                *receipt = error.receipt().cloned();
                Err(of_receive_error(&error))
            }
        }
    }

    async fn transfer(
        &mut self,
        file: &mut File,
        offset: u64,
        most: u64,
    ) -> Result<Received, ReceiveError> {
        let given_max = match self.body {
            Body::None => 0,
            Body::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Body::Chunked => usize::MAX,
        };
        let given = self.desk.unread();
        let given = given[..given.len().min(given_max)].to_vec();
        self.desk.consume(given.len());
        let (uploads, token) = (self.uploads, self.token);
        let origin = self.link.stream.origin();
        let length = match self.body {
            Body::None => 0,
            Body::Length(length) => length,
            Body::Chunked => {
                let mut chunks = Chunks::new(origin, given);
                let body = Incoming::to_the_end(Origin::decoded(&mut chunks)).at_most(most);
                let outcome = in_terms(transfer_file(body, file), uploads, token).offset(offset);
                let outcome = outcome.await;
                self.desk.put_back(&chunks.into_rest());
                return outcome;
            }
        };
        let body = Incoming::exactly(origin, length).after(given).at_most(most);
        in_terms(transfer_file(body, file), uploads, token).offset(offset).await
    }
}

/// Under what a client must keep to.
fn in_terms<'t>(receive: Receive<'t>, uploads: &Uploads, token: &CancelToken) -> Receive<'t> {
    let limits = Limits::default().with_peer_timeout(uploads.silence_max);
    let (rate, grace) = uploads.rate_min;
    receive.limits(limits).minimum_rate(rate, grace).cancel_token(token)
}
