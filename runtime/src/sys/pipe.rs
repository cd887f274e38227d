//! Pipes, and the calls that move bytes through them without waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags};

use super::retry;

/// Makes a pipe whose both ends never wait; see pipe2(2).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    retry(|| rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK))
}

/// Asks for a capacity and returns the one granted; see `F_SETPIPE_SZ` in fcntl(2).
pub(crate) fn set_capacity(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    retry(|| rustix::pipe::fcntl_setpipe_size(pipe, bytes))?;
    capacity(pipe)
}

/// The capacity of a pipe in bytes.
pub(crate) fn capacity(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    retry(|| rustix::pipe::fcntl_getpipe_size(pipe))
}

/// Moves file bytes into a pipe by reference. Waits for the disk if they are not resident.
pub(crate) fn splice_from_file(
    file: BorrowedFd<'_>,
    mut offset: u64,
    pipe: BorrowedFd<'_>,
    len: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    retry(|| rustix::pipe::splice(file, Some(&mut offset), pipe, None, len, flags))
}

/// Moves piped bytes into a non-blocking socket; `more` corks the last partial segment.
///
/// `SIGPIPE` is blocked in the ring's thread, so a closed peer is only ever `EPIPE`.
pub(crate) fn splice_to_socket(
    pipe: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    len: usize,
    more: bool,
) -> io::Result<usize> {
    let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    flags.set(SpliceFlags::MORE, more);
    retry(|| rustix::pipe::splice(pipe, None, socket, None, len, flags))
}

/// Moves what has arrived at a non-blocking socket into a pipe, by reference.
pub(crate) fn splice_from_socket(
    socket: BorrowedFd<'_>,
    pipe: BorrowedFd<'_>,
    len: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    retry(|| rustix::pipe::splice(socket, None, pipe, None, len, flags))
}

/// Moves piped bytes to an offset of a file. Waits for the disk if it must.
pub(crate) fn splice_to_file(
    pipe: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    len: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    retry(|| rustix::pipe::splice(pipe, None, file, Some(&mut offset), len, flags))
}

/// Reads piped bytes into memory.
pub(crate) fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| rustix::io::read(pipe, &mut *buffer))
}

/// Moves file bytes straight into a non-blocking socket through the kernel's own small pipe;
/// what the socket does not take stays in the file. See sendfile(2).
pub(crate) fn sendfile(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    len: usize,
) -> io::Result<usize> {
    retry(|| rustix::fs::sendfile(socket, file, Some(&mut offset), len))
}

/// Whether splice(2) really moves file bytes here: a sandbox can forbid it where the kernel has it.
///
/// Tried with the first byte of the running program, which is resident. Where that cannot be opened,
/// or no pipe can be had, nothing speaks against it.
pub(crate) fn splice_works() -> bool {
    let Ok(program) = std::fs::File::open("/proc/self/exe") else { return true };
    let Ok((_read, write)) = pipe() else { return true };
    match splice_from_file(program.as_fd(), 0, write.as_fd(), 1) {
        Ok(_) => true,
        Err(error) => {
            let refusals = [libc::EPERM, libc::EACCES, libc::ENOSYS];
            !error.raw_os_error().is_some_and(|errno| refusals.contains(&errno))
        }
    }
}
