//! The kinds of memory that an op can own.

use bytes::Bytes;

use super::Lease;

/// Memory in a slot. None of these moves its bytes when it is moved itself.
pub(crate) enum Buffer {
    Lease(Lease),
    Vec(Vec<u8>),
    Bytes(Bytes),
}

mod sealed {
    pub(crate) use super::Buffer;

    pub trait Sealed: Sized {
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
        fn into_buffer(self) -> Buffer;
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
        fn from_buffer(buffer: Buffer) -> Option<Self>;
    }
}

/// Memory that can be sent or written: a [`Lease`], a `Vec<u8>` or [`Bytes`].
///
/// The set is closed, because an op must be able to keep the memory when its future is gone.
pub trait IoBuf: sealed::Sealed + AsRef<[u8]> + 'static {}

/// Memory that can be received or read into: a [`Lease`] or a `Vec<u8>`.
///
/// A lease is filled from its start up to its capacity, and its length becomes what was read. A
/// vector is filled from its start up to its *length*, and truncated to what was read.
pub trait IoBufMut: IoBuf {}

impl sealed::Sealed for Lease {
    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn into_buffer(self) -> Buffer {
        Buffer::Lease(self)
    }

    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn from_buffer(buffer: Buffer) -> Option<Self> {
        if let Buffer::Lease(lease) = buffer { Some(lease) } else { None }
    }
}

impl sealed::Sealed for Vec<u8> {
    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn into_buffer(self) -> Buffer {
        Buffer::Vec(self)
    }

    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn from_buffer(buffer: Buffer) -> Option<Self> {
        if let Buffer::Vec(vec) = buffer { Some(vec) } else { None }
    }
}

impl sealed::Sealed for Bytes {
    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn into_buffer(self) -> Buffer {
        Buffer::Bytes(self)
    }

    #[expect(private_interfaces, reason = "the set of buffers is closed on purpose")]
    fn from_buffer(buffer: Buffer) -> Option<Self> {
        if let Buffer::Bytes(bytes) = buffer { Some(bytes) } else { None }
    }
}

impl IoBuf for Lease {}
impl IoBuf for Vec<u8> {}
impl IoBuf for Bytes {}
impl IoBufMut for Lease {}
impl IoBufMut for Vec<u8> {}

impl Buffer {
    /// Where bytes to send begin, and how many there are.
    pub(crate) fn filled(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Vec(vec) => vec,
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Where bytes can be read to, and how many fit; a [`Bytes`] takes none.
    pub(crate) fn room(&mut self) -> (*mut u8, usize) {
        match self {
            Self::Lease(lease) => (lease.spare_mut().as_mut_ptr(), lease.capacity()),
            Self::Vec(vec) => (vec.as_mut_ptr(), vec.len()),
            Self::Bytes(_) => (std::ptr::NonNull::dangling().as_ptr(), 0),
        }
    }

    /// The first `len` bytes were written by the kernel.
    pub(crate) fn set_filled(&mut self, len: usize) {
        match self {
            Self::Lease(lease) => lease.set_filled(len),
            Self::Vec(vec) => vec.truncate(len),
            Self::Bytes(_) => {}
        }
    }

    /// The index under which the memory is registered with the ring, if it is.
    pub(crate) fn registered(&self) -> Option<u16> {
        match self {
            Self::Lease(lease) => lease.registered(),
            Self::Vec(_) | Self::Bytes(_) => None,
        }
    }
}
