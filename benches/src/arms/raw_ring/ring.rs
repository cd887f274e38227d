//! A ring of a few entries: push, enter, reap.

use anyhow::{Context, Result};
use io_uring::{IoUring, squeue};

/// What a completion says: who asked, the outcome, and the flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) asked_by: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Done {
    /// The count that the op gives back.
    ///
    /// # Errors
    ///
    /// The op failed.
    pub(super) fn count(&self, what: &str) -> Result<usize> {
        usize::try_from(self.result)
            .map_err(|_| std::io::Error::from_raw_os_error(-self.result))
            .with_context(|| format!("{what} by the ring"))
    }
}

/// A ring for one thread.
pub(super) struct Ring {
    ring: IoUring,
    reaped: Vec<Done>,
}

impl Ring {
    /// For as many ops at once as `entries`.
    pub(super) fn new(entries: u32) -> Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(entries * 4).dontfork();
        let ring = builder.build(entries).context("no ring can be set up")?;
        Ok(Self { ring, reaped: Vec::with_capacity(entries as usize * 4) })
    }

    /// Registers memory for the ops of this ring.
    pub(super) fn register(&self, buffers: &mut [memmap2::MmapMut]) -> Result<()> {
        let vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        // SAFETY: the caller keeps the mappings, in fields that are dropped after the ring, for as long as
        // the ring exists.
        unsafe { self.ring.submitter().register_buffers(&vectors) }
            .context("the buffers cannot be registered")
    }

    /// Puts an op into the queue, and hands the queue in if it is full. The caller keeps everything that
    /// the op points at (descriptors, buffers) alive and in place until its completion was reaped.
    pub(super) fn push(&mut self, entry: &squeue::Entry, asked_by: u64) -> Result<()> {
        let entry = entry.clone().user_data(asked_by);
        loop {
            // SAFETY: every caller in this room owns the descriptors and buffers of its ops in the arm
            // itself, whose ring is the first field and so is gone before they are; and no arm moves or
            // frees a buffer while it is in flight.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            match pushed {
                Ok(()) => return Ok(()),
                Err(_) => self.ring.submit()?,
            };
        }
    }

    /// Hands everything in, waits for one completion at least, and gives back all that are there.
    pub(super) fn wait(&mut self) -> Result<&[Done]> {
        self.wait_for(1)
    }

    /// The same for at least `count` completions.
    pub(super) fn wait_for(&mut self, count: usize) -> Result<&[Done]> {
        loop {
            match self.ring.submit_and_wait(count) {
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("io_uring_enter(2)"),
            }
        }
        let entries = self.ring.completion();
        self.reaped.clear();
        self.reaped.extend(entries.map(|entry| Done {
            asked_by: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        Ok(&self.reaped)
    }
}
