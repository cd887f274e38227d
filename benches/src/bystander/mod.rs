//! What innocent clients notice: of a large cold transfer on the same loop, of peers that never read.
//!
//! ```text
//!   harness, CPU 1                                server, CPU 0
//!   open loop: small files at a fixed rate  ───▶  one loop for all of them
//!   the disturbance of the scene            ───▶
//! ```
//!
//! Slices with and without the disturbance alternate (ABBA), against one server that runs throughout. A
//! slice gives one p99; neighbours in time make a pair, and the figure is the median of the pairs' ratios.

mod disturbance;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::canary::Canary;
use crate::data::{self, DataFile};
use crate::loopback;
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::open_loop::{self, Line, Offer, OpenLoop, Question};
use crate::point::{GIB, KIB, MIB};
use crate::progress::Progress;
use crate::schedule::{self, Bounds};
use crate::servers::{Installed, Running, SERVERS, Server, Site};
use crate::{network, results};
use disturbance::{Disturbance, Kind};
use rows::{Row, Slice};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more pairs.
    #[arg(long, value_name = "N", default_value_t = 160)]
    seconds_budget: u64,
    /// Write the results as JSON lines into this directory (nothing is written otherwise).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure only these servers, by name.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "ringwayd,ringway-filter,nginx-nopush-off"
    )]
    servers: Vec<String>,
    /// Measure only these scenes: `cold-transfer`, `stalled-peers`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    scenes: Vec<String>,
    /// Requests per second of the open loop.
    #[arg(long, value_name = "N", default_value_t = 2000.0)]
    rate: f64,
    /// Milliseconds of a slice.
    #[arg(long, value_name = "N", default_value_t = 500)]
    slice_ms: u32,
    /// Bytes of the cold transfer.
    #[arg(long, value_name = "N", default_value_t = GIB)]
    transfer_bytes: u64,
    /// How many peers stall.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    stalled: u32,
    /// The daemon to measure (default: `ringwayd` beside this program).
    #[arg(long, value_name = "PATH")]
    ringwayd: Option<PathBuf>,
    /// Where the files are put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A situation in which bystanders are watched.
#[derive(Debug)]
struct Scene {
    name: &'static str,
    /// What the bystanders ask for, in bytes.
    small_len: u64,
    connections: u32,
    kind: Kind,
}

const SCENES: &[Scene] = &[
    Scene { name: "cold-transfer", small_len: KIB, connections: 32, kind: Kind::ColdTransfer },
    Scene { name: "stalled-peers", small_len: 64 * KIB, connections: 32, kind: Kind::StalledPeers },
];

