//! Submission entries: the only place that builds them, and so the list of what may be asked.
//!
//! A constructor takes descriptors and addresses as numbers. It does not own them: the op slot
//! does (see [`crate::op`]), and only `op` hands an [`Sqe`] on.

use std::os::fd::RawFd;
#[cfg(feature = "fault")]
use std::ptr;

use io_uring::types::{Fd, FsyncFlags, OpenHow};
use io_uring::{opcode, squeue};

/// The most bytes that one read, send or splice takes (`MAX_RW_COUNT` in the kernel).
pub(crate) const LENGTH_MAX: u32 = 0x7fff_f000;

/// `POLLIN`: there is something to read or to accept, or the peer has finished sending.
pub(crate) const READABLE: u32 = 1;
/// `POLLOUT`: there is room to write.
pub(crate) const WRITABLE: u32 = 4;
/// `POLLRDHUP`: the peer sends nothing more.
pub(crate) const FINISHED: u32 = 0x2000;

/// Never a signal, and never a wait with the buffer in hand: a full socket answers `EAGAIN`.
const MSG_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
/// Ask the notification of a zero-copy send whether the kernel copied after all.
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;

/// One submission, its name for errors and counters, and the most completions it can post.
#[derive(Clone)]
pub(crate) struct Sqe {
    entry: squeue::Entry,
    name: &'static str,
    completions_max: u32,
    is_standing: bool,
}

impl Sqe {
    fn new(name: &'static str, entry: squeue::Entry) -> Self {
        Self { entry, name, completions_max: 1, is_standing: false }
    }

