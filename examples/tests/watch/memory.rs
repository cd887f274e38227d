//! Many receivers of one file within 256 MiB of memory, page cache included, of which one takes it slowly.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::receiver::{CREATED, Connection, Receiver};
use crate::scene::{Scene, content};

const MIB: u64 = 1 << 20;
/// Four times what fits into memory.
const LEN: u64 = 1024 * MIB;
const PATIENCE: Duration = Duration::from_secs(300);

/// A group of processes with a bound on their memory, by version 2 of control groups or version 1.
struct Group(PathBuf);

impl Group {
    fn of(bytes: u64, name: &str) -> Option<Group> {
        let name = format!("ringwayd-test-{name}-{}", std::process::id());
        for (root, limit) in [
            ("/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/unified", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ] {
            let group = PathBuf::from(root).join(&name);
            if fs::create_dir(&group).is_err() {
                continue;
            }
            // Not made by us, as it would be where no group is mounted.
            let is_there = group.join(limit).exists();
            if is_there && fs::write(group.join(limit), bytes.to_string()).is_ok() {
                return Some(Group(group));
            }
            _ = fs::remove_dir(&group);
        }
        None
    }

    /// A command that runs in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"");
        command.arg(self.0.join("cgroup.procs")).arg(program);
        command
    }

    fn peak(&self) -> Option<u64> {
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        names
            .iter()
            .find_map(|name| fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = fs::remove_dir(&self.0);
    }
}

/// The file, out of the page cache, so that the group reads it itself and pays for it.
fn file(scene: &Scene) -> PathBuf {
    let path = scene.base().join("file");
    let mut file = fs::File::create(&path).unwrap();
    let mut piece = content(1, 4 << 20);
    for at in (0..LEN).step_by(4 << 20) {
        ringway_testkit::canary::fill(1, at, &mut piece);
        std::io::Write::write_all(&mut file, &piece).unwrap();
    }
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    path
}

/// Throws a body away as fast as it comes, or a piece at a time with pauses; true if it was whole.
fn swallow(mut connection: Connection, pause: Option<Duration>, stop: &AtomicBool) -> bool {
    let Some(request) = connection.head() else { return false };
    connection.say("HTTP/1.1 100 Continue\r\n\r\n");
    let wanted = request.length() as u64;
    let mut piece = vec![0; 256 * 1024];
    let mut got = 0;
    while got < wanted {
        if let Some(pause) = pause {
            thread::sleep(pause);
            if stop.load(Ordering::SeqCst) {
                return false;
            }
        }
        match connection.stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(read) => {
                let fits = ringway_testkit::Checker::new(1, got).feed(&piece[..read]).is_ok();
                assert!(fits, "other bytes near {got}");
                got += read as u64;
            }
        }
    }
    connection.say(CREATED);
    true
}

#[test]
#[ignore = "lane: memory; needs root; run with: cargo test --release -p ringway-examples --test watch memory -- --ignored --nocapture"]
fn seven_receivers_are_done_in_256_mib_though_the_eighth_is_slow() {
    let group = Group::of(256 * MIB, "push").expect("a control group for memory (root)");
    let scene = Scene::new();
    let path = file(&scene);
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let receivers: Vec<Receiver> = (0..8)
        .map(|number| {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            // Some 4 MB/s at most.
            let pause = (number == 0).then_some(Duration::from_millis(60));
            Receiver::start(move |connection| {
                if swallow(connection, pause, &stop) {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut command = group.command(env!("CARGO_BIN_EXE_ringwayd"));
    command.arg("push").arg(path);
    command.args(["--progress", "none", "--to"]);
    command.args(receivers.iter().map(|receiver| receiver.url("")));
    let began = Instant::now();
    let mut push = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut read = 0;
    while done.load(Ordering::SeqCst) < 7 {
        assert!(push.try_wait().unwrap().is_none(), "the push has ended early");
        assert!(began.elapsed() < PATIENCE, "seven receivers are not done");
        read = read_bytes(push.id()).max(read);
        thread::sleep(Duration::from_millis(20));
    }
    read = read_bytes(push.id()).max(read);
    let took = began.elapsed();
    assert!(push.try_wait().unwrap().is_none(), "the slow one was not waited for by anybody");
    stop.store(true, Ordering::SeqCst);
    push.kill().unwrap();
    push.wait().unwrap();
    let peak = group.peak().expect("the group counts its memory");
    assert!((16 * MIB..=256 * MIB).contains(&peak), "the bound was not in force: {peak}");
    println!(
        "seven of eight have {} MiB each after {:.1} s; read from the disk: {} MiB, {:.2} times the \
         file, one of them for the digest; peak of the group: {} MiB",
        LEN / MIB,
        took.as_secs_f64(),
        read / MIB,
        read as f64 / LEN as f64,
        peak / MIB,
    );
}

/// The control: within the same bound, a client that reads the file into its memory before it sends it does
/// not live to send a byte.
#[test]
#[ignore = "lane: memory; needs root; run with: cargo test --release -p ringway-examples --test watch memory -- --ignored --nocapture"]
fn a_client_that_holds_the_file_in_memory_is_ended_by_the_same_bound() {
    let group = Group::of(256 * MIB, "curl").expect("a control group for memory (root)");
    let scene = Scene::new();
    let path = file(&scene);
    let receiver = Receiver::start(|mut connection| {
        // Nothing comes but an end.
        assert!(connection.head().is_none(), "a request has come");
    });
    let mut command = group.command("curl");
    command.args(["--silent", "--data-binary"]).arg(format!("@{}", path.display()));
    command.arg(receiver.url("file")).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().expect("curl runs");
    assert_eq!(status.signal(), Some(9), "it was to be killed: {status}");
    let peak = group.peak().expect("the group counts its memory");
    assert!((240 * MIB..=256 * MIB).contains(&peak), "it was not memory that killed it: {peak}");
    println!("a client that buffers is killed at {} MiB", peak / MIB);
}

/// Bytes that a process has had read from disks.
fn read_bytes(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
