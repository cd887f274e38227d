//! A push that can be gone on with, by tus 1.0 (core and creation), to any server that speaks it.
//!
//! ```text
//! remembered? ──▶ HEAD: how far is it? ──┬─▶ PATCH from there to the end ──▶ forgotten
//!      │ no            │ gone           │        │ broke off: the next attempt asks again
//!      └──────▶ POST: create, remember ─┘        ▼
//! ```

use std::fmt::Write;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Order;
use super::attempt::{Attempt, Link, Method};
use super::memory::{Key, Memory};
use super::request;
use super::source::{SourceFile, Version};
use crate::client::outcome::{Delivered, Failure};
use crate::client::reply::Reply;
use crate::client::retry::Remedy;
use crate::client::url::Url;

/// One file on its way to one receiver, in parts if need be.
pub(crate) struct Resumption<'a> {
    /// What an attempt needs, but for the place of the upload.
    pub(crate) attempt: Attempt<'a>,
    pub(crate) memory: &'a Memory,
    pub(crate) source: &'a SourceFile,
}

/// How far an upload is.
enum Standing {
    At(u64),
    Gone,
}

impl Resumption<'_> {
    /// Makes an attempt: goes on where the last one stopped, or begins.
    ///
    /// # Errors
    ///
    /// As for [`Attempt::make`].
    ///
    /// # Cancel safety
    ///
    /// The connection is lost; the upload is gone on with.
    pub(crate) async fn make(&self, kept: &mut Option<Link>) -> Result<Delivered, Failure> {
        let version = self.attempt.version;
        let named = self.attempt.url.for_file(self.source.name());
        let key = Key::of(self.source.path(), &version.seen, &named);
        let (place, offset) = match self.remembered(&key, kept).await? {
            Some(found) => found,
            None => self.create(&key, kept).await?,
        };
        let outcome = self.finish(&place, offset, kept).await;
        match outcome {
            Ok(delivered) => {
                self.memory.forget(&key).await;
                Ok(delivered)
            }
            Err(Failure::Refused { status: 404 | 410, .. }) => {
                self.memory.forget(&key).await;
                Err(Failure::Broken("the upload is gone from the receiver".to_owned()))
            }
            // It has taken more of a part than was known, or the broken part still holds it.
            Err(Failure::Refused { status: status @ (409 | 423 | 460), excerpt, .. }) => {
                Err(Failure::Refused { status, excerpt, remedy: Remedy::Later })
            }
            // What is there are other bytes.
            Err(failure @ (Failure::SourceChanged(_) | Failure::OtherDigest { .. })) => {
                self.memory.forget(&key).await;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The upload that an earlier attempt or run has begun, and how far it is.
    async fn remembered(
        &self,
        key: &Key,
        kept: &mut Option<Link>,
    ) -> Result<Option<(Url, u64)>, Failure> {
        let Some(place) = self.memory.recall(key).await else { return Ok(None) };
        match self.tell(&place, kept).await? {
            Standing::At(offset) => Ok(Some((place, offset))),
            Standing::Gone => {
                self.memory.forget(key).await;
                Ok(None)
            }
        }
    }

    /// Asks how far an upload is.
    async fn tell(&self, place: &Url, kept: &mut Option<Link>) -> Result<Standing, Failure> {
        let reply = self.ask(place, "HEAD", "", kept).await?;
        let len = self.attempt.version.seen.len;
        match reply.head.status {
            200..=299 => {
                let offset = reply.head.field("upload-offset").and_then(|text| text.parse().ok());
                let offset = offset.ok_or(Failure::Malformed("it does not say Upload-Offset"))?;
                let length = reply.head.field("upload-length").map(str::parse);
                if offset > len || length.is_some_and(|length| length != Ok(len)) {
                    // An upload of another length cannot become this file.
                    return Ok(Standing::Gone);
                }
                Ok(Standing::At(offset))
            }
            404 | 410 => Ok(Standing::Gone),
            423 => {
                let excerpt = "the upload is still being written to".to_owned();
                Err(Failure::Refused { status: 423, excerpt, remedy: Remedy::Later })
            }
            _ => Err(Failure::refused(&reply, SystemTime::now())),
        }
    }

    /// Makes an upload, and remembers where it is. It says how far that is if it has the file already.
    async fn create(&self, key: &Key, kept: &mut Option<Link>) -> Result<(Url, u64), Failure> {
        let Version { seen, digest, .. } = &**self.attempt.version;
        let name = self.source.name().to_string_lossy();
        let mut fields = format!(
            "Upload-Length: {}\r\nUpload-Metadata: filename {}\r\nContent-Length: 0\r\n",
            seen.len,
            STANDARD.encode(name.as_bytes())
        );
        if let Some(digest) = digest {
            // Writing to a String does not fail.
            _ = write!(fields, "Repr-Digest: {}\r\n", digest.field());
        }
        let url = self.attempt.url;
        let reply = self.ask(url, "POST", &fields, kept).await?;
        let place = match (reply.head.status, reply.head.field("location")) {
            (201, Some(place)) => url.join(place)?,
            (201, None) => return Err(Failure::Malformed("it does not say where the upload is")),
            (status @ (200..=299 | 404 | 405 | 501), _) => {
                let excerpt =
                    "it makes no resumable upload there (tus 1.0): name the URL where it \
                               does, or push without --resume"
                        .to_owned();
                return Err(Failure::Refused { status, excerpt, remedy: Remedy::None });
            }
            _ => return Err(Failure::refused(&reply, SystemTime::now())),
        };
        let offset = reply.head.field("upload-offset").and_then(|text| text.parse().ok());
        let offset = offset.filter(|&offset| offset <= seen.len).unwrap_or(0);
        let remembered = self.memory.keep(key, &place, self.source.path()).await;
        remembered.map_err(|error| Failure::Host(format!("cannot remember an upload: {error}")))?;
        Ok((place, offset))
    }

    /// Sends what the upload lacks.
    async fn finish(
        &self,
        place: &Url,
        offset: u64,
        kept: &mut Option<Link>,
    ) -> Result<Delivered, Failure> {
        let attempt = Attempt {
            url: place,
            method: Method::Patch { offset },
            shows_token: self.may_see_token(place),
            ..self.attempt
        };
        let len = self.attempt.version.seen.len;
        if offset == len {
            // All is there, and only the answer was missed; or there is nothing to send.
            self.attempt.track.begin(len);
            self.attempt.track.advance(len);
            return Ok(Delivered { status: 204, verified: false, receipt: None });
        }
        attempt.make(kept).await
    }

    /// What was given for one host is not meant for another.
    fn may_see_token(&self, place: &Url) -> bool {
        let named = self.attempt.url;
        place.server() == named.server()
    }

    /// A request without a body, and its answer.
    async fn ask(
        &self,
        place: &Url,
        method: &'static str,
        fields: &str,
        kept: &mut Option<Link>,
    ) -> Result<Reply, Failure> {
        let Order { token, headers, .. } = self.attempt.order;
        let token = token.as_ref().filter(|_| self.may_see_token(place));
        let head = request::small(method, place, fields, token, headers);
        let attempt = Attempt { url: place, ..self.attempt };
        attempt.ask(&head, method == "HEAD", kept).await
    }
}
