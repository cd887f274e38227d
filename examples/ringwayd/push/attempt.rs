//! One attempt to bring a file to a receiver: connect, ask, send, listen.
//!
//! ```text
//! connect ─▶ head ─▶ 100? ─▶ body by transfer_file ─┬─▶ answer ─▶ digest? ─▶ still the same file?
//!                     │       while listening  ──────┘
//!                     └─▶ final answer: no body is sent, or no more of it
//! ```

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use ringway::runtime::time;
use ringway::{CancelToken, Limits, Parts, Receipt, TransferError};

use super::Order;
use super::budget::{Budget, burst};
use super::listener::{Final, Listener};
use super::request::Sending;
use super::source::Version;
use crate::client::digest::Sha256;
use crate::client::distrust;
use crate::client::outcome::{Delivered, Failure};
use crate::client::reply::{Reply, ReplyReader};
use crate::client::show::Track;
use crate::client::url::{Scheme, Url};
use crate::client::wire::{self, Terms, Wire};

/// How long the last completions of a transfer may take when the receiver has answered already.
const LAST_COMPLETIONS: Duration = Duration::from_millis(200);
/// How long to listen for the reason why a receiver has closed the connection.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes that are sent for each look at a rate that is shared.
const SLICE: u64 = 1024 * 1024;

/// One file on its way to one receiver.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) order: &'a Order,
    pub(crate) url: &'a Url,
    pub(crate) version: &'a Rc<Version>,
    pub(crate) track: &'a Track,
    /// The rate of this receiver.
    pub(crate) rate: Option<&'a Budget>,
    /// Whether the receiver may be asked first.
    pub(crate) may_expect: bool,
    pub(crate) method: Method,
    /// Whether the URL leads to whom the token was given for.
    pub(crate) shows_token: bool,
}

/// How a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// All of it, under its name.
    Put,
    /// What is behind this offset, to an upload that was begun (tus 1.0).
    Patch { offset: u64 },
}

impl Method {
    /// Where in the file the body begins.
    fn offset(self) -> u64 {
        match self {
            Method::Put => 0,
            Method::Patch { offset } => offset,
        }
    }
}

/// A connection to a receiver, between two exchanges.
#[derive(Debug)]
pub(crate) struct Link {
    /// Scheme, host and port.
    leads_to: (Scheme, String, u16),
    wire: Wire,
    replies: ReplyReader,
    /// It has carried an exchange already, so the receiver may have closed it meanwhile.
    used: bool,
}

impl Link {
    /// Ends a connection that is not needed any more.
    pub(crate) async fn close(self) {
        self.wire.close().await;
    }
}

/// Why an exchange failed, and whether that may be because the connection was an old one.
struct Broken {
    failure: Failure,
    heard: bool,
}

