//! `SIGBUS` made on purpose: a fault in a mapping that the library knows nothing of.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};

const PAGE: usize = 4096;

/// Loads a byte of a mapped page that the file does not have, which raises `SIGBUS`. Returns the byte if
/// somebody has put a page there after all.
///
/// # Panics
///
/// When the file cannot be mapped.
#[must_use]
pub fn load_behind_the_end(file: &File) -> u8 {
    let len = usize::try_from(file.metadata().expect("a length").len()).expect("a small file");
    let page = rustix::param::page_size();
    let end = len.next_multiple_of(page) + page;
    let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
    let base = unsafe { rustix::mm::mmap(ptr::null_mut(), end, protection, flags, file, 0) };
    let last = base.expect("the file can be mapped").cast::<u8>().wrapping_add(end - 1);
    // SAFETY: the address is mapped and stays so; that there is no page behind it is the purpose.
    unsafe { last.read_volatile() }
}

/// Makes mappings until the process may have no more (`vm.max_map_count`). They are unmapped when this is
/// dropped.
#[must_use]
pub fn exhaust_mappings() -> Exhausted {
    let mut pages = Vec::with_capacity(1 << 17);
    // Neighbours differ, so that the kernel merges none.
    for protection in [ProtFlags::READ, ProtFlags::empty()].into_iter().cycle() {
        // SAFETY: a new mapping at an address of the kernel's choice touches nobody's memory.
        let page = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE)
        };
        match page {
            Ok(page) if pages.len() < pages.capacity() => pages.push(page),
            _ => break,
        }
    }
    Exhausted { pages }
}

/// See [`exhaust_mappings`].
#[derive(Debug)]
pub struct Exhausted {
    pages: Vec<*mut std::ffi::c_void>,
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        for page in &self.pages {
            // SAFETY: the page was mapped by `exhaust_mappings`, and nobody has its address.
            unsafe { rustix::mm::munmap(*page, PAGE) }.expect("a whole mapping can be unmapped");
        }
    }
}

/// Makes the file system of a file fail from now on, as a device does that breaks (`EXT4_IOC_SHUTDOWN`,
/// without writing anything out). Needs root, and ext4 or xfs.
///
/// # Errors
///
/// Those of ioctl(2).
pub fn shut_file_system_down(file: &File) -> std::io::Result<()> {
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    let without_flushing: u32 = 2;
    // SAFETY: the ioctl reads one number, which lives until the call returns.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), SHUTDOWN, &raw const without_flushing) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Blocks `SIGBUS` in the calling thread, as libraries do that block every signal in their workers.
pub fn block_sigbus() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set that the pointer leads to.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}
