//! What this kernel and these limits allow, found out when a ring starts.

use std::fmt;

use crate::sys::pipe;
use crate::sys::probe::{self, Listed};
use crate::sys::ring::{Ring, Setup};

/// What a ring can do here. Printed, it is a report for the operator, a line each.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Capabilities {
    /// Release of the running kernel.
    pub kernel: String,
    /// The setup that was granted.
    pub setup: Setup,
    /// Entries of the submission queue.
    pub submission_entries: u32,
    /// Entries of the completion queue.
    pub completion_entries: u32,
    /// splice(2) works, which was tried.
    pub splice: bool,
    /// The kernel lists `IORING_OP_SPLICE`.
    pub splice_op: bool,
    /// The kernel lists `IORING_OP_SEND_ZC`.
    pub send_zero_copy: bool,
    /// cachestat(2) exists, so residency in the page cache can be asked for.
    pub residency: bool,
    /// Why the buffers are not registered; `None` if they are.
    pub unregistered_buffers: Option<String>,
}

impl Capabilities {
    pub(crate) fn probe(ring: &Ring, unregistered_buffers: Option<String>) -> Self {
        let listed = Listed::ask(ring);
        Self {
            kernel: probe::kernel_release(),
            setup: ring.setup(),
            submission_entries: ring.sq_entries(),
            completion_entries: ring.cq_entries(),
            splice: pipe::splice_works(),
            splice_op: listed.splice(),
            send_zero_copy: listed.send_zero_copy(),
            residency: probe::has_cachestat(ring),
            unregistered_buffers,
        }
    }

    /// Whether the buffers are registered with the ring.
    #[must_use]
    pub fn registered_buffers(&self) -> bool {
        self.unregistered_buffers.is_none()
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        writeln!(f, "kernel: Linux {}", self.kernel)?;
        writeln!(
            f,
            "ring: {:?}, {} submissions, {} completions",
            self.setup, self.submission_entries, self.completion_entries
        )?;
        writeln!(f, "splice: {}, in the ring: {}", yes(self.splice), yes(self.splice_op))?;
        writeln!(f, "zero-copy send: {}", yes(self.send_zero_copy))?;
        writeln!(f, "residency by cachestat(2): {}", yes(self.residency))?;
        match &self.unregistered_buffers {
            None => write!(f, "registered buffers: yes"),
            Some(reason) => write!(f, "registered buffers: no ({reason})"),
        }
    }
}
