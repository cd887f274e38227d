//! PURE: how far the runs of one window have gone out.
//!
//! ```text
//!   runs   [ gathered | by reference   | by reference | gathered ]
//!            accepted   accepted|staged  staged         not yet
//!                               tail ────────── head
//! ```
//!
//! Only runs by reference are ever staged: they lie in a pipe between file and socket. What is gathered
//! goes to the socket with nothing in between.

use ringway_runtime::fault::{Sabotage, sabotaged};

use super::runs::{Origin, Run, Texture};
use crate::receipt::Processed;

/// The runs of a window, and the two positions in them.
#[derive(Debug, Default)]
pub struct Outgoing {
    runs: Vec<Run>,
    tail: At,
    head: At,
    staged: u64,
    remaining: u64,
}

/// A run, and a number of bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct At {
    run: usize,
    into: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Everything was accepted.
    Done,
    /// Move staged bytes into the socket; and before it, stage what else follows by reference.
    Drain,
    /// Stage file bytes.
    #[expect(missing_docs, reason = "a range of the file, in bytes")]
    Reference { offset: u64, len: u64 },
    /// Send what [`Outgoing::gathered`] lists.
    Gather,
}

/// A report that cannot be true: more bytes than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond;

impl Outgoing {
    /// Begins with other runs, which `fill` appends to an empty list.
    pub fn load(&mut self, fill: impl FnOnce(&mut Vec<Run>)) {
        self.runs.clear();
        fill(&mut self.runs);
        self.runs.retain(|run| run.len() > 0);
        self.tail = At::default();
        self.head = At::default();
        self.staged = 0;
        self.remaining = self.runs.iter().map(|run| run.len()).sum();
    }

    /// What to do now. Asking twice without reporting gives it twice.
    #[must_use]
    pub fn next(&self) -> Next {
        if self.staged > 0 {
            return Next::Drain;
        }
        match self.rest(self.tail) {
            None => Next::Done,
            Some(Run::File { offset, len }) => Next::Reference { offset, len },
            Some(_) => Next::Gather,
        }
    }

    /// What else may be staged behind what is staged already.
    pub fn stageable(&self) -> Option<(u64, u64)> {
        match self.rest(self.head) {
            Some(Run::File { offset, len }) => Some((offset, len)),
            _ => None,
        }
    }

    /// The runs from the first byte not accepted up to the next one by reference.
    pub fn gathered(&self) -> impl Iterator<Item = Run> + '_ {
        let first = self.rest(self.tail);
        let others = self.runs.get(self.tail.run + 1..).unwrap_or_default().iter().copied();
        first.into_iter().chain(others).take_while(|run| !matches!(run, Run::File { .. }))
    }

    /// What is kept looks like this, of a window of so many bytes.
    pub fn texture(&self, window: u64) -> Texture {
        Texture::of(&self.runs, window)
    }

    /// Bytes that the socket has not accepted.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Bytes in a pipe.
    #[must_use]
    pub fn staged(&self) -> u64 {
        self.staged
    }

    /// `n` bytes of the run that the head stands in are in a pipe now.
    ///
    /// # Errors
    ///
    /// [`Beyond`] if the run has fewer, or is gathered.
    pub fn stage(&mut self, n: u64) -> Result<(), Beyond> {
        match self.rest(self.head) {
            Some(run @ Run::File { .. }) if n <= run.len() => {}
            _ => return Err(Beyond),
        }
        self.head = self.advanced(self.head, n);
        self.staged += n;
        Ok(())
    }

    /// The socket accepted `n` bytes: staged ones if there are any, gathered ones otherwise.
    ///
    /// # Errors
    ///
    /// [`Beyond`] if there are fewer.
    pub fn accept(&mut self, n: u64, account: &mut Processed) -> Result<(), Beyond> {
        let most = if self.staged > 0 { self.staged } else { self.remaining };
        if n > most {
            return Err(Beyond);
        }
        let mut left = n;
        while left > 0 {
            let Some(run) = self.rest(self.tail) else { return Err(Beyond) };
            let moved = left.min(run.len());
            count(run, moved, account);
            self.tail = self.advanced(self.tail, moved);
            left -= moved;
        }
        self.remaining -= n;
        if self.staged > 0 {
            self.staged -= n;
        } else {
            self.head = self.tail;
        }
        Ok(())
    }

    /// What is staged was thrown away. Returns how many bytes that were.
    pub fn rewind(&mut self) -> u64 {
        self.head = self.tail;
        std::mem::take(&mut self.staged)
    }

    /// Rewrites the runs that are left, one by one, and forgets those that are done.
    pub fn rewrite(&mut self, mut change: impl FnMut(Run) -> Run) {
        self.rewind();
        let (tail, mut rest) = (self.tail, self.rest(self.tail));
        if sabotaged(Sabotage::RunSentAgain) {
            rest = self.runs.get(tail.run).copied();
        }
        let mut left: Vec<Run> = rest.into_iter().map(&mut change).collect();
        left.extend(self.runs.iter().skip(tail.run + 1).map(|run| change(*run)));
        self.runs = left;
        (self.tail, self.head) = (At::default(), At::default());
    }

    fn rest(&self, at: At) -> Option<Run> {
        self.runs.get(at.run).map(|run| run.after(at.into))
    }

    /// A position never stands at the end of a run, but at the beginning of the next one.
    fn advanced(&self, mut at: At, n: u64) -> At {
        at.into += n;
        while let Some(run) = self.runs.get(at.run)
            && at.into >= run.len()
        {
            at.into -= run.len();
            at.run += 1;
        }
        at
    }
}

fn count(run: Run, bytes: u64, account: &mut Processed) {
    let counter = match run {
        Run::File { .. } => &mut account.referenced_bytes,
        Run::Window { .. } | Run::Kept { was: Origin::Window, .. } => &mut account.gathered_bytes,
        Run::Changed { .. } | Run::Kept { was: Origin::Changed, .. } => &mut account.changed_bytes,
        Run::Made { .. } | Run::Own { .. } | Run::Kept { was: Origin::Made, .. } => {
            &mut account.added_bytes
        }
        // What nobody looked at is the rest of the account.
        Run::Memory { .. } => return,
    };
    *counter += bytes;
}
