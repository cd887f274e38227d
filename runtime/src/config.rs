//! Every limit of a runtime: its unit, its default, and what it costs at worst.

use std::time::Duration;

use crate::sys::ring::Setup;

/// Limits and sizes of one ring and of the thread that drives it.
///
/// ```
/// use ringway_runtime::Config;
///
/// let config = Config { pipes_max: 8, ..Config::default() };
/// assert!(config.pipe_bytes_max >= config.pipe_bytes);
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// Entries of the submission queue. Default 256; 64 bytes each, charged to locked memory.
    pub submission_entries: u32,
    /// Entries of the completion queue, and so the bound on completions outstanding. Default
    /// 16384; 16 bytes each, charged to locked memory. The kernel rounds up to a power of two.
    pub completion_entries: u32,
    /// The best setup to try; lower rungs follow by themselves. Default [`Setup::DeferTaskrun`].
    /// A runtime that is embedded in a foreign loop starts at [`Setup::CoopTaskrun`] instead,
    /// because the descriptor of a `DEFER_TASKRUN` ring does not wake a poll that already waits.
    pub best_setup: Setup,
    /// Kernel threads for ops on regular files that may wait. Default 8, one stack each.
    pub bounded_workers_max: u32,
    /// Kernel threads for all other ops that may wait: here live the fills of pipes from cold
    /// files. Default 16, one stack each.
    pub unbounded_workers_max: u32,
    /// Size classes of registered buffers. Default 64 × 20 KiB, 16 × 68 KiB, 4 × 260 KiB and
    /// 1 × 1028 KiB: 4.4 MiB of address space, resident once used, charged to locked memory. Each is a
    /// page more than a power of two, for what stands around the bytes of a file.
    pub buffers: Vec<BufferClass>,
    /// Whether to register the buffers with the ring. Default yes; where the limit of locked
    /// memory forbids it, they are used unregistered and the capabilities say so.
    pub register_buffers: bool,
    /// Pipes in the pool, idle and lent. Default 64; two descriptors each.
    pub pipes_max: u32,
    /// Capacity to ask for one pipe in bytes. Default 1 MiB; the ladder halves it down to 64 KiB, and from
    /// the second half of `pipe_bytes_max` on pipes are made by halves and quarters of it.
    pub pipe_bytes: usize,
    /// Capacity of all pipes together in bytes. Default 32 MiB: half of what the kernel grants an
    /// unprivileged user (`fs.pipe-user-pages-soft`).
    pub pipe_bytes_max: usize,
    /// Regions of files that are mapped, held and idle. Default 1024; the process has 65530 mappings
    /// (`vm.max_map_count`).
    pub regions_max: u32,
    /// Bytes of files that are mapped, held and idle. Default 1 GiB: address space, and 2 MiB of page
    /// tables. The pages are the page cache's; those of private windows that were written are not,
    /// and cost memory up to this.
    pub region_bytes_max: u64,
    /// How long a region that nobody holds stays mapped. Default 10 s. So long the blocks of a file
    /// that was removed stay in use; zero unmaps at once.
    pub region_idle: Duration,
    /// Tasks that run in one turn before the ring is looked at again. Default 128.
    pub tasks_per_turn: u32,
    /// How long a runtime that is dropped waits for the kernel to let go of its ops. Default 5 s.
    /// Past it the memory they use is leaked, never freed.
    pub shutdown_timeout: Duration,
}

/// Buffers of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferClass {
    /// Bytes in one buffer; rounded up to whole pages of 4096 bytes.
    pub bytes: usize,
    /// How many there are.
    pub count: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            submission_entries: 256,
            completion_entries: 16384,
            best_setup: Setup::DeferTaskrun,
            bounded_workers_max: 8,
            unbounded_workers_max: 16,
            buffers: vec![
                BufferClass { bytes: 20 << 10, count: 64 },
                BufferClass { bytes: 68 << 10, count: 16 },
                BufferClass { bytes: 260 << 10, count: 4 },
                BufferClass { bytes: 1028 << 10, count: 1 },
            ],
            register_buffers: true,
            pipes_max: 64,
            pipe_bytes: 1 << 20,
            pipe_bytes_max: 32 << 20,
            regions_max: 1024,
            region_bytes_max: 1 << 30,
            region_idle: Duration::from_secs(10),
            tasks_per_turn: 128,
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}
