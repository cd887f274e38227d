//! `ringwayd status`: how a watch stands, as the running daemon tells it over a socket in its state
//! folder, or as its journal has it when it does not run.
//!
//! ```text
//! status ─▶ {"retry": null | [] | ["path", …]}⏎ ─▶ daemon
//!        ◀─ one JSON object, then the end ◀──────
//! ```

mod report;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use ringway::runtime::net::{Half, UnixListener, UnixStream};
use ringway::runtime::{JoinHandle, spawn, time};
use serde_json::{Value, json};

use self::report::{Figures, report};
use super::daemon::Daemon;
use super::journal::{Journal, JournalError};
use super::ledger::{Change, Delivery, ReceiverId};
use super::spool::now_ms;
use super::{JOURNAL, SOCKET};
use crate::cli::watch::Status;
use crate::client::url::Url;
use crate::state;

/// Bytes of a question, at most.
const QUESTION_BYTES_MAX: usize = 1024 * 1024;
/// How long a guest may take.
const GUEST_TIME: Duration = Duration::from_secs(5);
/// How long a daemon may have its journal without answering, while it starts or ends.
const BETWEEN_MAX: Duration = Duration::from_secs(5);

/// Asks how things stand, and tells it.
///
/// # Errors
///
/// When there is neither a daemon nor a journal.
pub(crate) fn run(settings: &Status) -> anyhow::Result<ExitCode> {
    let state = state::folder(settings.state_dir.as_deref())?;
    let question = json!({ "retry": settings.retry });
    let deadline = Instant::now() + BETWEEN_MAX;
    let answer = loop {
        match ask(&state.join(SOCKET), &question) {
            Ok(answer) => break answer,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
            Err(error) => return Err(error).context("the daemon does not answer"),
        }
        match read_journal(&state.join(JOURNAL), &question) {
            // It has the journal and no socket: it is about to start or to end.
            Err(error) if is_taken(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => break answer?,
        }
    };
    let answer: Value = serde_json::from_str(&answer).context("the daemon's answer is no JSON")?;
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    let text = if settings.json { format!("{answer}\n") } else { report::text(&answer) };
    // Who has closed the other end wants no more of it.
    _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn ask(socket: &Path, question: &Value) -> std::io::Result<String> {
    let mut stream = StdUnixStream::connect(socket)?;
    stream.set_read_timeout(Some(2 * GUEST_TIME))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What the journal says while nobody else has it.
fn read_journal(path: &Path, question: &Value) -> anyhow::Result<String> {
    let shown = path.display();
    let journal = Journal::open(path, false).map_err(|error| match error {
        JournalError::Disk(error) if error.kind() == ErrorKind::NotFound => anyhow!(
            "there is no journal {shown}: `ringwayd watch` has not run with this --state-dir"
        ),
        other => anyhow::Error::new(other).context(format!("cannot read the journal {shown}")),
    })?;
    let unreadable = || format!("cannot read the journal {shown}");
    let receivers = journal.receivers().with_context(unreadable)?;
    let ids: Vec<ReceiverId> = receivers.values().copied().collect();
    let mut ledger = journal.ledger(ids).with_context(unreadable)?;
    let mut retried = None;
    if let Some(wanted) = wanted(question)? {
        let changes = ledger.retry(|path| wanted.has(path), now_ms());
        journal.write(&changes).with_context(|| format!("cannot write the journal {shown}"))?;
        retried = Some(deliveries(&changes));
    }
    let folder = journal.folder().with_context(unreadable)?.unwrap_or_default();
    let figures: Vec<Figures> =
        receivers.keys().map(|url| Figures { to: shown_url(url), ..Figures::default() }).collect();
    let mut answer = report(&ledger, &figures);
    answer["running"] = json!(false);
    answer["folder"] = json!(String::from_utf8_lossy(&folder));
    answer["retried"] = json!(retried);
    Ok(answer.to_string())
}

fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<JournalError>(), Some(JournalError::Taken))
}

/// A URL without what may be a password.
fn shown_url(text: &str) -> String {
    Url::parse(text).map_or_else(|_| "?".to_owned(), |url| url.to_string())
}

/// Answers on a socket as long as the ring lives.
///
/// # Errors
///
/// When the socket cannot be made.
pub(crate) fn listen(daemon: &Rc<Daemon>, socket: &Path) -> anyhow::Result<JoinHandle<()>> {
    // The journal is ours, so nobody else can be listening.
    _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| {
        let shown = socket.display();
        format!("cannot make the socket {shown}: name another folder with --state-dir")
    })?;
    // The state folder may be older than the daemon, and open to others.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let daemon = Rc::clone(daemon);
    Ok(spawn(async move {
        // One after another: who asks waits for a list, not for a transfer.
        loop {
            match listener.accept().await {
                Ok(stream) => _ = time::timeout(GUEST_TIME, answer(stream, &daemon)).await,
                Err(_) => time::sleep(Duration::from_millis(100)).await,
            }
        }
    }))
}

async fn answer(mut stream: UnixStream, daemon: &Daemon) -> std::io::Result<()> {
    let mut question = Vec::new();
    let mut piece = [0; 4096];
    while !question.ends_with(b"\n") && question.len() < QUESTION_BYTES_MAX {
        match stream.read(&mut piece).await? {
            0 => break,
            len => question.extend_from_slice(&piece[..len]),
        }
    }
    let answer =
        reply(&question, daemon).unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
    stream.write_all(answer.to_string().as_bytes()).await?;
    stream.shutdown(Half::Write)
}

fn reply(question: &[u8], daemon: &Daemon) -> anyhow::Result<Value> {
    let question: Value = serde_json::from_slice(question).context("the question is no JSON")?;
    let retried = wanted(&question)?.map(|wanted| daemon.retry(|path| wanted.has(path)));
    let figures: Vec<Figures> = daemon
        .meters
        .iter()
        .map(|meter| Figures {
            to: meter.url.to_string(),
            files: meter.files.get(),
            bytes: meter.bytes.get(),
            bytes_per_second: meter.bytes_per_second.get(),
            last_error: meter.last_error.borrow().clone(),
        })
        .collect();
    let mut answer = report(&daemon.ledger.borrow(), &figures);
    answer["running"] = json!(true);
    answer["folder"] = json!(daemon.folder.display().to_string());
    answer["done"] = json!(daemon.done.to_string());
    answer["journal_error"] = json!(daemon.line.ailment());
    answer["retried"] = json!(retried);
    Ok(answer)
}

/// Which dead letters are to be queued again.
enum Wanted {
    All,
    Paths(Vec<String>),
}

impl Wanted {
    fn has(&self, path: &[u8]) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Paths(paths) => paths.iter().any(|wanted| wanted.as_bytes() == path),
        }
    }
}

fn wanted(question: &Value) -> anyhow::Result<Option<Wanted>> {
    let Some(paths) = question["retry"].as_array() else { return Ok(None) };
    let texts = paths.iter().map(|path| path.as_str().map(str::to_owned));
    let texts: Option<Vec<String>> = texts.collect();
    ensure!(texts.is_some(), "a path is a text");
    let texts = texts.unwrap_or_default();
    Ok(Some(if texts.is_empty() { Wanted::All } else { Wanted::Paths(texts) }))
}

fn deliveries(changes: &[Change]) -> usize {
    let queued = |change: &&Change| matches!(change, Change::Delivery(.., Delivery::Queued { .. }));
    changes.iter().filter(queued).count()
}
