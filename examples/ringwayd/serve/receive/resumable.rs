//! Uploads that can be gone on with (tus 1.0): what is received stays, and when all of it is there, the
//! file gets its name as one that was put does.
//!
//! An upload is two files in the staging folder: `tus-ID`, whose length is how far it is, and
//! `tus-ID.json`, which says what it is to become. Both outlive the daemon. An upload that is over
//! leaves the second one for a while, for a client that has missed the answer.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use ringway::Received;
use ringway::runtime::fs::{self, OpenOptions};
use serde_json::{Value, json};

use super::body::Arrival;
use super::placing::{BEING_GIVEN, Failure, Place, TAKEN};
use super::staging::{Staged, Uploads};
use super::{Refusal, of_file_error};
use crate::http::tus::UploadId;
use crate::http::upload::{Sequel, Upload};
use crate::http::{Body, Digest, Status};
use crate::serve::server::Server;
use crate::serve::wire::Wire;

const NO_UPLOAD: Refusal = (Status::NotFound, "There is no such upload.");

/// What an upload is to become.
#[derive(Debug)]
pub(super) struct Record {
    path: Box<[u8]>,
    pub(super) length: u64,
    pub(super) metadata: String,
    digests: Vec<Digest>,
    done: bool,
}

impl Record {
    pub(super) fn new(
        path: Box<[u8]>,
        length: u64,
        metadata: String,
        digests: Vec<Digest>,
    ) -> Self {
        Self { path, length, metadata, digests, done: false }
    }

    /// The same as one file that is to have a name.
    fn upload(&self) -> Upload {
        let body = Body::Length(self.length);
        Upload::of_path(self.path.clone(), body, self.digests.clone())
    }

    fn to_json(&self) -> Vec<u8> {
        let digests: Vec<String> = self.digests.iter().map(Digest::member).collect();
        let value = json!({
            "path": &self.path[..], "length": self.length, "metadata": self.metadata,
            "digests": digests.join(", "), "done": self.done,
        });
        value.to_string().into_bytes()
    }

    /// `None` if it is not one of ours, or was written in part.
    fn from_json(text: &[u8]) -> Option<Record> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let path = value["path"].as_array()?.iter();
        let path = path.map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
        Some(Record {
            path: path.collect::<Option<Vec<u8>>>()?.into(),
            length: value["length"].as_u64()?,
            metadata: value["metadata"].as_str()?.to_owned(),
            digests: Digest::read(std::iter::once(value["digests"].as_str()?.as_bytes())).ok()?,
            done: value["done"].as_bool()?,
        })
    }
}

/// A conflict about the name of the file. In this protocol 409 and 423 are for uploads, and clients try
/// them again; what cannot become otherwise by itself is refused for good.
fn of_name((status, sentence): Refusal) -> Refusal {
    match status {
        Status::Conflict if (status, sentence) == BEING_GIVEN => (Status::Locked, sentence),
        Status::Conflict => (Status::Forbidden, sentence),
        _ => (status, sentence),
    }
}

/// The largest record: a path, metadata and digests within a head of a request, each byte in digits.
const RECORD_BYTES_MAX: usize = 256 << 10;

impl Uploads {
    fn record_name(id: &UploadId) -> String {
        format!("tus-{}.json", id.0)
    }

    fn data_name(id: &UploadId) -> String {
        format!("tus-{}", id.0)
    }