    pub(super) fn entry(&self) -> &squeue::Entry {
        &self.entry
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn completions_max(&self) -> u32 {
        self.completions_max
    }

    /// Whether it goes on after its first completion, and posts another one for each event.
    pub(crate) fn is_standing(&self) -> bool {
        self.is_standing
    }

    /// The tag that comes back with each completion.
    pub(crate) fn set_user_data(&mut self, user_data: u64) {
        self.entry.set_user_data(user_data);
    }

    /// Waits until the descriptor is ready for any of `events` (`POLLIN`, `POLLOUT`, …).
    pub(crate) fn poll(fd: RawFd, events: u32) -> Self {
        Self::new("poll", opcode::PollAdd::new(Fd(fd), events).build())
    }

    /// Tells each time when the descriptor becomes ready for any of `events`, until it is cancelled: a
    /// multishot poll, io_uring_prep_poll_multishot(3). It counts as one completion, because what has
    /// happened between two enters is one.
    pub(crate) fn standing_poll(fd: RawFd, events: u32) -> Self {
        let entry = opcode::PollAdd::new(Fd(fd), events).multi(true).build();
        Self { is_standing: true, ..Self::new("poll", entry) }
    }

    /// Asks for the cancellation of the op that carries `target` as its tag.
    pub(crate) fn cancel(target: u64) -> Self {
        Self::new("cancel", opcode::AsyncCancel::new(target).build())
    }

    /// Moves up to `len` bytes of a file into a pipe, in a worker of the kernel.
    ///
    /// Offsets beyond `i64::MAX` are refused before this: no file has them.
    pub(crate) fn splice_from_file(file: RawFd, offset: i64, pipe: RawFd, len: u32) -> Self {
        let entry = opcode::Splice::new(Fd(file), offset, Fd(pipe), -1, len.min(LENGTH_MAX));
        Self::new("splice", entry.flags(libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK).build())
    }

    /// Moves up to `len` bytes of a pipe into a socket, in a worker of the kernel.
    pub(crate) fn splice_to_socket(pipe: RawFd, socket: RawFd, len: u32, more: bool) -> Self {
        let more = if more { libc::SPLICE_F_MORE } else { 0 };
        let entry = opcode::Splice::new(Fd(pipe), -1, Fd(socket), -1, len.min(LENGTH_MAX));
        Self::new(
            "splice",
            entry.flags(libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | more).build(),
        )
    }

    /// Moves up to `len` bytes of a pipe to an offset of a file, in a worker of the kernel.
    pub(crate) fn splice_to_file(pipe: RawFd, file: RawFd, offset: i64, len: u32) -> Self {
        let entry = opcode::Splice::new(Fd(pipe), -1, Fd(file), offset, len.min(LENGTH_MAX));
        Self::new("splice", entry.flags(libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK).build())
    }

    /// Reads a file at an offset.
    pub(crate) fn read(fd: RawFd, buffer: *mut u8, len: u32, offset: u64) -> Self {
        let entry = opcode::Read::new(Fd(fd), buffer, len.min(LENGTH_MAX)).offset(offset);
        Self::new("read", entry.build())
    }

    /// Reads a file at an offset into a registered buffer.
    pub(crate) fn read_fixed(
        fd: RawFd,
        buffer: *mut u8,
        len: u32,
        offset: u64,
        index: u16,
    ) -> Self {
        let entry = opcode::ReadFixed::new(Fd(fd), buffer, len.min(LENGTH_MAX), index);
        Self::new("read", entry.offset(offset).build())
    }

    /// Reads a file at an offset into several pieces of memory; see preadv(2).
    pub(crate) fn readv(fd: RawFd, parts: (*const libc::iovec, u32), offset: u64) -> Self {
        let entry = opcode::Readv::new(Fd(fd), parts.0, parts.1).offset(offset);
        Self::new("readv", entry.build())
    }

    /// Writes a file at an offset.
    pub(crate) fn write(fd: RawFd, buffer: *const u8, len: u32, offset: u64) -> Self {
        let entry = opcode::Write::new(Fd(fd), buffer, len.min(LENGTH_MAX)).offset(offset);
        Self::new("write", entry.build())
    }

    /// Writes a file at an offset from a registered buffer.
    pub(crate) fn write_fixed(
        fd: RawFd,
        buffer: *const u8,
        len: u32,
        offset: u64,
        index: u16,
    ) -> Self {
        let entry = opcode::WriteFixed::new(Fd(fd), buffer, len.min(LENGTH_MAX), index);
        Self::new("write", entry.offset(offset).build())
    }

    /// Sends bytes; never raises `SIGPIPE`.
    pub(crate) fn send(fd: RawFd, buffer: *const u8, len: u32, more: bool) -> Self {
        let entry = opcode::Send::new(Fd(fd), buffer, len.min(LENGTH_MAX)).flags(msg_flags(more));
        Self::new("send", entry.build())
    }

    /// Sends bytes without copying them: the buffer is the kernel's until the second completion.
    pub(crate) fn send_zero_copy(fd: RawFd, buffer: *const u8, len: u32, more: bool) -> Self {
        let entry = opcode::SendZc::new(Fd(fd), buffer, len.min(LENGTH_MAX))
            .flags(msg_flags(more))
            .zc_flags(SEND_ZC_REPORT_USAGE);
        Self { completions_max: 2, ..Self::new("send_zc", entry.build()) }
    }

    /// Opens a path below a folder; see openat2(2).
    pub(crate) fn openat2(folder: RawFd, path: *const libc::c_char, how: *const OpenHow) -> Self {
        Self::new("openat2", opcode::OpenAt2::new(Fd(folder), path, how).build())
    }

    /// Describes a path below a folder; see statx(2).
    pub(crate) fn statx(
        folder: RawFd,
        path: *const libc::c_char,
        flags: i32,
        result: *mut libc::statx,
    ) -> Self {
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let entry = opcode::Statx::new(Fd(folder), path, result.cast()).flags(flags).mask(mask);
        Self::new("statx", entry.build())
    }

    /// Makes a file's bytes durable, and with `data_only` not those attributes that can wait.
    pub(crate) fn fsync(fd: RawFd, data_only: bool) -> Self {
        let flags = if data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
        Self::new("fsync", opcode::Fsync::new(Fd(fd)).flags(flags).build())
    }

    /// Makes a range of a file's bytes durable; a `len` of 0 at offset 0 means all of it.
    pub(crate) fn fdatasync_range(fd: RawFd, offset: u64, len: u32) -> Self {
        let entry = opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC);
        Self::new("fsync", entry.offset(offset).len(len).build())
    }

