//! The numbers that x86-64, `AArch64` and RISC-V share (`asm-generic/errno.h` of the kernel).

macro_rules! numbers {
    ($($name:ident = $number:literal),+ $(,)?) => { $(pub(crate) const $name: i32 = $number;)+ };
}
numbers! {
    EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EBADF = 9, EAGAIN = 11, ENOMEM = 12,
    EACCES = 13, ENODEV = 19, EISDIR = 21, EINVAL = 22, ENFILE = 23, EMFILE = 24, ETXTBSY = 26, EFBIG = 27,
    ENOSPC = 28, ESPIPE = 29, EROFS = 30, EPIPE = 32, ENOSYS = 38, EBADE = 52, ENODATA = 61, ENOLINK = 67, EBADMSG = 74,
    EILSEQ = 84,
    ENOTSOCK = 88, EDESTADDRREQ = 89, EOPNOTSUPP = 95, ENETDOWN = 100, ENETUNREACH = 101,
    ENETRESET = 102, ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, ENOTCONN = 107,
    ESHUTDOWN = 108, ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112, EHOSTUNREACH = 113,
    ESTALE = 116, EUCLEAN = 117, EREMOTEIO = 121, EDQUOT = 122, ENOMEDIUM = 123, ECANCELED = 125,
    ENOKEY = 126, EHWPOISON = 133, ERESTARTSYS = 512,
}

/// Whether a disk, a file system or the server behind one says so: what block devices answer (as
/// `blk_errors` of the kernel has them), damaged checksums and memory, a network file system's server
/// that is gone, and a FUSE server that has ended (`ENOTCONN`) or was cut off (`ECONNABORTED`).
pub(crate) fn of_storage(errno: i32) -> bool {
    matches!(
        errno,
        EIO | ENXIO
            | ENODEV
            | EBADE
            | ENODATA
            | ENOLINK
            | EBADMSG
            | EILSEQ
            | ECONNABORTED
            | ENOTCONN
            | ETIMEDOUT
            | EHOSTDOWN
            | EHOSTUNREACH
            | ESTALE
            | EUCLEAN
            | EREMOTEIO
            | ENOMEDIUM
            | ENOKEY
            | EHWPOISON
    )
}
