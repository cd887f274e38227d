//! Limits of the host: refused rings, short locked memory, capped threads, small pipes.

use std::io::Write;
use std::pin::pin;

use ringway_runtime::fs::File;
use ringway_runtime::{
    Config, PipeRefusal, Runtime, StartError, lease, lend_pipe, nop, spawn, stats,
};
use ringway_testkit::{Census, run_in_child};

use crate::baseline::{assert_settled, budget, is_wrapped, on_a_ring_with, once, small, under};

fn refused_with(test: &str, errno: &str, words: &[&str]) {
    let injection = format!("inject=io_uring_setup:error={errno}");
    under(test, &["strace", "-f", "-qq", "-o", "/dev/null", "-e", &injection], || {
        let error = Runtime::new().unwrap_err();
        assert_eq!(error.call(), "io_uring_setup");
        let text = error.to_string();
        assert!(!text.contains('\n') && words.iter().all(|word| text.contains(word)), "{text}");
    });
}

#[test]
fn a_ring_that_a_sandbox_refuses_says_what_to_change() {
    let name = "limits::a_ring_that_a_sandbox_refuses_says_what_to_change";
    refused_with(name, "EPERM", &["io_uring_setup"]);
}

#[test]
fn a_kernel_without_rings_is_named() {
    refused_with("limits::a_kernel_without_rings_is_named", "ENOSYS", &["no io_uring", "gVisor"]);
}

#[test]
fn a_splice_that_a_sandbox_forbids_is_found_by_trying() {
    let name = "limits::a_splice_that_a_sandbox_forbids_is_found_by_trying";
    let wrapper = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=splice:error=EPERM"];
    under(name, &wrapper, || {
        let runtime = Runtime::new().unwrap();
        assert!(!runtime.capabilities().splice);
        assert!(runtime.capabilities().to_string().contains("splice: no"));
    });
}

/// Runs the body as an ordinary user with so much locked memory. A user of its own, because the
/// accounting is by user and its refunds come late.
fn with_locked_memory(test: &str, bytes: u32, body: impl FnOnce()) {
    if !is_wrapped() && !rustix::process::geteuid().is_root() {
        eprintln!("{test}: only root can become another user; not run");
        return;
    }
    let user = (200_000 + std::process::id() % 1_000_000 + bytes % 1000).to_string();
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let limit = format!("--memlock={bytes}:{bytes}");
    let wrapper = ["prlimit", &limit, "setpriv", &uid, &gid, "--clear-groups"];
    under(test, &wrapper, body);
}

fn memlock_error(config: Config) -> StartError {
    Runtime::with_config(config).unwrap_err()
}

// liburing#365, glommio#565: too little locked memory was a crash.
#[test]
fn no_locked_memory_at_all_is_an_error_that_names_the_limit() {
    let name = "limits::no_locked_memory_at_all_is_an_error_that_names_the_limit";
    with_locked_memory(name, 0, || {
        let text = memlock_error(Config::default()).to_string();
        assert!(text.contains("RLIMIT_MEMLOCK is 0 bytes"), "{text}");
    });
}

#[test]
fn little_locked_memory_means_unregistered_buffers() {
    let name = "limits::little_locked_memory_means_unregistered_buffers";
    with_locked_memory(name, 1 << 20, || {
        let runtime = Runtime::new().unwrap();
        let capabilities = runtime.capabilities();
        assert_eq!(capabilities.completion_entries, 16384);
        let reason = capabilities.unregistered_buffers.as_ref().unwrap();
        assert!(reason.contains("RLIMIT_MEMLOCK"), "{reason}");
        assert!(capabilities.to_string().contains("registered buffers: no"));
        runtime.block_on(async {
            let file = File::open("/etc/passwd").await.unwrap();
            let lease = lease(100).await.unwrap();
            assert!(!lease.is_registered());
            assert!(file.read_at(lease, 0, 100, 0).await.0.unwrap() > 0);
        });
        assert_settled(&runtime);
    });
}

#[test]
fn less_locked_memory_means_a_smaller_ring() {
    let name = "limits::less_locked_memory_means_a_smaller_ring";
    with_locked_memory(name, 128 << 10, || {
        let runtime = Runtime::new().unwrap();
        let capabilities = runtime.capabilities();
        assert!(capabilities.completion_entries < 16384, "{capabilities}");
        assert!(!capabilities.registered_buffers());
        runtime.block_on(async { nop().await.unwrap() });
        assert_settled(&runtime);
    });
}