    /// Advises on pages of this process, which always happens in a worker of the kernel; see
    /// madvise(2).
    pub(crate) fn madvise(start: *const u8, len: u32, advice: i32) -> Self {
        let entry = opcode::Madvise::new(start.cast(), len.into(), advice);
        Self::new("madvise", entry.build())
    }

    /// Allocates blocks for a range of a file; see fallocate(2).
    pub(crate) fn fallocate(fd: RawFd, offset: u64, len: u64, mode: i32) -> Self {
        let entry = opcode::Fallocate::new(Fd(fd), len).offset(offset).mode(mode);
        Self::new("fallocate", entry.build())
    }

    /// Announces how a range of a file will be used; see posix_fadvise(2).
    pub(crate) fn fadvise(fd: RawFd, offset: u64, len: i64, advice: i32) -> Self {
        let entry = opcode::Fadvise::new(Fd(fd), len, advice).offset(offset);
        Self::new("fadvise", entry.build())
    }

    /// Renames a path; see renameat2(2).
    pub(crate) fn rename(
        from: (RawFd, *const libc::c_char),
        to: (RawFd, *const libc::c_char),
        flags: u32,
    ) -> Self {
        let entry = opcode::RenameAt::new(Fd(from.0), from.1, Fd(to.0), to.1).flags(flags);
        Self::new("renameat", entry.build())
    }

    /// Removes a name; see unlinkat(2).
    pub(crate) fn unlink(folder: RawFd, path: *const libc::c_char, flags: i32) -> Self {
        let entry = opcode::UnlinkAt::new(Fd(folder), path).flags(flags);
        Self::new("unlinkat", entry.build())
    }

    /// Does nothing and completes with 0: what the micro-benchmarks and the probes use.
    pub(crate) fn nop() -> Self {
        Self::new("nop", opcode::Nop::new().build())
    }
}

fn msg_flags(more: bool) -> i32 {
    if more { MSG_FLAGS | libc::MSG_MORE } else { MSG_FLAGS }
}

#[cfg(feature = "fault")]
impl Sqe {
    /// Replaces the op by a no-op that completes with `result` (`IORING_NOP_INJECT_RESULT`,
    /// Linux 6.10), so that a fault travels through the real ring.
    pub(crate) fn inject(&mut self, result: i32) {
        let tag = self.entry.get_user_data();
        self.entry = opcode::Nop::new().build().user_data(tag);
        self.poke(24, result);
        self.poke(28, 1);
        self.completions_max = 1;
    }

    /// Makes the op ask for at most `len` bytes, so that the kernel itself is short.
    ///
    /// Only for ops that move bytes: the field is something else in the others.
    pub(crate) fn shorten(&mut self, len: u32) {
        if !matches!(self.name, "read" | "write" | "send" | "send_zc" | "splice") {
            return;
        }
        let asked = self.peek(24);
        self.poke(24, asked.min(i32::try_from(len).unwrap_or(i32::MAX)));
    }

    /// Makes a vectored op see only the first `parts` of its vector.
    pub(crate) fn set_parts(&mut self, parts: u32) {
        if self.name == "readv" {
            self.poke(24, i32::try_from(parts).unwrap_or(0));
        }
    }

    fn peek(&self, offset: usize) -> i32 {
        let word = ptr::from_ref(&self.entry).cast::<u8>().wrapping_add(offset).cast::<i32>();
        // SAFETY: an entry is 64 bytes of plain data (`struct io_uring_sqe`), and 24 and 28 are
        // aligned offsets of 32-bit members of it.
        unsafe { word.read() }
    }

    fn poke(&mut self, offset: usize, value: i32) {
        let word = ptr::from_mut(&mut self.entry).cast::<u8>().wrapping_add(offset).cast::<i32>();
        // SAFETY: as for `peek`; every bit pattern is a valid entry.
        unsafe { word.write(value) }
    }
}