impl Attempt<'_> {
    /// Makes the attempt. A connection that can be used again is left in `kept`.
    ///
    /// # Errors
    ///
    /// Every [`Failure`] but those of waiting and of time.
    ///
    /// # Cancel safety
    ///
    /// The connection is lost.
    pub(crate) async fn make(&self, kept: &mut Option<Link>) -> Result<Delivered, Failure> {
        let mut link = self.link(kept).await?;
        self.begin();
        let mut outcome = self.exchange(&mut link).await;
        if let (true, Err(Broken { failure: Failure::Broken(_), heard: false })) =
            (link.used, &outcome)
        {
            // It was closed while nobody looked. A PUT may be repeated (RFC 9110, section 9.2.2).
            link = self.connect().await?;
            self.begin();
            outcome = self.exchange(&mut link).await;
        }
        let (reply, receipt) = outcome.map_err(|broken| broken.failure)?;
        if reply.reusable {
            link.used = true;
            *kept = Some(link);
        }
        self.judge(&reply, receipt)
    }

    /// Asks something that has no body, and gives the answer. A connection that can be used again is
    /// left in `kept`.
    ///
    /// # Errors
    ///
    /// As for [`Self::make`].
    pub(crate) async fn ask(
        &self,
        head: &str,
        to_head: bool,
        kept: &mut Option<Link>,
    ) -> Result<Reply, Failure> {
        let mut link = self.link(kept).await?;
        let mut outcome = self.ask_on(&mut link, head, to_head).await;
        if let (true, Err(Broken { failure: Failure::Broken(_), heard: false })) =
            (link.used, &outcome)
        {
            // It was closed while nobody looked. At worst an upload was made that nobody uses.
            link = self.connect().await?;
            outcome = self.ask_on(&mut link, head, to_head).await;
        }
        let reply = outcome.map_err(|broken| broken.failure)?;
        if reply.reusable {
            link.used = true;
            *kept = Some(link);
        }
        Ok(reply)
    }

    async fn ask_on(&self, link: &mut Link, head: &str, to_head: bool) -> Result<Reply, Broken> {
        let Link { wire, replies, .. } = link;
        replies.answers_to_head(to_head);
        let mut listener = Listener::new(wire.ear(), replies);
        let silence = self.silence();
        let outcome = async {
            let sent = time::timeout(silence, wire.send(head.as_bytes())).await;
            sent.map_err(|_| Failure::Silent(silence))?
                .map_err(|error| distrust::of_stream(&error))?;
            listener.status_within(silence).await?;
            listener.reply(silence).await
        };
        let outcome = outcome.await;
        let heard = listener.heard;
        replies.answers_to_head(false);
        outcome.map_err(|failure| Broken { failure, heard })
    }

    fn begin(&self) {
        self.track.begin(self.version.seen.len);
        self.track.advance(self.method.offset());
    }

    /// The connection that was kept, if it leads there.
    async fn link(&self, kept: &mut Option<Link>) -> Result<Link, Failure> {
        match kept.take() {
            Some(link) if link.leads_to == self.url.server() => Ok(link),
            _ => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let limits = &self.order.limits;
        let terms = Terms {
            connect_timeout: limits.attempts.connect_timeout(),
            unsent_bytes_max: limits.max_unsent_bytes,
            tls: self.order.tls.as_ref(),
        };
        let wire = wire::reach(self.url, terms).await?;
        let leads_to = self.url.server();
        Ok(Link { leads_to, wire, replies: ReplyReader::default(), used: false })
    }

    /// Sends the request and hears the answer.
    async fn exchange(&self, link: &mut Link) -> Result<(Reply, Option<Receipt>), Broken> {
        let Link { wire, replies, .. } = link;
        let mut listener = Listener::new(wire.ear(), replies);
        let outcome = self.converse(wire, &mut listener).await;
        let heard = listener.heard;
        outcome.map_err(|failure| Broken { failure, heard })
    }

    async fn converse(
        &self,
        wire: &mut Wire,
        listener: &mut Listener<'_>,
    ) -> Result<(Reply, Option<Receipt>), Failure> {
        let limits = &self.order.limits;
        let length = self.version.seen.len - self.method.offset();
        let expect = self.may_expect && length >= limits.expect_min_bytes.max(1);
        let head = self.head(expect);
        let mut first = head.into_bytes();
        if expect {
            let silence = self.silence();
            let sent = time::timeout(silence, wire.send(&first)).await;
            sent.map_err(|_| Failure::Silent(silence))?
                .map_err(|error| distrust::of_stream(&error))?;
            first.clear();
            let wait = Duration::from_millis(limits.expect_timeout_milliseconds);
            // One that says nothing in this time may not know the question: the body follows.
            if let Ok(said) = time::timeout(wait, listener.go_ahead()).await
                && let Some(Final::Status(_)) = said?
            {
                let reply = listener.reply(self.silence()).await?;
                self.not_early(&reply, 0)?;
                // It may wait for the body all the same, so nothing can follow on this connection.
                return Ok((Reply { reusable: false, ..reply }, None));
            }
        }
        self.send_and_listen(wire, listener, first).await
    }

    /// Sends the body and listens at the same time: a receiver may answer before it has all.
    async fn send_and_listen(
        &self,
        wire: &mut Wire,
        listener: &mut Listener<'_>,
        first: Vec<u8>,
    ) -> Result<(Reply, Option<Receipt>), Failure> {
        let token = CancelToken::new();
        let mut sending = pin!(self.send(wire, first, &token));
        let answered = {
            let mut listening = pin!(listener.status());
            first_of(sending.as_mut(), listening.as_mut()).await
        };
        let sent = match answered {
            First::Sent(sent) => sent,
            First::Heard(said) => {
                // Only who says yes can mean all of it; everybody else is sent no more at once.
                let done = match said {
                    Ok(Final::Status(200..=299)) => {
                        time::timeout(LAST_COMPLETIONS, sending.as_mut()).await.ok()
                    }
                    _ => None,
                };
                let sent = match done {
                    Some(sent) => sent,
                    None => {
                        token.cancel();
                        sending.as_mut().await
                    }
                };
                let Final::Status(_) = said?;
                let reply = listener.reply(self.silence()).await?;
                return match sent {
                    Ok(receipt) => Ok((reply, receipt)),
                    Err(_) => {
                        self.not_early(&reply, self.track.sent())?;
                        Ok((Reply { reusable: false, ..reply }, None))
                    }
                };
            }
        };
        match sent {
            Ok(receipt) => {
                listener.status_within(self.silence()).await?;
                Ok((listener.reply(self.silence()).await?, receipt))
            }
            Err(error) => {
                let failure = Failure::from_transfer(&error);
                if !matches!(failure, Failure::Broken(_)) {
                    return Err(failure);
                }
                // It has closed the connection, and may have said why before.
                match listener.status_within(LAST_WORDS).await {
                    Ok(Final::Status(_)) => {}
                    Err(reason @ Failure::NoTls(_)) => return Err(reason),
                    Err(_) => return Err(failure),
                }
                let reply = listener.reply(LAST_WORDS).await?;
                self.not_early(&reply, self.track.sent())?;
                Ok((Reply { reusable: false, ..reply }, None))
            }
        }
    }

    /// Who has not got everything cannot have stored it, unless it had it before: then it knows the digest.
    fn not_early(&self, reply: &Reply, sent: u64) -> Result<(), Failure> {
        let status = reply.head.status;
        match status {
            200..=299 if self.method == Method::Put && self.verify(reply)? => Ok(()),
            200..=299 => {
                let total = self.version.seen.len;
                Err(Failure::AnsweredEarly { status, sent, total })
            }
            _ => Ok(()),
        }
    }

    /// Sends the head, if it is still to go, and the body: in one transfer, or in slices if a rate is
    /// shared with others.
    async fn send(
        &self,
        wire: &mut Wire,
        first: Vec<u8>,
        token: &CancelToken,
    ) -> Result<Option<Receipt>, TransferError> {
        let Version { file, seen, .. } = &**self.version;
        let head_bytes = first.len() as u64;
        let limits = Limits::default().with_peer_timeout(self.silence());
        let mut parts = Parts::new();
        if head_bytes > 0 {
            parts = parts.bytes(first);
        }
        let mut offset = self.method.offset();
        let Some(total) = &self.order.total else {
            let mut transfer = wire
                .transfer(parts.file_as_seen(file, offset..seen.len, *seen))
                .limits(limits)
                .cancel_token(token)
                .on_progress(|at| self.track.advance(offset + at.sent.saturating_sub(head_bytes)));
            if let Some(rate) = self.order.limits.attempts.rate_bytes_per_second {
                transfer = transfer.rate_limit(rate, burst(rate));
            }
            return transfer.await.map(Some);
        };
        let mut head_bytes = head_bytes;
        loop {
            let left = seen.len - offset;
            let slice = if left == 0 { 0 } else { self.allowed(total, left.min(SLICE)).await };
            let range = offset..offset + slice;
            let receipt = wire
                .transfer(std::mem::take(&mut parts).file_as_seen(file, range, *seen))
                .limits(limits.clone())
                .cancel_token(token)
                .on_progress(|at| self.track.advance(offset + at.sent.saturating_sub(head_bytes)))
                .await?;
            offset += slice;
            head_bytes = 0;
            if offset == seen.len {
                return Ok(Some(receipt));
            }
        }
    }

    /// How much the shared rate and that of the receiver allow now.
    async fn allowed(&self, total: &Budget, want: u64) -> u64 {
        let own = match self.rate {
            Some(rate) => rate.take(want).await,
            None => want,
        };
        let allowed = total.take(own).await;
        if let Some(rate) = self.rate {
            rate.give_back(own - allowed);
        }
        allowed
    }

    fn head(&self, expect: bool) -> String {
        let Version { seen, digest, .. } = &**self.version;
        let offset = self.method.offset();
        Sending {
            url: self.url,
            method: self.method,
            length: seen.len - offset,
            digest: digest.as_ref(),
            token: self.order.token.as_ref().filter(|_| self.shows_token),
            headers: &self.order.headers,
            expect,
        }
        .head()
    }

    /// What an answer is worth.
    fn judge(&self, reply: &Reply, receipt: Option<Receipt>) -> Result<Delivered, Failure> {
        let status = reply.head.status;
        if !(200..=299).contains(&status) {
            return Err(Failure::refused(reply, SystemTime::now()));
        }
        // Now it has read everything, so what it has read is what the file was until now: routes that
        // send by reference would have sent what was written meanwhile.
        if self.version.has_changed() {
            let how = receipt.and_then(|receipt| receipt.source_changed.as_deref().copied());
            let how = how.map_or("after the last byte had left".to_owned(), |how| how.to_string());
            return Err(Failure::SourceChanged(how));
        }
        if let Method::Patch { .. } = self.method {
            let there = reply.head.field("upload-offset").and_then(|text| text.parse().ok());
            if there != Some(self.version.seen.len) {
                return Err(Failure::Broken("it has not taken all of the part".to_owned()));
            }
        }
        let verified = self.verify(reply)?;
        let receipt = match receipt {
            Some(receipt) => Some(receipt.to_string()),
            None => Some("already there".to_owned()).filter(|_| verified),
        };
        Ok(Delivered { status, verified, receipt })
    }

    /// Whether the receiver confirms the digest.
    fn verify(&self, reply: &Reply) -> Result<bool, Failure> {
        let told = Sha256::in_fields(reply.head.values("repr-digest"));
        let (Some(sent), Some(got)) = (self.version.digest, told) else { return Ok(false) };
        if sent == got {
            return Ok(true);
        }
        // The digest of an answer that has a body of its own is that body's, unless the answer says
        // that it stands for the target (RFC 9530, appendix B; RFC 9110, section 8.7).
        let of_target = reply.head.field("content-location") == Some(&self.url.target());
        if reply.is_empty || of_target {
            return Err(Failure::OtherDigest { sent, got });
        }
        Ok(false)
    }

    fn silence(&self) -> Duration {
        self.order.limits.attempts.silence()
    }
}

/// Which of two things came first.
enum First<S, H> {
    Sent(S),
    Heard(H),
}

/// Awaits both until one is there. The other one can be awaited on.
async fn first_of<S: Future, H: Future>(
    mut sending: Pin<&mut S>,
    mut listening: Pin<&mut H>,
) -> First<S::Output, H::Output> {
    poll_fn(|context| {
        if let Poll::Ready(sent) = sending.as_mut().poll(context) {
            return Poll::Ready(First::Sent(sent));
        }
        listening.as_mut().poll(context).map(First::Heard)
    })
    .await
}
