//! The ledger on the disk: a database of one file, in which a change is there as a whole or not at all.
//!
//! | table | key | value |
//! |---|---|---|
//! | `facts` | name | what the journal is of: its form, the folder |
//! | `receivers` | URL | number |
//! | `files` | number | path, stamp, time, digest |
//! | `deliveries` | file, receiver | state, attempts, reason |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::ledger::{Change, Delivery, FileId, FileRow, Ledger, ReceiverId, Stamp};
use crate::client::digest::Sha256;

const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const RECEIVERS: TableDefinition<'_, &str, u32> = TableDefinition::new("receivers");
/// Path, inode, length, modified, changed, queued, digest.
type FileColumns = (&'static [u8], u64, u64, u64, u64, u64, &'static [u8]);
const FILES: TableDefinition<'_, u64, FileColumns> = TableDefinition::new("files");
/// State, attempts, reason.
type DeliveryColumns = (u8, u32, &'static str);
const DELIVERIES: TableDefinition<'_, (u64, u32), DeliveryColumns> =
    TableDefinition::new("deliveries");

/// The form of these tables.
const FORM: &[u8] = b"1";
/// Bytes of pages that the database keeps in memory, at most.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// An open journal. Nobody else can open it meanwhile.
#[derive(Debug)]
pub(crate) struct Journal {
    database: Database,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub(crate) enum JournalError {
    /// Another daemon has it.
    Taken,
    /// The disk is full, or does not do what it should.
    Disk(io::Error),
    /// It is of another form, or broken.
    Unreadable(String),
}

impl std::fmt::Display for JournalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JournalError::Taken => f.write_str("another daemon has it"),
            JournalError::Disk(error) => write!(f, "{error}"),
            JournalError::Unreadable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for JournalError {}

impl<E: Into<redb::Error>> From<E> for JournalError {
    fn from(error: E) -> JournalError {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => JournalError::Taken,
            redb::Error::Io(error) => JournalError::Disk(error),
            redb::Error::PreviousIo => JournalError::Disk(io::Error::other("an earlier error")),
            other => JournalError::Unreadable(other.to_string()),
        }
    }
}

impl Journal {
    /// Opens the journal in this file, which is made if `create` says so. What a killed daemon has left
    /// half done is undone.
    ///
    /// # Errors
    ///
    /// [`JournalError`], and as `Disk` with `NotFound` if there is none.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Journal, JournalError> {
        if create && !path.try_exists().map_err(JournalError::Disk)? {
            Journal::make(path)?;
        }
        Journal::with(path, |builder, path| builder.open(path))
    }

    /// Makes one beside its place and renames it when it is whole: who is killed while the database is
    /// being made leaves a file that is none.
    fn make(path: &Path) -> Result<(), JournalError> {
        let aside = path.with_extension("new");
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::Disk(error));
            }
            _ => {}
        }
        drop(Journal::with(&aside, |builder, path| builder.create(path))?);
        match renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE) {
            // Another daemon was faster, and has it now.
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(JournalError::Disk(error.into())),
        }
    }

    fn with(
        path: &Path,
        open: impl FnOnce(&Builder, &Path) -> Result<Database, DatabaseError>,
    ) -> Result<Journal, JournalError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = open(&builder, path).map_err(|error| match error {
            DatabaseError::Storage(StorageError::Io(error)) => JournalError::Disk(error),
            other => other.into(),
        })?;
        let journal = Journal { database };
        journal.check_form()?;
        Ok(journal)
    }

    fn check_form(&self) -> Result<(), JournalError> {
        let transaction = self.database.begin_write()?;
        {
            let mut facts = transaction.open_table(FACTS)?;
            let form = facts.get("form")?.map(|form| form.value().to_vec());
            match form {
                Some(form) if form == FORM => {}
                Some(_) => {
                    let why = "it was written by another version of ringwayd".to_owned();
                    return Err(JournalError::Unreadable(why));
                }
                None => drop(facts.insert("form", FORM)?),
            }
            // So that they can be read before anything was written.
            transaction.open_table(RECEIVERS)?;
            transaction.open_table(FILES)?;
            transaction.open_table(DELIVERIES)?;
        }
        Ok(transaction.commit()?)
    }

    /// The folder that it is of.
    pub(crate) fn folder(&self) -> Result<Option<Vec<u8>>, JournalError> {
        let transaction = self.database.begin_read()?;
        let facts = transaction.open_table(FACTS)?;
        Ok(facts.get("folder")?.map(|folder| folder.value().to_vec()))
    }

    /// Says which folder it is of.
    pub(crate) fn set_folder(&self, folder: &[u8]) -> Result<(), JournalError> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(FACTS)?.insert("folder", folder)?;
        Ok(transaction.commit()?)
    }

    /// The numbers of these receivers; new ones get one.
    pub(crate) fn number(&self, urls: &[String]) -> Result<Vec<ReceiverId>, JournalError> {
        let mut known = self.receivers()?;
        let mut next = known.values().map(|id| id.0 + 1).max().unwrap_or(0);
        let transaction = self.database.begin_write()?;
        {
            let mut receivers = transaction.open_table(RECEIVERS)?;
            for url in urls {
                if !known.contains_key(url) {
                    receivers.insert(url.as_str(), next)?;
                    known.insert(url.clone(), ReceiverId(next));
                    next += 1;
                }
            }
        }
        transaction.commit()?;
        Ok(urls.iter().map(|url| known[url]).collect())
    }

    /// All receivers it has ever known.
    pub(crate) fn receivers(&self) -> Result<BTreeMap<String, ReceiverId>, JournalError> {
        let transaction = self.database.begin_read()?;
        let receivers = transaction.open_table(RECEIVERS)?;
        let mut known = BTreeMap::new();
        for row in receivers.iter()? {
            let (url, number) = row?;
            known.insert(url.value().to_owned(), ReceiverId(number.value()));
        }
        Ok(known)
    }

    /// Everything that is known, for these receivers.
    pub(crate) fn ledger(&self, receivers: Vec<ReceiverId>) -> Result<Ledger, JournalError> {
        let mut ledger = Ledger::new(receivers);
        let transaction = self.database.begin_read()?;
        let (files, deliveries) =
            (transaction.open_table(FILES)?, transaction.open_table(DELIVERIES)?);
        for row in files.iter()? {
            let (number, columns) = row?;
            let number = number.value();
            let mut known = Vec::new();
            for row in deliveries.range((number, 0)..=(number, u32::MAX))? {
                let (key, columns) = row?;
                known.push((ReceiverId(key.value().1), read_delivery(columns.value())?));
            }
            ledger.restore(FileId(number), read_file(columns.value()), &known);
        }
        Ok(ledger)
    }

    /// Writes changes down, all of them or none; when it returns they are on the disk.
    ///
    /// # Errors
    ///
    /// After [`JournalError::Disk`] the journal must be opened anew.
    pub(crate) fn write(&self, changes: &[Change]) -> Result<(), JournalError> {
        // Its durability is `Immediate`, unless somebody asks for less.
        let transaction = self.database.begin_write()?;
        {
            let mut files = transaction.open_table(FILES)?;
            let mut deliveries = transaction.open_table(DELIVERIES)?;
            for change in changes {
                match change {
                    Change::File(id, row) => {
                        let Stamp { inode, len, modified, changed } = row.stamp;
                        let digest = row.digest.as_ref().map_or(&[][..], |digest| &digest.0);
                        let columns =
                            (&*row.path, inode, len, modified, changed, row.queued_ms, digest);
                        files.insert(id.0, columns)?;
                    }
                    Change::Delivery(id, receiver, delivery) => {
                        deliveries.insert((id.0, receiver.0), delivery_columns(delivery))?;
                    }
                    Change::Forget(id) => {
                        files.remove(id.0)?;
                        deliveries.retain_in((id.0, 0)..=(id.0, u32::MAX), |_, _| false)?;
                    }
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

fn delivery_columns(delivery: &Delivery) -> (u8, u32, &str) {
    match delivery {
        Delivery::Queued { attempts, .. } => (0, *attempts, ""),
        Delivery::Sending { attempts } => (1, *attempts, ""),
        Delivery::Delivered => (2, 0, ""),
        Delivery::GivenUp { attempts, why } => (3, *attempts, why),
    }
}

fn read_delivery(columns: (u8, u32, &str)) -> Result<Delivery, JournalError> {
    Ok(match columns {
        (0, attempts, _) => Delivery::Queued { attempts, unsure: true },
        (1, attempts, _) => Delivery::Sending { attempts },
        (2, ..) => Delivery::Delivered,
        (3, attempts, why) => Delivery::GivenUp { attempts, why: why.to_owned() },
        (state, ..) => {
            return Err(JournalError::Unreadable(format!("it knows a state {state}")));
        }
    })
}

fn read_file(columns: (&[u8], u64, u64, u64, u64, u64, &[u8])) -> FileRow {
    let (path, inode, len, modified, changed, queued_ms, digest) = columns;
    let digest = digest.try_into().ok().map(Sha256);
    FileRow { path: path.into(), stamp: Stamp { inode, len, modified, changed }, queued_ms, digest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::ledger::Ended;

    #[test]
    fn what_was_written_is_there_after_opening_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let urls = ["http://a/".to_owned(), "http://b/".to_owned()];
        let stamp = Stamp { inode: 1, len: 2, modified: 3, changed: u64::MAX };
        {
            let journal = Journal::open(&path, true).unwrap();
            journal.set_folder(b"/in").unwrap();
            let receivers = journal.number(&urls).unwrap();
            let mut ledger = journal.ledger(receivers).unwrap();
            for name in [b"one", b"two"] {
                journal.write(&ledger.seen(name, stamp, 7)).unwrap();
            }
            let (job, change) = ledger.begin(0).unwrap();
            journal.write(&[change]).unwrap();
            let ended = ledger.ended(job.id, 0, Ended::Delivered(Some(Sha256([5; 32]))));
            journal.write(&ended).unwrap();
            let (job, _) = ledger.begin(1).unwrap();
            journal.write(&ledger.ended(job.id, 1, Ended::GivenUp("no".to_owned()))).unwrap();
            journal.write(&ledger.gone(b"two").into_iter().collect::<Vec<_>>()).unwrap();
            assert!(matches!(Journal::open(&path, true), Err(JournalError::Taken)));
        }
        let journal = Journal::open(&path, false).unwrap();
        assert_eq!(journal.folder().unwrap().as_deref(), Some(&b"/in"[..]));
        let [b, c, a] = ["http://b/", "http://c/", "http://a/"].map(str::to_owned);
        let receivers = journal.number(&[b, c, a]).unwrap();
        assert_eq!(receivers, [ReceiverId(1), ReceiverId(2), ReceiverId(0)]);
        let mut ledger = journal.ledger(receivers).unwrap();
        let (_, row, deliveries) = ledger.files().next().unwrap();
        assert_eq!((&*row.path, row.stamp, row.queued_ms), (&b"one"[..], stamp, 7));
        assert_eq!(row.digest, Some(Sha256([5; 32])));
        assert_eq!(deliveries[0], Delivery::GivenUp { attempts: 1, why: "no".to_owned() });
        assert_eq!(deliveries[2], Delivery::Delivered);
        assert!(ledger.begin(1).is_some() && ledger.len() == 1);
    }

    #[test]
    fn what_is_no_journal_is_told_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let missing = Journal::open(&path, false).unwrap_err();
        assert!(matches!(&missing, JournalError::Disk(e) if e.kind() == io::ErrorKind::NotFound));
        std::fs::write(&path, "something else").unwrap();
        assert!(Journal::open(&path, true).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"something else");
    }
}
