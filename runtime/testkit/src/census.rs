//! A census of descriptors and threads: what a test leaves behind, by name.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

/// The open descriptors and the threads of this process at one moment.
///
/// Descriptors are known by what their link in `/proc/self/fd` names (`socket:[4711]`, `pipe:[12]`,
/// a path), threads by their `comm`, io_uring's workers (`iou-wrk-…`) among them. A descriptor that
/// was closed and opened again on the same thing is no change; one that was exchanged for another
/// socket is.
///
/// It sees the whole process: use it in [`run_in_child`](crate::run_in_child).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    fds: BTreeMap<String, Vec<RawFd>>,
    threads: BTreeMap<String, usize>,
}

impl Census {
    /// Counts now.
    ///
    /// # Panics
    ///
    /// When `/proc/self` cannot be read.
    #[must_use]
    pub fn take() -> Self {
        Census {
            fds: open_fds().expect("/proc/self/fd can be read"),
            threads: running_threads().expect("/proc/self/task can be read"),
        }
    }

    /// Waits until a fresh census equals this one.
    ///
    /// It polls, for some ends are late by design: a ring's workers leave, and its descriptor is
    /// torn down, a while after the last close.
    ///
    /// # Panics
    ///
    /// When something is still different after `limit`: the message names each descriptor and thread
    /// that stayed or went missing.
    #[track_caller]
    pub fn assert_unchanged_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Some(difference) = self.difference(&Census::take()) {
            assert!(
                Instant::now() < deadline,
                "the census had not come back after {limit:?}:\n{difference}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What changed from this census to a later one, a line for each name; `None` if nothing did.
    #[must_use]
    pub fn difference(&self, later: &Census) -> Option<String> {
        let mut text = String::new();
        for (name, fds) in &later.fds {
            let known = self.fds.get(name).map_or(&[][..], Vec::as_slice);
            if fds.len() > known.len() {
                let new: Vec<_> = fds.iter().filter(|fd| !known.contains(fd)).collect();
                let count = fds.len() - known.len();
                let _ = writeln!(text, "  left open: {name} ({count} more, at fd {new:?})");
            }
        }
        for (name, fds) in &self.fds {
            let still = later.fds.get(name).map_or(0, Vec::len);
            if still < fds.len() {
                let _ = writeln!(text, "  closed: {name} ({still} of {} left)", fds.len());
            }
        }
        for (name, &count) in &later.threads {
            let before = self.threads.get(name).copied().unwrap_or(0);
            if count > before {
                let _ = writeln!(text, "  still running: thread {name} ({} more)", count - before);
            }
        }
        for (name, &count) in &self.threads {
            let after = later.threads.get(name).copied().unwrap_or(0);
            if after < count {
                let _ = writeln!(text, "  gone: thread {name} ({after} of {count} left)");
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// How many descriptors have a name that begins with `prefix`, for example `pipe:`.
    #[must_use]
    pub fn fds_named(&self, prefix: &str) -> usize {
        self.fds.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, fds)| fds.len()).sum()
    }

    /// How many threads have a name that begins with `prefix`, for example `iou-wrk-`.
    #[must_use]
    pub fn threads_named(&self, prefix: &str) -> usize {
        self.threads.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, n)| n).sum()
    }
}

fn open_fds() -> io::Result<BTreeMap<String, Vec<RawFd>>> {
    // The directory is read to its end and closed before any link is followed: its own descriptor is
    // then a dead link, and drops out with those that other threads closed meanwhile.
    let entries = fs::read_dir("/proc/self/fd")?.collect::<io::Result<Vec<_>>>()?;
    let mut fds = BTreeMap::<String, Vec<RawFd>>::new();
    for entry in entries {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let name = target.to_string_lossy();
        // A file that was unlinked while open is the same open file.
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        fds.entry(name.to_owned()).or_default().push(fd);
    }
    fds.values_mut().for_each(|fds| fds.sort_unstable());
    Ok(fds)
}

fn running_threads() -> io::Result<BTreeMap<String, usize>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task")? {
        // A thread that ended since the directory was read has no name any more.
        let Ok(name) = fs::read_to_string(entry?.path().join("comm")) else { continue };
        *threads.entry(name.trim_end().to_owned()).or_default() += 1;
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_in_child;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::channel;

    const SOON: Duration = Duration::from_millis(60);

    fn complaint(census: &Census) -> String {
        let outcome = catch_unwind(AssertUnwindSafe(|| census.assert_unchanged_within(SOON)));
        let payload = outcome.expect_err("the census has changed");
        payload.downcast_ref::<String>().expect("a formatted message").clone()
    }

    #[test]
    fn an_unchanged_process_passes() {
        run_in_child("census::tests::an_unchanged_process_passes", || {
            let before = Census::take();
            drop(tempfile::tempfile().unwrap());
            thread::spawn(|| ()).join().unwrap();
            before.assert_unchanged_within(Duration::from_secs(10));
        });
    }

    #[test]
    fn a_leaked_file_is_reported_by_its_path() {
        run_in_child("census::tests::a_leaked_file_is_reported_by_its_path", || {
            let before = Census::take();
            let leaked = tempfile::NamedTempFile::with_suffix("-leaked").unwrap();
            let message = complaint(&before);
            assert!(message.contains("left open"), "{message}");
            assert!(message.contains(leaked.path().to_str().unwrap()), "{message}");
        });
    }

    #[test]
    fn a_leaked_socket_pair_is_two_sockets() {
        run_in_child("census::tests::a_leaked_socket_pair_is_two_sockets", || {
            let before = Census::take();
            let _pair = std::os::unix::net::UnixStream::pair().unwrap();
            assert_eq!(Census::take().fds_named("socket:") - before.fds_named("socket:"), 2);
            assert_eq!(complaint(&before).matches("left open: socket:[").count(), 2);
        });
    }

    #[test]
    fn a_second_descriptor_of_the_same_file_is_a_leak() {
        run_in_child("census::tests::a_second_descriptor_of_the_same_file_is_a_leak", || {
            let file = tempfile::tempfile().unwrap();
            let before = Census::take();
            let _second = file.try_clone().unwrap();
            let message = complaint(&before);
            assert!(message.contains("1 more, at fd"), "{message}");
        });
    }

    #[test]
    fn a_descriptor_closed_too_often_is_reported() {
        run_in_child("census::tests::a_descriptor_closed_too_often_is_reported", || {
            let file = tempfile::tempfile().unwrap();
            let before = Census::take();
            drop(file);
            assert!(complaint(&before).contains("closed: "));
        });
    }

    #[test]
    fn unlinking_an_open_file_is_no_change() {
        run_in_child("census::tests::unlinking_an_open_file_is_no_change", || {
            let (_file, path) = tempfile::NamedTempFile::new().unwrap().into_parts();
            let before = Census::take();
            drop(path);
            before.assert_unchanged_within(SOON);
        });
    }

    #[test]
    fn a_thread_is_waited_for_and_then_reported_by_its_name() {
        run_in_child("census::tests::a_thread_is_waited_for_and_then_reported_by_its_name", || {
            let before = Census::take();
            let (leave, left) = channel::<()>();
            let worker = thread::Builder::new().name("straggler".to_owned());
            let handle = worker.spawn(move || left.recv()).unwrap();
            let message = complaint(&before);
            assert!(message.contains("thread straggler (1 more)"), "{message}");
            drop(leave);
            before.assert_unchanged_within(Duration::from_secs(10));
            assert!(handle.join().is_ok());
        });
    }
}
