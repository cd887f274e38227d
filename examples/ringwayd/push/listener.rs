//! What a receiver says, before, while and after it is sent a body.

use std::time::Duration;

use ringway::runtime::time;

use crate::client::distrust;
use crate::client::outcome::Failure;
use crate::client::reply::{News, Reply, ReplyReader};
use crate::client::wire::Ear;

/// Bytes that are received at once.
const PIECE: usize = 4096;

/// Listens on one connection.
#[derive(Debug)]
pub(crate) struct Listener<'l> {
    ear: Ear,
    replies: &'l mut ReplyReader,
    piece: Box<[u8; PIECE]>,
    /// Something has been heard of this exchange.
    pub(crate) heard: bool,
}

/// A final answer has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Final {
    /// With this status; its body follows.
    Status(u16),
}

impl<'l> Listener<'l> {
    pub(crate) fn new(ear: Ear, replies: &'l mut ReplyReader) -> Listener<'l> {
        Listener { ear, replies, piece: Box::new([0; PIECE]), heard: false }
    }

    /// Waits until the receiver wants the body; `Some` if it answers instead.
    ///
    /// # Errors
    ///
    /// As for [`Self::status`].
    ///
    /// # Cancel safety
    ///
    /// What was heard is kept.
    pub(crate) async fn go_ahead(&mut self) -> Result<Option<Final>, Failure> {
        loop {
            match self.news().await? {
                News::Interim(100) => return Ok(None),
                News::Head(status) => return Ok(Some(Final::Status(status))),
                _ => {}
            }
        }
    }

    /// Waits for the final answer to begin, for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`], [`Failure::NoTls`] and [`Failure::Malformed`].
    ///
    /// # Cancel safety
    ///
    /// What was heard is kept.
    pub(crate) async fn status(&mut self) -> Result<Final, Failure> {
        loop {
            if let News::Head(status) = self.news().await? {
                return Ok(Final::Status(status));
            }
        }
    }

    /// Waits for the final answer to begin, and as long as `silence` for each sign of life.
    ///
    /// # Errors
    ///
    /// As for [`Self::status`], and [`Failure::Silent`].
    pub(crate) async fn status_within(&mut self, silence: Duration) -> Result<Final, Failure> {
        loop {
            match time::timeout(silence, self.news()).await {
                Ok(Ok(News::Head(status))) => return Ok(Final::Status(status)),
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(_) => return Err(Failure::Silent(silence)),
            }
        }
    }

    /// The final answer, whose head is here. A body that does not come is done without.
    pub(crate) async fn reply(&mut self, silence: Duration) -> Result<Reply, Failure> {
        loop {
            match time::timeout(silence, self.news()).await {
                Ok(Ok(News::Reply(reply))) => return Ok(reply),
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => return self.replies.cut().ok_or(failure),
                Err(_) => return self.replies.cut().ok_or(Failure::Silent(silence)),
            }
        }
    }

    /// The next news, receiving as long as there are none.
    async fn news(&mut self) -> Result<News, Failure> {
        loop {
            match self.replies.next()? {
                News::None => {}
                news => return Ok(news),
            }
            let received = self.ear.receive(self.piece.as_mut_slice()).await;
            match received {
                Ok(0) => {
                    let ended = self.replies.end()?.map(News::Reply);
                    let closed = || Failure::Broken("it was closed without an answer".to_owned());
                    return ended.ok_or_else(closed);
                }
                Ok(received) => {
                    self.heard = true;
                    self.replies.push(&self.piece[..received]);
                }
                Err(error) => return Err(distrust::of_stream(&error)),
            }
        }
    }
}
