//! A network of the harness's own, where every socket uses CUBIC whatever it asks for; and a second one
//! behind a veth pair.
//!
//! The congestion control of a socket that chooses none comes from its route, then from the sysctl. A
//! namespace may not set the sysctl to an algorithm that the host restricts, but its routes may name it
//! (`congctl` in ip-route(8)), and an accepted socket takes that of the route back to its peer.
//!
//! Neither network has a name: each vanishes with the last process in it, and the pair with them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::launch::die_with_the_parent;
use crate::loopback;

/// Moves this thread, and what it will start, into a network of its own with CUBIC on its loopback.
/// Called while this is the only thread.
///
/// # Errors
///
/// This is not root, or there is no ip(8): the run goes on in the host's network, with its settings.
pub(crate) fn enter() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root can make one");
    ip("-Version").context("iproute2 is needed to set one up")?;
    unshare()?;
    ip("link set lo up")?;
    for destination in ["127.0.0.0/8", "127.0.0.1"] {
        ip(&format!(
            "route replace local {destination} dev lo table local proto kernel scope host \
             src 127.0.0.1 congctl cubic"
        ))?;
    }
    Ok(())
}

fn unshare() -> Result<()> {
    // SAFETY: the file descriptor table stays shared: NEWNET changes only the network of this thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("the kernel refused one")
}

/// Moves this thread into the network that `path` leads to.
pub(crate) fn join(path: &Path) -> Result<()> {
    let network = std::fs::File::open(path).context("the far network is gone")?;
    let kind = Some(LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(network.as_fd(), kind)?;
    Ok(())
}

/// The congestion control of an accepted socket that did not choose: what a server gets here.
pub(crate) fn congestion_in_force() -> Result<String> {
    let listener = loopback::listen(LOCALHOST)?;
    let _client = loopback::connect(listener.local_addr()?)?;
    let accepted = loopback::accept(&listener)?;
    Ok(rustix::net::sockopt::tcp_congestion(accepted)?)
}

/// Packets that the loopback of this thread's network has carried.
pub(crate) fn loopback_packets() -> Result<u64> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let sent = table.lines().find_map(|line| {
        let figures = line.trim_start().strip_prefix("lo:")?;
        // proc_net_dev(5): eight figures received, then bytes and packets sent.
        figures.split_ascii_whitespace().nth(9)?.parse().ok()
    });
    sent.context("/proc/net/dev has no loopback")
}

/// Where both sides are without a veth pair.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const NEAR: &str = "10.199.0.1";
const FAR: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 2);

/// The other end of a veth pair, in a network that a keeper holds open.
#[derive(Debug)]
pub(crate) struct Far {
    keeper: Child,
    /// `None` only while it is dropped.
    stdin: Option<ChildStdin>,
}

impl Far {
    /// Lays a pair between this thread's network, which [`enter`] has made, and a new one; `own` is this
    /// program.
    ///
    /// # Errors
    ///
    /// The kernel has no veth: the points over one are gaps then.
    pub(crate) fn lay(own: &Path) -> Result<Self> {
        let mut keeper = Command::new(own)
            .args(["keep-network", "--parent", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the keeper of the far network could not be started")?;
        let stdin = keeper.stdin.take();
        let mut said = BufReader::new(keeper.stdout.take().context("the keeper has no stdout")?);
        let mut far = Self { keeper, stdin };
        hear(&mut said, "unshared")?;
        let keeper = far.keeper.id();
        ip(&format!("link add rw-near type veth peer name rw-far netns {keeper}"))?;
        ip(&format!("address add {NEAR}/30 dev rw-near"))?;
        ip("link set rw-near up")?;
        ip("route replace 10.199.0.0/30 dev rw-near congctl cubic")?;
        far.stdin.as_mut().context("the keeper has no stdin")?.write_all(b"laid\n")?;
        hear(&mut said, "up")?;
        Ok(far)
    }

    /// A path to the network, for [`join`].
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keeper.id()))
    }

    /// The address of the far end.
    pub(crate) fn address() -> IpAddr {
        FAR.into()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It fails only if the keeper is gone already.
        let _ = self.keeper.wait();
    }
}

fn hear(said: &mut BufReader<ChildStdout>, word: &str) -> Result<()> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.trim_end() == word, "the keeper of the far network failed");
    Ok(())
}

/// What the keeper is told.
#[derive(Debug, clap::Args)]
pub(crate) struct KeeperJob {
    #[arg(long)]
    parent: i32,
}

/// Makes a network, takes one end of the pair that the parent lays, and keeps both until stdin ends.
pub(crate) fn keep(job: &KeeperJob) -> Result<()> {
    die_with_the_parent(job.parent, Signal::KILL)?;
    unshare()?;
    ip("link set lo up")?;
    say("unshared")?;
    std::io::stdin().read_line(&mut String::new())?;
    ip(&format!("address add {FAR}/30 dev rw-far"))?;
    ip("link set rw-far up")?;
    ip("route replace 10.199.0.0/30 dev rw-far congctl cubic")?;
    say("up")?;
    // Whatever ends the parent ends this.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn say(word: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}")?;
    out.flush()?;
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .context("ip(8) cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}: {}", output.status, said.trim());
    Ok(())
}
