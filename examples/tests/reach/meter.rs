//! What the kernel tells of a daemon, from outside.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use crate::daemon::{Daemon, PATIENCE};

/// Kernel threads of a ring at most: `bounded_workers_max` and `unbounded_workers_max` by default.
pub(crate) const WORKERS_MAX: usize = 8 + 16;
/// Descriptors of pipes at most: the pool's, and those of the standard streams.
pub(crate) const PIPE_FDS_MAX: usize = 2 * 32 + 6;

/// The names of its threads, those of the kernel's workers among them.
pub(crate) fn threads(daemon: &Daemon) -> Vec<String> {
    let folder = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    fs::read_dir(folder).unwrap().filter_map(|task| name(task.ok()?)).collect()
}

/// The kernel's workers among them.
pub(crate) fn workers(daemon: &Daemon) -> usize {
    threads(daemon).iter().filter(|name| name.starts_with("iou-wrk-")).count()
}

/// Ends of pipes that it has open.
pub(crate) fn pipe_fds(daemon: &Daemon) -> usize {
    daemon.descriptors().values().filter(|target| target.starts_with("pipe:")).count()
}

/// Memory of its own that this process uses, in bytes.
pub(crate) fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Processor time that it has used, in ticks of 10 ms.
pub(crate) fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The bytes that wait in the send queue of each connection at this port, not acknowledged.
pub(crate) fn send_queues(port: u16) -> Vec<u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let queue = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        // Only what is established: a listener has another kind of queue.
        let ours = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == "01";
        ours.then(|| u64::from_str_radix(fields.get(4)?.split_once(':')?.0, 16).ok())?
    };
    table.lines().skip(1).filter_map(queue).collect()
}

/// Memory of all TCP sockets of this machine, in bytes.
pub(crate) fn tcp_memory() -> u64 {
    let all = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = all.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit_once("mem ").unwrap().1.trim().parse::<u64>().unwrap() * 4096
}

/// How many peers the limit of descriptors allows, which counts both ends.
pub(crate) fn affordable(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let allowed = usize::try_from(limit.current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    wanted.min(allowed.saturating_sub(300))
}

/// A connection whose receive buffer is as small as can be.
pub(crate) fn narrow(address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 1024).unwrap();
    connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
