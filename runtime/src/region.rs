//! Mapped regions: windows over files, in memory, that cannot crash the process.
//!
//! [`map`] makes a [`Window`]: a range of a file whose pages are present before you touch them, so that
//! the loop does not wait for a disk. [`Window::read`] looks at it, [`Window::write`] changes it,
//! [`Window::flush`] makes that durable. What is mapped is bounded by the configuration
//! ([`Config::regions_max`](crate::Config::regions_max) and its neighbours), and a [`Refusal`] is a value:
//! read the file instead.
//!
//! # What a map does not do
//!
//! It locks nothing. Others can change the file while you look, and truncate it under you. Then
//!
//! - a page that is gone is replaced by zeros, instead of `SIGBUS`, and the region is *poisoned*: the
//!   result of `read` or `write` is an error, for everybody who holds it, for good;
//! - the rest of the file's last page reads as zeros *without any signal*, and private pages *lose what
//!   was stored in them*: so the file's length is compared too, after the work;
//! - a truncation that is undone before the comparison is not seen. A [`ReadLease`] prevents it, where
//!   the kernel gives one; a copy is immune.
//!
//! # Why there are no slices
//!
//! Memory that changes behind the compiler's back must not be a `&[u8]`, and less so a `&mut [u8]`. This
//! holds for private (copy-on-write) windows too. Until a page is written it *is* the file's page, and
//! shows its changes; and even pages that were all written first are discarded when the file is
//! truncated. So a [`View`] gives numbers and copies, made by atomic loads of words, which is sound
//! against threads and processes alike, and as fast: a scan copies 8 KiB at a time into the processor's
//! first cache and hands you that, as a slice that is yours. For something immutable, copy into a lease
//! or a vector, then check, then act.
//!
//! # Signals
//!
//! The first mapping installs a handler of `SIGBUS` for the process. Faults that are not in a region go
//! to the handler that was there before. If another library puts its own handler over it later, mapping
//! is refused ([`Refusal::HandlerReplaced`]). A thread that touches a window must not block `SIGBUS`;
//! each is unblocked when it first does.
//!
//! Regions are never registered with the ring: a private one would be copied as a whole, and a shared
//! one refused.

pub use crate::mem::region::{
    Access, Cause, Intent, LeaseRefusal, Options, Pen, Poisoned, Populate, Populating, ReadLease,
    Refusal, View, Window, WriteError, forget, map, preallocate, read_lease,
};
