//! What this kernel can do, found by asking it and by trying.

use std::io;
use std::os::fd::AsFd;

use io_uring::{Probe, opcode};

use super::ring::Ring;

/// Which ops the kernel lists as supported; `None` where it cannot list them (before 5.6).
pub(crate) struct Listed {
    probe: Option<Probe>,
}

impl Listed {
    pub(crate) fn ask(ring: &Ring) -> Self {
        let mut probe = Probe::new();
        let asked = ring.submitter().register_probe(&mut probe);
        Self { probe: asked.is_ok().then_some(probe) }
    }

    fn has(&self, code: u8) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.is_supported(code))
    }

    pub(crate) fn splice(&self) -> bool {
        self.has(opcode::Splice::CODE)
    }

    pub(crate) fn send_zero_copy(&self) -> bool {
        self.has(opcode::SendZc::CODE)
    }

    /// The first op that the runtime cannot do without and the kernel does not list.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let needed = [
            ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
            ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
            ("IORING_OP_READ", opcode::Read::CODE),
            ("IORING_OP_SEND", opcode::Send::CODE),
            ("IORING_OP_OPENAT2", opcode::OpenAt2::CODE),
        ];
        needed.into_iter().find(|(_, code)| !self.has(*code)).map(|(name, _)| name)
    }
}

/// Release of the running kernel, as uname(2) gives it.
pub(crate) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Value of `kernel.io_uring_disabled`; `None` where the kernel has no such setting.
pub(crate) fn io_uring_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

/// The soft limit of locked memory in bytes; `None` means unlimited.
pub(crate) fn locked_memory_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current
}

/// Whether cachestat(2) exists; asked of a descriptor that everybody has.
pub(crate) fn has_cachestat(any: &impl AsFd) -> bool {
    match super::file::cached_pages(any.as_fd(), 0, 1) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::ENOSYS),
    }
}

/// Caps the ring's kernel threads: those for regular files, and those for everything else.
pub(crate) fn cap_workers(ring: &Ring, bounded: u32, unbounded: u32) -> io::Result<()> {
    ring.submitter().register_iowq_max_workers(&mut [bounded, unbounded])
}

/// Registers memory for fixed reads; the indexes are those of the list.
///
/// The memory must stay mapped until the ring is gone or [`unregister_buffers`] was called.
pub(crate) fn register_buffers(ring: &Ring, arenas: &[libc::iovec]) -> io::Result<()> {
    // SAFETY: the caller keeps the arenas mapped for as long as the ring exists.
    unsafe { ring.submitter().register_buffers(arenas) }
}

/// Gives registered memory back to the accounting of the user at once.
pub(crate) fn unregister_buffers(ring: &Ring) {
    let _ = ring.submitter().unregister_buffers();
}
