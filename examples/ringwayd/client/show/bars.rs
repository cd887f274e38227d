//! A bar per receiver on standard error.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Track;
use crate::client::outcome::{Delivered, Failure};
use crate::client::url::Url;

/// Draws a second, at most.
const DRAWS_PER_SECOND: u8 = 10;

/// All bars.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    preposition: &'static str,
    tracks: RefCell<Vec<Weak<Track>>>,
}

impl Bars {
    pub(super) fn new(preposition: &'static str) -> Bars {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        let all = MultiProgress::with_draw_target(target);
        Bars { all, preposition, tracks: RefCell::default() }
    }

    /// A bar for a receiver.
    pub(super) fn add(&self, to: &str) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template(
            "{prefix} [{bar:24}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} \
             ETA {eta} {wide_msg}",
        );
        // The template is a constant of ours; a plain bar is better than none.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(to.to_owned());
        bar
    }

    pub(super) fn watch(&self, track: &Rc<Track>) {
        self.tracks.borrow_mut().push(Rc::downgrade(track));
    }

    pub(super) fn ended(&self, track: &Track, url: &Url, outcome: &Result<Delivered, Failure>) {
        let Some(bar) = &track.bar else { return };
        follow(track);
        match outcome {
            Ok(delivered) => {
                let how = if delivered.verified { "arrived, digest confirmed" } else { "arrived" };
                say(bar, &track.title(), how);
            }
            Err(failure) => {
                // Above the bars, where it stays.
                let file = track.file.borrow();
                let line = format!("{file} {} {url}: {failure}", self.preposition);
                self.all.suspend(|| eprintln!("ringwayd: {line}"));
                say(bar, &track.title(), "failed");
            }
        }
        if track.place.get() == track.places {
            bar.abandon();
        }
    }

    /// A line above the bars.
    pub(super) fn note(&self, text: &str) {
        self.all.suspend(|| eprintln!("ringwayd: {text}"));
    }

    pub(super) fn paint(&self) {
        self.tracks.borrow().iter().filter_map(Weak::upgrade).for_each(|track| follow(&track));
    }
}

/// Sets the text behind a bar.
pub(super) fn say(bar: &ProgressBar, title: &str, text: &str) {
    let comma = if text.is_empty() { "" } else { ", " };
    bar.set_message(format!("{title}{comma}{text}"));
}

/// Brings a bar to where its track is.
fn follow(track: &Track) {
    let Some(bar) = &track.bar else { return };
    bar.set_length(track.total.get());
    if track.sent.get() < bar.position() {
        // It begins anew, and so does its rate.
        bar.reset_eta();
        bar.set_elapsed(Duration::ZERO);
    }
    bar.set_position(track.sent.get());
}
