//! One stream of a hot file over TLS 1.3: what each way costs per GB, and how much of it is the cipher.
//!
//! Every trial has a sender of its own, a process on its CPU that takes the server's side of a handshake; the
//! receiver is the client. Usage is counted from behind the handshake to the moment at which the receiver
//! has everything. In timed rounds the receiver discards ciphertext, so that it is as cheap for every arm;
//! before them it opens and compares every byte of a smaller file, of each arm with each suite.

mod arms;
mod cipher;
mod handshakes;
mod receiver;
mod rows;
mod rustls_loop;
mod sealed_loop;
mod suite;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::ClientConfig;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

pub(crate) use self::arms::shaken;
use self::arms::{ARMS, Arm};
pub(crate) use self::receiver::discard_answer;
use self::receiver::{Expected, Purpose};
use self::rows::Setting;
pub(crate) use self::sealed_loop::Sealer;
pub(crate) use self::suite::Certificate;
use self::suite::{SUITES, Suite};
pub(crate) use self::suite::{TLS_SUITE, credulous_client, server_of_a_moment};
use crate::data::{self, DataFile};
use crate::filter::chosen;
use crate::launch::die_with_the_parent;
use crate::machine::{Machine, pin_to};
use crate::measure::Usage;
use crate::neighbours::Watch;
use crate::network::LOCALHOST;
use crate::point::{KIB, MIB};
use crate::schedule::Bounds;
use crate::timed::{Sent, Timed};
use crate::{loopback, results, schedule, table};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure full handshakes instead: CPU of the server's thread for each.
    #[arg(long, conflicts_with_all = ["suites", "arms", "mebibytes"])]
    handshakes: bool,
    /// Measure only these cipher suites, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    suites: Vec<String>,
    /// Length of the file in MiB.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    mebibytes: u64,
    #[command(flatten)]
    timed: Timed,
}

/// What the parent wants done.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    #[arg(long)]
    suite: String,
    /// Where certificate and key are.
    #[arg(long)]
    certificate: PathBuf,
    #[command(flatten)]
    sent: Sent,
}

/// What the sender tells of one trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    usage: Usage,
    congestion: String,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: wrong bytes fail the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.handshakes {
        return handshakes::run(options);
    }
    let suites = chosen(SUITES, &options.suites, |suite| suite.name)?;
    let mut arms = chosen(ARMS, &options.timed.arms, |arm| arm.name)?;
    arms.retain(|arm| !arm.hidden || options.timed.arms.iter().any(|name| name == arm.name));
    let directory = data::directory(options.timed.data_dir.as_deref())?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", table::heading(&machine));
    pin_to(machine.receiver_cpu)?;
    let folder = tempfile::tempdir_in(&directory)?;
    let large = options.mebibytes * MIB;
    let stage = Stage {
        certificate: Certificate::make(folder.path())?,
        small: DataFile::create_named(&folder.path().join("small"), large.min(48 * MIB) + 4321, 1)?,
        large: DataFile::create_named(&folder.path().join("large"), large, 2)?,
        cpu: machine.sender_cpu,
    };
    let time = Duration::from_secs(options.timed.seconds_budget) / u32::try_from(suites.len())?;
    let mut rows = Vec::new();
    for suite in suites {
        let watch = Watch::start();
        let samples = stage.measure(suite, &arms, time)?;
        let neighbours = watch.seen();
        let bytes = stage.large.slices.len;
        let setting = Setting { machine: &machine, neighbours, suite, bytes };
        let mut new = rows::condense(&setting, &arms, &samples)?;
        // It is not worth an error: the program is there or not.
        new.extend(rows::openssl(&setting, &cipher::openssl(suite, machine.sender_cpu)));
        println!("{}", rows::table(suite, &new));
        rows.extend(new);
    }
    if let Some(directory) = &options.timed.out {
        let path = results::write(directory, "tls", &machine, &rows)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// The sender: one arm, once.
pub(crate) fn send(job: &Job) -> Result<()> {
    die_with_the_parent(job.sent.parent, Signal::KILL)?;
    pin_to(job.sent.cpu)?;
    let arm = ARMS.iter().find(|arm| arm.name == job.sent.arm).context("no such arm")?;
    let suite = SUITES.iter().find(|suite| suite.name == job.suite).context("no such suite")?;
    let config = Certificate::at(&job.certificate).server(suite)?;
    let file = File::open(&job.sent.data)?;
    let socket = loopback::connect((LOCALHOST, job.sent.port).into())?;
    let congestion = loopback::prepare(&socket)?;
    let usage = arm.run(file, socket, config, suite)?;
    println!("{}", serde_json::to_string(&Told { usage, congestion })?);
    Ok(())
}

struct Stage {
    certificate: Certificate,
    /// What is compared; no whole number of records.
    small: DataFile,
    /// What is timed.
    large: DataFile,
    cpu: usize,
}

impl Stage {
    /// Runs all arms round by round, after a round whose bytes are compared.
    fn measure(&self, suite: &Suite, arms: &[&Arm], time: Duration) -> Result<Vec<Vec<Told>>> {
        let client = self.certificate.client(suite)?;
        let mut samples = vec![Vec::new(); arms.len()];
        for arm in arms {
            self.trial(suite, arm, &client, Purpose::Compare)?;
        }
        let (begin, mut done) = (Instant::now(), 0);
        while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
            done += 1;
            for index in schedule::order(arms.len(), done) {
                samples[index].push(self.trial(suite, arms[index], &client, Purpose::Discard)?);
            }
        }
        Ok(samples)
    }

    fn trial(
        &self,
        suite: &Suite,
        arm: &Arm,
        client: &Arc<ClientConfig>,
        purpose: Purpose,
    ) -> Result<Told> {
        self.attempt(suite, arm, client, purpose)
            .with_context(|| format!("suite {}, arm {}", suite.name, arm.name))
    }

    fn attempt(
        &self,
        suite: &Suite,
        arm: &Arm,
        client: &Arc<ClientConfig>,
        purpose: Purpose,
    ) -> Result<Told> {
        let data = if purpose == Purpose::Compare { &self.small } else { &self.large };
        let listener = loopback::listen(LOCALHOST)?;
        let port = listener.local_addr()?.port();
        let mut sender = self.command(suite, arm, &data.path(), port)?.spawn()?;
        let expected = Expected { sends: arm.sends, len: data.slices.len, canary: data.canary };
        let received = receiver::receive(&listener, client, &expected, purpose);
        if received.is_err() {
            // It fails only if the sender has ended already, and then says why by itself.
            let _ = sender.kill();
        }
        let output = sender.wait_with_output()?;
        received?;
        ensure!(output.status.success(), "the sender failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn command(&self, suite: &Suite, arm: &Arm, data: &Path, port: u16) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("tls-sender")
            .args(["--arm", arm.name, "--suite", suite.name])
            .args(["--port", &port.to_string(), "--cpu", &self.cpu.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .arg("--certificate")
            .arg(self.certificate.directory())
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped());
        Ok(command)
    }
}

/// Bytes of a file in a record of TLS, at most: RFC 8446, 5.1.
const RECORD_DATA: u64 = 16 * KIB;
/// What a full record adds: header, content type, tag: RFC 8446, 5.2.
const RECORD_REST: u64 = 5 + 1 + 16;
