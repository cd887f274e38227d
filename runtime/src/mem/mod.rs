//! Memory that the kernel reads from and writes to.
//!
//! # Safety
//!
//! A [`Lease`] is the exclusive right to one slot of an arena that is mapped for as long as any
//! lease or the pool lives. A slot's index is either in the free list or in exactly one lease, so two
//! leases never overlap. While an op is in flight its buffer sits in the op's slot (see
//! [`crate::op`]), where nobody can look at it.

mod buffer;
mod pool;
pub(crate) mod region;
mod slots;

pub(crate) use buffer::Buffer;
pub use buffer::{IoBuf, IoBufMut};
pub use pool::Lease;
pub(crate) use pool::Pool;
pub(crate) use slots::Vector;
pub use slots::{SLOTS_MAX, Slots};