#[test]
fn registered_buffers_are_a_matter_of_the_configuration() {
    on_a_ring_with(Config { register_buffers: false, ..small() }, async {
        assert!(!lease(10).await.unwrap().is_registered());
        let capabilities = ringway_runtime::capabilities().unwrap();
        let reason = capabilities.unregistered_buffers.clone().unwrap();
        assert!(reason.contains("Config::register_buffers"), "{reason}");
    });
    on_a_ring_with(Config { buffers: Vec::new(), ..small() }, async {
        assert!(lease(10).await.is_err());
    });
}

#[test]
fn odd_sizes_of_queues_are_made_to_fit() {
    for (submission_entries, completion_entries) in [(0, 0), (4096, 16), (100, 300), (u32::MAX, 1)]
    {
        on_a_ring_with(Config { submission_entries, completion_entries, ..small() }, async {
            nop().await.unwrap();
        });
    }
}

// liburing#420, #293: the threads of the kernel multiplied.
#[test]
fn the_kernels_threads_are_capped() {
    run_in_child("limits::the_kernels_threads_are_capped", wait_in_threads);
}

pub(crate) fn wait_in_threads() {
    let _budget = budget();
    let config = Config { bounded_workers_max: 2, unbounded_workers_max: 3, ..small() };
    let runtime = Runtime::with_config(config).unwrap();
    runtime.block_on(async {
        // Making a file durable waits in a thread for the disk; a splice always takes one.
        let content = vec![1; 2 << 20];
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&content).unwrap();
                let file = File::from_std(file);
                spawn(async move {
                    if let Ok(pipe) = lend_pipe().unwrap() {
                        file.fill(pipe, 0, 60_000).unwrap().await.0.unwrap();
                    }
                    file.sync_all().await.unwrap();
                })
            })
            .collect();
        let mut most = 0;
        for task in tasks {
            task.await.unwrap();
            // They stay for some seconds after their work.
            most = most.max(Census::take().threads_named("iou-wrk-"));
        }
        assert!((1..=5).contains(&most), "{most} threads of the kernel");
    });
    assert_settled(&runtime);
}

#[test]
pub(crate) fn pipes_are_bounded_by_count_and_by_bytes() {
    on_a_ring_with(Config { pipes_max: 3, pipe_bytes: 100_000, ..small() }, async {
        let pipes: Vec<_> = (0..3).map(|_| lend_pipe().unwrap().unwrap()).collect();
        assert_eq!(lend_pipe().unwrap().unwrap_err(), PipeRefusal::AllLent);
        assert_eq!(stats().unwrap().pipes_refused, 1);
        drop(pipes);
        assert_eq!((stats().unwrap().pipes, stats().unwrap().pipes_lent), (3, 0));
    });
    // The rest of 100 000 bytes would be rounded up by the kernel.
    let bytes_max = (256 << 10) + 100_000;
    let config =
        Config { pipes_max: 100, pipe_bytes: 128 << 10, pipe_bytes_max: bytes_max, ..small() };
    on_a_ring_with(config, async {
        let mut pipes = Vec::new();
        while let Ok(pipe) = lend_pipe().unwrap() {
            pipes.push(pipe);
            assert!(stats().unwrap().pipe_bytes <= bytes_max as u64, "{pipes:?}");
        }
        assert_eq!(pipes.len(), 3);
    });
}

#[test]
fn late_pipes_are_smaller_and_the_largest_is_lent_first() {
    let config =
        Config { pipes_max: 100, pipe_bytes: 256 << 10, pipe_bytes_max: 2 << 20, ..small() };
    on_a_ring_with(config, async {
        let pipes: Vec<_> = std::iter::from_fn(|| lend_pipe().unwrap().ok()).collect();
        let sizes: Vec<_> = pipes.iter().map(|pipe| pipe.capacity() >> 10).collect();
        assert_eq!(sizes, [[256; 4].as_slice(), &[128; 4], &[64; 8]].concat());
        drop(pipes);
        assert_eq!(lend_pipe().unwrap().unwrap().capacity(), 256 << 10);
    });
}

#[test]
fn a_wait_for_a_buffer_ends_when_one_comes_back() {
    on_a_ring_with(small(), async {
        let mut leases = Vec::new();
        while let Some(lease) = ringway_runtime::try_lease(10).unwrap() {
            leases.push(lease);
        }
        assert_eq!(leases.len(), 4);
        let mut waiting = pin!(lease(10));
        for _ in 0..1000 {
            once(waiting.as_mut()).await;
        }
        assert_eq!(stats().unwrap().lease_waits, 1);
        leases.pop();
        waiting.await.unwrap();
    });
}