    async fn keep_record(&self, id: &UploadId, record: &Record) -> io::Result<()> {
        let mut staged = self.stage().await?;
        let text = record.to_json();
        let kept = async {
            let all = text.len();
            let (written, _) = staged.file.write_at(text, 0, 0).await;
            if written? != all {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if self.sync {
                staged.file.sync_all().await?;
            }
            self.restage(&mut staged, Self::record_name(id)).await
        };
        let kept = kept.await;
        if kept.is_err() {
            self.discard(staged).await;
        }
        kept
    }

    async fn record(&self, id: &UploadId) -> Result<Record, Refusal> {
        let file = match self.open_staged(&Self::record_name(id), false).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NO_UPLOAD),
            Err(error) => return Err(of_file_error(&error)),
        };
        let (read, text) = file.read_at(vec![0; RECORD_BYTES_MAX], 0, RECORD_BYTES_MAX, 0).await;
        read.map_err(|error| of_file_error(&error))?;
        let broken = (Status::InternalServerError, "What is known of the upload cannot be read.");
        Record::from_json(&text.unwrap_or_default()).ok_or(broken)
    }

    /// Makes an upload. One of no bytes is over at once, and so is one of a file that is there already
    /// and is to stay. Says whether it is over.
    pub(super) async fn create(
        &self,
        server: &Rc<Server>,
        mut record: Record,
    ) -> Result<(UploadId, bool), Refusal> {
        let upload = record.upload();
        let place = match Place::find(server, self, &upload).await {
            Ok(place) => Some(place),
            Err(refusal) => {
                record.done = refusal == TAKEN && self.has_already(server, &upload).await.is_some();
                if !record.done {
                    return Err(of_name(refusal));
                }
                None
            }
        };
        let failed = |error: io::Error| of_file_error(&error);
        let mut bytes = [0; 16];
        // It does not fail once the system has started (getrandom(2)).
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(error.into()))?;
        let id = UploadId::from_bytes(bytes);
        let Some(place) = place else {
            self.keep_record(&id, &record).await.map_err(failed)?;
            return Ok((id, true));
        };
        let mut data = self.stage().await.map_err(failed)?;
        self.restage(&mut data, Self::data_name(&id)).await.map_err(failed)?;
        if let Err(error) = self.keep_record(&id, &record).await {
            self.discard(data).await;
            return Err(failed(error));
        }
        let is_over = record.length == 0;
        if is_over {
            self.complete(server, &id, record, data, &place).await?;
        }
        Ok((id, is_over))
    }

    /// How far an upload is. One of which all has come and whose file has no name yet, because the daemon
    /// was killed or the name was taken, is ended here: who hears that all is there will not come again.
    pub(super) async fn standing(
        &self,
        server: &Rc<Server>,
        id: &UploadId,
    ) -> Result<(u64, Record), Refusal> {
        let (len, record) = self.look(id).await?;
        if record.done || len < record.length {
            return Ok((len, record));
        }
        let busy = (Status::Locked, "The last part of the upload is being kept.");
        let _placing = self.placings.begin(id.0.as_bytes()).ok_or(busy)?;
        let (_, record) = self.look(id).await?;
        if !record.done {
            let name = Self::data_name(id);
            let file = self.open_staged(&name, true).await.map_err(|_| NO_UPLOAD)?;
            let place = Place::find(server, self, &record.upload()).await;
            let data = Staged::reopened(file, name);
            self.end(server, id, record, data, place).await?;
        }
        let record = self.record(id).await?;
        Ok((record.length, record))
    }

    async fn look(&self, id: &UploadId) -> Result<(u64, Record), Refusal> {
        let record = self.record(id).await?;
        if record.done {
            return Ok((record.length, record));
        }
        let file = self.open_staged(&Self::data_name(id), false).await.map_err(|_| NO_UPLOAD)?;
        let len = file.metadata().map_err(|error| of_file_error(&error))?.len;
        Ok((len, record))
    }

    /// Ends an upload, and forgets it.
    pub(super) async fn terminate(&self, id: &UploadId) -> Result<(), Refusal> {
        let busy = (Status::Locked, "The upload is being written to.");
        let _placing = self.placings.begin(id.0.as_bytes()).ok_or(busy)?;
        self.record(id).await?;
        // Without its record it is no upload any more, whatever happens to the other.
        for name in [Self::record_name(id), Self::data_name(id)] {
            match fs::remove_in(self.folder(), PathBuf::from(name)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(of_file_error(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All of it is there: the file gets its name, unless the same one has come meanwhile and is to stay.
    async fn end(
        &self,
        server: &Rc<Server>,
        id: &UploadId,
        mut record: Record,
        data: Staged,
        place: Result<Place, Refusal>,
    ) -> Result<(), Refusal> {
        let refusal = match place {
            Ok(place) => return self.complete(server, id, record, data, &place).await,
            Err(refusal) => refusal,
        };
        if refusal != TAKEN || self.has_already(server, &record.upload()).await.is_none() {
            return Err(of_name(refusal));
        }
        record.done = true;
        self.keep_record(id, &record).await.map_err(|error| of_file_error(&error))?;
        self.discard(data).await;
        Ok(())
    }

    async fn complete(
        &self,
        server: &Rc<Server>,
        id: &UploadId,
        mut record: Record,
        data: Staged,
        place: &Place,
    ) -> Result<(), Refusal> {
        let failed = |error: io::Error| of_file_error(&error);
        if !record.digests.is_empty() {
            let computed = self.verifier.digests(&data.file, &record.digests).await;
            if computed.map_err(failed)? != record.digests {
                self.discard(data).await;
                _ = fs::remove_in(self.folder(), PathBuf::from(Self::record_name(id))).await;
                let sentence = "The file does not have the digest that came with it.";
                return Err((Status::BadRequest, sentence));
            }
        }
        if self.sync {
            data.file.sync_all().await.map_err(failed)?;
        }
        match place.take(server, self, &record.upload(), &data).await {
            Ok(_) => {}
            Err(Failure::Refused(refusal)) => return Err(of_name(refusal)),
            Err(Failure::Io(error)) => return Err(failed(error)),
        }
        record.done = true;
        self.keep_record(id, &record).await.map_err(failed)
    }
}

/// A part of an upload.
pub(super) struct Part<'a, W> {
    pub(super) arrival: Arrival<'a, W>,
    pub(super) id: UploadId,
    pub(super) offset: u64,
}

impl<W: Wire> Part<'_, W> {
    /// Receives it, and says how far the upload is then.
    pub(super) async fn append(
        mut self,
        sequel: Sequel,
        receipt: &mut Option<Received>,
    ) -> Result<u64, (Refusal, Sequel)> {
        let unread = |refusal: Refusal| (refusal, sequel);
        let busy = (Status::Locked, "Another part of the upload is on its way.");
        let (server, uploads, body) =
            (self.arrival.server, self.arrival.uploads, self.arrival.body);
        let placing = uploads.placings.begin(self.id.0.as_bytes());
        let _placing = placing.ok_or(unread(busy))?;
        let record = uploads.record(&self.id).await.map_err(unread)?;
        let name = Uploads::data_name(&self.id);
        let data = match (record.done, self.offset == record.length) {
            // The answer to the last part was missed.
            (true, true) if body == Body::None => return Ok(record.length),
            (true, _) => return Err(unread((Status::Conflict, "The upload is over."))),
            (false, _) => uploads.open_staged(&name, true).await,
        };
        let file = data.map_err(|_| unread(NO_UPLOAD))?;
        let len = file.metadata().map_err(|error| unread(of_file_error(&error)))?.len;
        if len != self.offset {
            return Err(unread((
                Status::Conflict,
                "The upload is at another offset: ask by HEAD.",
            )));
        }
        let most = record.length - len;
        if matches!(body, Body::Length(bytes) if bytes > most) {
            return Err(unread((Status::ContentTooLarge, "The part goes beyond the upload.")));
        }
        let mut data = Staged::reopened(file, name);
        let received = self.arrival.receive((&mut data.file, len), most, receipt).await;
        received.map_err(|refusal| (refusal, sequel.at_the_end()))?;
        let read = |refusal: Refusal| (refusal, sequel.after_body());
        let len = data.file.metadata().map_err(|error| read(of_file_error(&error)))?.len;
        if len == record.length {
            let place = Place::find(server, uploads, &record.upload()).await;
            uploads.end(server, &self.id, record, data, place).await.map_err(read)?;
        }
        Ok(len)
    }
}

/// Whether a file of the staging folder belongs to an upload that can be gone on with.
pub(super) fn is_resumable(name: &[u8]) -> bool {
    name.starts_with(b"tus-")
}

/// The options of a file that is opened again.
pub(super) fn reopening(write: bool) -> OpenOptions {
    OpenOptions::new().write(write).beneath(true).regular_only(true)
}