/// What every stalled peer has asked for, in bytes; it is hot.
const STALLED_LEN: u64 = 16 * MIB;

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, a server is missing or fails, an answer is wrong.
pub(crate) fn run(options: &Options) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(options.seconds_budget);
    let scenes: Vec<&Scene> = match &options.scenes[..] {
        [] => SCENES.iter().collect(),
        names => names
            .iter()
            .map(|name| SCENES.iter().find(|scene| scene.name == name).context("no such scene"))
            .collect::<Result<_>>()?,
    };
    let servers = options.servers.iter().map(|name| {
        SERVERS
            .iter()
            .find(|server| server.name == name)
            .with_context(|| format!("no server {name}"))
    });
    let servers: Vec<&'static Server> = servers.collect::<Result<_>>()?;
    let own = std::env::current_exe()?;
    let ringwayd = options.ringwayd.clone().unwrap_or_else(|| own.with_file_name("ringwayd"));
    if let Err(why) = network::enter() {
        eprintln!("no network of its own: {why:#}; the host's is used, with its settings");
    }
    let directory = data::directory(options.data_dir.as_deref())?.canonicalize()?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", crate::table::heading(&machine));
    pin_to(machine.receiver_cpu)?;
    let priority = open_loop::become_urgent();
    let site = Site::make(&own, &directory)?;
    let files = Files::make(options, &site)?;
    let mut rows = Vec::new();
    let mut left = scenes.len() * servers.len();
    for scene in scenes {
        for server in &servers {
            let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left)?;
            left -= 1;
            let installed = match Installed::find(server, &own, &ringwayd) {
                Ok(installed) => installed,
                Err(why) => {
                    println!("{}, {}: gap: {why}", scene.name, server.name);
                    continue;
                }
            };
            let watch = Watch::start();
            let running = Running::start(&own, &installed, &site, machine.sender_cpu)?;
            let slices = watched(options, scene, &running, &files, share);
            let slices = slices.with_context(|| format!("{}, {}", scene.name, server.name))?;
            drop(running);
            let row =
                Row::new(&machine, watch.seen(), scene.name, &installed, slices, options.rate)?;
            let row = Row { urgent_client: priority, ..row };
            println!("{row}\n");
            rows.push(row);
        }
    }
    if let Some(directory) = &options.out {
        let path = results::write(directory, "bystander", &machine, &rows)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// What the server serves.
#[derive(Debug)]
struct Files {
    smalls: Vec<(u64, DataFile)>,
    large: DataFile,
    _stalled: DataFile,
}

impl Files {
    fn make(options: &Options, site: &Site) -> Result<Self> {
        let make =
            |name: &str, len, seed| DataFile::create_named(&site.root().join(name), len, seed);
        let small = |scene: &Scene| {
            let len = scene.small_len;
            Ok((len, make(&format!("small-{len}.bin"), len, 1)?))
        };
        Ok(Self {
            smalls: SCENES.iter().map(small).collect::<Result<_>>()?,
            large: make("large.bin", options.transfer_bytes, 2)?,
            _stalled: make("stalled.bin", STALLED_LEN, 3)?,
        })
    }

    fn small(&self, len: u64) -> Result<Canary> {
        let found = self.smalls.iter().find(|(own, _)| *own == len);
        found.map(|(_, data)| data.canary).context("no such file")
    }
}

/// Slices with and without the disturbance, in pairs.
fn watched(
    options: &Options,
    scene: &Scene,
    running: &Running,
    files: &Files,
    time: Duration,
) -> Result<Vec<(Slice, Slice)>> {
    let connect = || {
        let socket = loopback::connect(running.address)?;
        loopback::prepare(&socket)?;
        Ok(Line::plain(socket))
    };
    let path = format!("/small-{}.bin", scene.small_len);
    let question = Question::new(&path, scene.small_len, files.small(scene.small_len)?)?;
    let mut client = OpenLoop::new(scene.connections, question, connect)?;
    let requests = (options.rate * f64::from(options.slice_ms) / 1000.0).ceil().to_string();
    let offer =
        Offer { per_second: options.rate, requests: requests.parse()?, grace: loopback::PATIENCE };
    client.run(offer, || false)?;
    let mut slice = |disturbed: bool| -> Result<Slice> {
        let disturbance = match disturbed {
            false => None,
            true => Some(Disturbance::begin(
                scene.kind,
                running.address,
                &files.large,
                options.stalled,
            )?),
        };
        let over = || disturbance.as_ref().is_some_and(Disturbance::is_over);
        let begin = Instant::now();
        let tally = client.run(offer, over)?;
        let wall_s = begin.elapsed().as_secs_f64();
        let moved = disturbance.map(Disturbance::end).transpose()?;
        let lost = tally.errors + tally.unsent + tally.unanswered;
        ensure!(lost == 0, "wrong count: {lost} requests have no answer");
        ensure!(tally.answered > 0, "the disturbance was over before anybody asked");
        Ok(Slice {
            requests: tally.answered,
            p50_us: tally.latency_us(50.0),
            p99_us: tally.latency_us(99.0),
            max_us: tally.latency_us(100.0),
            disturbance_gb_per_s: moved.map(|bytes| bytes as f64 / 1e9 / wall_s),
        })
    };
    let begin = Instant::now();
    let progress = Progress::new(scene.name, time, 2);
    let (mut pairs, mut done) = (Vec::new(), 0);
    while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
        done += 1;
        // There and back again: with, without; without, with.
        let first_is_disturbed = done % 2 == 0;
        let first = slice(first_is_disturbed)?;
        let second = slice(!first_is_disturbed)?;
        pairs.push(if first_is_disturbed { (second, first) } else { (first, second) });
        progress.round_done(done, begin.elapsed());
    }
    Ok(pairs)
}
