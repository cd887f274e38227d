//! What the user sees: a bar per receiver on a terminal, JSON lines elsewhere, and the last word.

mod bars;
mod lines;

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use self::bars::Bars;
use self::lines::Lines;
use super::outcome::{Delivered, Failure, Tally};
use super::url::Url;
use crate::cli::client::ProgressForm;

/// How things are told.
#[derive(Debug)]
pub(crate) enum Show {
    Bars(Bars),
    Lines(Lines),
    /// Only failures, on standard error.
    Quiet,
}

/// How far one receiver is.
#[derive(Debug)]
pub(crate) struct Track {
    to: String,
    file: RefCell<String>,
    /// The current file, counted from one, and all of them.
    place: Cell<usize>,
    places: usize,
    sent: Cell<u64>,
    total: Cell<u64>,
    bar: Option<indicatif::ProgressBar>,
}

impl Show {
    /// Begins to tell; the other side is one that files go `to`, or come `from`.
    ///
    /// # Errors
    ///
    /// When the thread that writes lines cannot be started.
    pub(crate) fn start(form: ProgressForm, preposition: &'static str) -> io::Result<Show> {
        let bars = match form {
            ProgressForm::Auto => io::stderr().is_terminal(),
            ProgressForm::Bars => true,
            ProgressForm::Json => false,
            ProgressForm::None => return Ok(Show::Quiet),
        };
        Ok(if bars {
            Show::Bars(Bars::new(preposition))
        } else {
            Show::Lines(Lines::start(preposition)?)
        })
    }

    /// What shows how far a receiver is.
    pub(crate) fn track(&self, url: &Url, files: usize) -> Rc<Track> {
        let track = Rc::new(Track {
            to: url.to_string(),
            file: RefCell::default(),
            place: Cell::new(0),
            places: files,
            sent: Cell::new(0),
            total: Cell::new(0),
            bar: match self {
                Show::Bars(bars) => Some(bars.add(&url.to_string())),
                Show::Lines(_) | Show::Quiet => None,
            },
        });
        match self {
            Show::Bars(bars) => bars.watch(&track),
            Show::Lines(lines) => lines.watch(&track),
            Show::Quiet => {}
        }
        track
    }

    /// An attempt has failed and another one will follow.
    pub(crate) fn retrying(
        &self,
        track: &Track,
        url: &Url,
        failure: &Failure,
        attempts: u32,
        wait: Duration,
    ) {
        match self {
            Show::Bars(_) => track.say(&format!("{failure}; again in {:.1} s", wait.as_secs_f64())),
            Show::Lines(lines) => lines.retrying(track, url, failure, attempts, wait),
            Show::Quiet => {}
        }
    }

    /// The fate of a file is known.
    pub(crate) fn ended(
        &self,
        track: &Track,
        url: &Url,
        outcome: &Result<Delivered, Failure>,
        took: Duration,
    ) {
        match self {
            Show::Bars(bars) => bars.ended(track, url, outcome),
            Show::Lines(lines) => lines.ended(track, url, outcome, took),
            Show::Quiet => {
                if let Err(failure) = outcome {
                    eprintln!("ringwayd: {}, {url}: {failure}", track.file.borrow());
                }
            }
        }
    }

    /// Something has happened that is about no receiver.
    pub(crate) fn happened(&self, line: &serde_json::Value, text: &str) {
        match self {
            Show::Bars(bars) => bars.note(text),
            Show::Lines(lines) => lines.add(line),
            Show::Quiet => {}
        }
    }

    /// To be called several times a second.
    pub(crate) fn paint(&self) {
        match self {
            Show::Bars(bars) => bars.paint(),
            Show::Lines(lines) => lines.paint(),
            Show::Quiet => {}
        }
    }

    /// The last word, and the exit code.
    pub(crate) async fn finish(&self, tally: &Tally) -> ExitCode {
        match self {
            Show::Bars(_) | Show::Quiet => {}
            Show::Lines(lines) => lines.finish(tally).await,
        }
        if tally.failed.get() > 0 {
            let (failed, delivered) = (tally.failed.get(), tally.delivered.get());
            eprintln!("ringwayd: {failed} of {} deliveries failed", failed + delivered);
        }
        ExitCode::from(tally.exit_status())
    }
}

impl Track {
    /// The next file has its turn.
    pub(crate) fn next(&self, path: &Path) {
        *self.file.borrow_mut() = path.display().to_string();
        self.place.set(self.place.get() + 1);
        self.begin(0);
        self.say("waits");
    }

    /// An attempt begins for so many bytes.
    pub(crate) fn begin(&self, total: u64) {
        self.total.set(total);
        self.sent.set(0);
        self.say("");
    }

    /// So many bytes of the file have been taken by the connection.
    pub(crate) fn advance(&self, sent: u64) {
        self.sent.set(sent);
    }

    /// Bytes of the file that the connection has taken in this attempt.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bars::say(bar, &self.title(), text);
        }
    }

    /// Which file it is, for a bar.
    fn title(&self) -> String {
        let file = self.file.borrow();
        let name = Path::new(&*file).file_name().unwrap_or_default().to_string_lossy();
        match self.places {
            // None: there is no end of them.
            0 | 1 => name.into_owned(),
            places => format!("{name} ({}/{places})", self.place.get()),
        }
    }
}
