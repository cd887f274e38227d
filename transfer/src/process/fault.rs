//! What a processor can do wrong.

use std::fmt;

/// How a processor ended its transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "all fields are bytes within the window, or named by the sentence")]
pub enum ProcessorFault {
    /// It returned an error, which is the source of this one.
    Failed,
    /// It panicked.
    Panicked,
    /// It asked for bytes `from..to` of a window of `window` bytes.
    OutsideWindow { from: usize, to: usize, window: usize },
    /// It asked for bytes up to `to`, and then said that it had used `used` only: the rest would be
    /// shown, and sent, twice.
    SentUnused { to: usize, used: usize },
    /// It said that it had used `used` bytes of a window of `window`.
    UsedTooMuch { used: usize, window: usize },
    /// It used nothing of the longest window that there may be, or of the last one, which was `window`
    /// bytes; or too often in a row while it sent bytes of its own.
    Stuck { window: usize },
    /// It asked for more than `max` pieces in one turn.
    TooManyPieces { max: usize },
    /// Whoever was to run it dropped it instead.
    Lost,
}

impl ProcessorFault {
    /// What to do about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Failed => "see the source of this error",
            Self::Panicked => "mend the processor",
            Self::OutsideWindow { .. } => "ask for bytes that the window has",
            Self::SentUnused { .. } => "send only what is used up",
            Self::UsedTooMuch { .. } => "return at most the length of the window",
            Self::Stuck { .. } => {
                "raise WindowLimits::window_max_bytes if records are that long, and use up the last \
                 window"
            }
            Self::TooManyPieces { .. } => {
                "return when Output::is_full, or raise WindowLimits::pieces_max"
            }
            Self::Lost => "run the work that process_on hands over",
        }
    }
}

impl fmt::Display for ProcessorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the processor ")?;
        match self {
            Self::Failed => f.write_str("gave up"),
            Self::Panicked => f.write_str("panicked"),
            Self::OutsideWindow { from, to, window } => {
                write!(f, "asked for bytes {from} to {to} of a window of {window}")
            }
            Self::SentUnused { to, used } => {
                write!(f, "sent bytes up to {to} and used {used} only")
            }
            Self::UsedTooMuch { used, window } => {
                write!(f, "used {used} bytes of a window of {window}")
            }
            Self::Stuck { window } => write!(f, "goes on using nothing of {window} bytes"),
            Self::TooManyPieces { max } => write!(f, "asked for more than {max} pieces at once"),
            Self::Lost => f.write_str("was dropped before it had answered"),
        }
    }
}

impl std::error::Error for ProcessorFault {}
