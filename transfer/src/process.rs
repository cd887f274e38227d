//! What may be done to the bytes of a file on their way: select, change, convert, add.
//!
//! A [`Processor`] is shown a file window by window and says in order what to send of each. Give it to
//! [`Transfer::process`](crate::Transfer::process):
//!
//! ```no_run
//! # async fn example(file: ringway::runtime::fs::File, mut stream: ringway::runtime::net::TcpStream)
//! # -> Result<(), ringway::TransferError> {
//! use ringway::{process::RecordFilter, transfer_file};
//!
//! // Records of 1 KiB whose first four bytes say which tenant they belong to.
//! let filter = RecordFilter::fixed(1024, |head| head.read(0) == Some(7u32.to_le_bytes()));
//! let receipt = transfer_file(&file, &mut stream).process(filter).await?;
//! println!("{receipt}");
//! # Ok(()) }
//! ```
//!
//! # The length is not known beforehand
//!
//! What goes out is known when the last window has been processed, and not before. So:
//!
//! - a **header** cannot announce it. Over HTTP send the body in chunks or end it by closing; a
//!   `Content-Length` is right only for a processor that keeps the size, such as [`Replace`];
//! - [`expecting`](crate::Transfer::expecting) is therefore not checked before the start. It is a bound
//!   that is never exceeded, and a transfer that ends below it fails with
//!   [`SizeMismatch`](crate::error::ErrorKind::SizeMismatch);
//! - in the **receipt** `bytes` is what went out, `file_bytes` those of them that stood in the file
//!   (changed in place or not), and [`Processed`](crate::receipt::Processed) tells how much was scanned;
//! - **progress** compares `scanned` with `total`, which counts the source; `sent` has no total.
//!
//! # What was inspected, and what is sent
//!
//! Under [`Consistency::Shared`] unchanged bytes may leave by reference: who overwrites the file in
//! place meanwhile can have one content inspected and another one sent. Under
//! [`Consistency::Snapshot`] a window is read into memory of our own first, and what was inspected is
//! what is sent. A processor says which of the two it needs where the caller does not
//! ([`Processor::consistency`]): digests, and filters that [guard](RecordFilter::guarding) something,
//! ask for a snapshot, because a digest of other bytes and a filter that can be tricked are worth nothing.
//!
//! # When a processor fails
//!
//! One that returns an error, panics, asks for bytes outside of its window or goes on using none ends
//! the transfer in an error with the exact count of bytes sent. Nothing of that window is sent.

mod answer;
mod budget;
mod changes;
#[cfg(feature = "digest")]
mod digest;
mod fault;
mod limits;
mod output;
mod record_filter;
mod rehearsal;
mod replace;
mod window;

pub(crate) use answer::Answer;
#[doc(hidden)]
pub use answer::Piece;
pub(crate) use budget::Due;
#[doc(hidden)]
pub use changes::Changes;
#[cfg(feature = "digest")]
pub use digest::{Algorithm, All, Digesting};
pub use fault::ProcessorFault;
pub use limits::WindowLimits;
pub use output::{Full, Output};
pub use record_filter::{AnyContent, Framing, Record, RecordFilter};
pub use rehearsal::rehearse;
pub use replace::Replace;
pub(crate) use window::View;
pub use window::{NotChanged, Window};

use crate::plan::Consistency;

/// Bytes that a processor can always write in a turn.
pub(crate) const WRITES_MIN: usize = 4096;

/// Why a processor gives up. Anything that is an error turns into it by `?`.
pub type ProcessError = Box<dyn std::error::Error + Send + Sync>;

/// Looks at the windows of a file and says what to send.
///
/// ```
/// use ringway::process::{Output, ProcessError, Processor, Window, rehearse};
///
/// /// Sends each line that begins with `!`, and at the end how many those were.
/// #[derive(Default)]
/// struct Loud(u32);
///
/// impl Processor for Loud {
///     fn process(&mut self, window: &mut Window<'_>, output: &mut Output<'_>)
///     -> Result<usize, ProcessError> {
///         let (mut line, mut at) = (0, 0);
///         while let Some(byte) = window.byte(at) {
///             at += 1;
///             if byte == b'\n' {
///                 if window.byte(line) == Some(b'!') {
///                     self.0 += 1;
///                     output.send(line..at);
///                 }
///                 line = at;
///             }
///         }
///         // The line that goes on beyond the window is shown again with what follows.
///         Ok(if window.is_last() { window.len() } else { line })
///     }
///
///     fn end(&mut self, output: &mut Output<'_>) -> Result<(), ProcessError> {
///         Ok(output.write(format!("{} in all\n", self.0).as_bytes())?)
///     }
/// }
///
/// let sent = rehearse(Loud::default(), b"!yes\nno\n!yes\n", 4)?;
/// assert_eq!(sent, b"!yes\n!yes\n2 in all\n");
/// # Ok::<(), ringway::process::ProcessError>(())
/// ```
pub trait Processor {
    /// Says what to send of a window, by calling `output`, and returns how many bytes of the window it
    /// has dealt with. The rest is shown again together with what follows; if it uses none, a longer
    /// window is shown, up to [`WindowLimits::window_max_bytes`].
    ///
    /// It runs on the event loop: return early when [`Window::is_due`] or [`Output::is_full`], or let
    /// [`process_on`](crate::Transfer::process_on) run it elsewhere.
    ///
    /// # Errors
    ///
    /// Whatever ends the transfer. Nothing of this window is sent then.
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError>;

    /// Called once after the last window: the place for a trailer. There is no window to send from.
    ///
    /// # Errors
    ///
    /// Whatever ends the transfer.
    fn end(&mut self, output: &mut Output<'_>) -> Result<(), ProcessError> {
        let _ = output;
        Ok(())
    }

    /// The consistency that it needs, where the caller has not chosen one.
    fn consistency(&self) -> Consistency {
        Consistency::Shared
    }

    /// Whether it changes windows in place. The pages of such a window are private copies once they are
    /// changed, so it costs more to have.
    fn changes(&self) -> bool {
        false
    }

    /// How many bytes it wants to [`write`](Output::write) in each turn. With more than 4 KiB, which is
    /// what there is always room for, a buffer of the runtime's pool is lent for each window; it may be
    /// smaller: [`Output::room`] tells.
    fn writes(&self) -> usize {
        0
    }
}

impl<P: Processor + ?Sized> Processor for &mut P {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        (**self).process(window, output)
    }

    fn end(&mut self, output: &mut Output<'_>) -> Result<(), ProcessError> {
        (**self).end(output)
    }

    fn consistency(&self) -> Consistency {
        (**self).consistency()
    }

    fn changes(&self) -> bool {
        (**self).changes()
    }

    fn writes(&self) -> usize {
        (**self).writes()
    }
}
