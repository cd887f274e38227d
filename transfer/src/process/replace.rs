//! Replacing a field by one of the same size, wherever it stands.

use super::{Output, ProcessError, Processor, Window};

/// Finds every occurrence of some bytes and sends others of the same length instead, so the size of the
/// body stays what it was, and a `Content-Length` may announce it.
///
/// Occurrences do not overlap: after one the search goes on behind it. One that straddles two windows is
/// found.
///
/// ```
/// use ringway::process::{Replace, rehearse};
///
/// let masked = Replace::new(*b"4711", *b"****");
/// assert_eq!(rehearse(masked, b"card 4711, pin 47114711", 5)?, b"card ****, pin ********");
/// # Ok::<(), ringway::process::ProcessError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Replace {
    find: Vec<u8>,
    with: Vec<u8>,
    replaced: u64,
}

impl Replace {
    /// Sends `with` for each `find`.
    ///
    /// # Panics
    ///
    /// If `N` is 0: nothing is nowhere and everywhere.
    #[must_use]
    pub fn new<const N: usize>(find: [u8; N], with: [u8; N]) -> Self {
        assert!(N > 0, "a field of no bytes cannot be found");
        Self { find: find.into(), with: with.into(), replaced: 0 }
    }

    /// Occurrences that were replaced so far.
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.replaced
    }
}

impl Processor for Replace {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let len = self.find.len();
        let mut at = 0;
        while let Some(found) = window.find(at, &self.find) {
            window.write(found, &self.with)?;
            self.replaced += 1;
            at = found + len;
            if window.is_due() {
                output.send(0..at);
                return Ok(at);
            }
        }
        // The last bytes may be the beginning of an occurrence.
        let kept_back = if window.is_last() { 0 } else { len - 1 };
        let used = at.max(window.len().saturating_sub(kept_back));
        output.send(0..used);
        Ok(used)
    }

    fn changes(&self) -> bool {
        true
    }
}
