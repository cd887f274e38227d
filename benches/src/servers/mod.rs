//! Whole servers side by side: nginx, ringwayd, and what a Rust user writes today.
//!
//! ```text
//!   harness, CPU 1                       a server, CPU 0
//!   rounds, order, verdict
//!   trial: one server once   launch ──▶  pinned, bound to the harness's life
//!   load: 64 connections     ◀── HTTP ─▶ GETs over loopback
//!   processes: CPU clocks of the server and its children, from outside
//!   stop                     SIGTERM ─▶
//! ```
//!
//! All of it happens in a network namespace of its own where that can be had: `crate::network`.

mod broken;
mod filtering;
mod floor;
mod nginx;
mod open;
mod point;
mod processes;
mod roster;
mod rows;
mod running;
#[cfg(feature = "peers")]
mod servedir;
mod site;
mod table;
mod tls;
mod trial;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub(crate) use broken::{BrokenJob, serve_broken};
pub(crate) use filtering::{FilteringJob, serve_filtering};
pub(crate) use floor::{FloorJob, serve_floor};
pub(crate) use roster::{Installed, SERVERS, Server};
pub(crate) use running::Running;
#[cfg(feature = "peers")]
pub(crate) use servedir::{ServedirJob, serve_dir};
pub(crate) use site::{Site, SiteJob, keep_site};

use crate::data::{self, DataFile};
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::progress::Progress;
use crate::schedule::Bounds;
use crate::{network, results, schedule};
use point::{POINTS, Point};
use rows::{Part, Setting};
use trial::{Sample, Stage};

/// What the command line asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the whole run may take, in seconds; more time buys more rounds.
    #[arg(long, value_name = "N", default_value_t = 240)]
    seconds_budget: u64,
    /// Write the results as JSON lines into this directory (nothing is written otherwise).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure only these points, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    points: Vec<String>,
    /// Measure only these servers, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// The daemon to measure (default: `ringwayd` beside this program).
    #[arg(long, value_name = "PATH")]
    ringwayd: Option<PathBuf>,
    /// Compare over TLS 1.3 instead, with wrk and curl as clients.
    #[arg(long)]
    tls: bool,
    /// Let the client spin instead of sleeping, so that no server pays for waking it.
    #[arg(long)]
    busy_client: bool,
    #[command(flatten)]
    open: open::Options,
    /// Where the files are put: a directory on a disk (default: the temporary directory).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A server of the run: ready to be started, or missing for a reason.
type Candidate = (&'static Server, Result<Installed, String>);

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: a wrong answer fails the whole run.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.open.open_loop {
        return open::run(options);
    }
    if options.tls {
        return tls::run(options);
    }
    let deadline = Instant::now() + Duration::from_secs(options.seconds_budget);
    let own = std::env::current_exe()?;
    let points = named(&options.points, POINTS, |point| point.name, |point| point.hidden)?;
    let servers = named(&options.servers, SERVERS, |server| server.name, |server| server.hidden)?;
    let ringwayd = options.ringwayd.clone().unwrap_or_else(|| own.with_file_name("ringwayd"));
    let find = |server| (server, Installed::find(server, &own, &ringwayd));
    let candidates: Vec<Candidate> = servers.into_iter().map(find).collect();
    let own_network = network::enter();
    if let Err(why) = &own_network {
        eprintln!("no network of its own: {why:#}; the host's is used, with its settings");
    }
    let directory = data::directory(options.data_dir.as_deref())?.canonicalize()?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", crate::table::heading(&machine));
    if !machine.optimized {
        eprintln!("warning: this is a debug build; its figures are not those of a release build");
    }
    // The load runs in this thread; servers move themselves to their own CPU.
    pin_to(machine.receiver_cpu)?;
    let site = Site::make(&own, &directory)?;
    let congestion = network::congestion_in_force()?;
    let (server_cpu, busy_client) = (machine.sender_cpu, options.busy_client);
    let own_network = own_network.is_ok();
    let stage = Stage { own, site, server_cpu, congestion, busy_client, own_network };
    let mut rows = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let points_left = u32::try_from(points.len() - index)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let point_deadline = Instant::now() + left / points_left;
        let data = stage.site.put(point, index as u64 + 1)?;
        let watch = Watch::start();
        let parts = measure(&stage, point, &candidates, &data, point_deadline)?;
        let neighbours = watch.seen();
        let setting = Setting { machine: &machine, neighbours, own_network, busy_client };
        let new = rows::condense(&setting, point, &parts)?;
        println!("{}\n", table::point(point, &new));
        rows.extend(new);
    }
    println!("{}\n", table::summary(&rows));
    match &options.out {
        Some(directory) => {
            let path = results::write(directory, "servers", &machine, &rows)?;
            println!("written to {}", path.display());
        }
        None => println!("not written to a file; --out benches/results would"),
    }
    Ok(())
}

/// The rows of a table that were asked for by name; all that are not hidden if none was.
fn named<T>(
    wanted: &[String],
    table: &'static [T],
    name: fn(&T) -> &'static str,
    hidden: fn(&T) -> bool,
) -> Result<Vec<&'static T>> {
    if wanted.is_empty() {
        return Ok(table.iter().filter(|row| !hidden(row)).collect());
    }
    for wanted in wanted {
        ensure!(table.iter().any(|row| name(row) == wanted), "nothing is named {wanted}");
    }
    Ok(table.iter().filter(|row| wanted.iter().any(|wanted| wanted == name(row))).collect())
}

/// Runs all servers round by round; the samples of each are in the order of the rounds.
fn measure(
    stage: &Stage,
    point: &Point,
    candidates: &[Candidate],
    data: &DataFile,
    deadline: Instant,
) -> Result<Vec<(&'static Server, Part)>> {
    let here: Vec<&Installed> =
        candidates.iter().filter_map(|(_, found)| found.as_ref().ok()).collect();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); here.len()];
    if !here.is_empty() {
        rounds(stage, point, &here, data, deadline, &mut samples)?;
    }
    let mut samples = samples.into_iter();
    let parts = candidates.iter().map(|(server, found)| {
        let part = match found {
            Ok(installed) => {
                let own = samples.next().context("every server has samples")?;
                Ok((installed.version.clone(), own))
            }
            Err(why) => Err(why.clone()),
        };
        Ok((*server, part))
    });
    parts.collect()
}

fn rounds(
    stage: &Stage,
    point: &Point,
    servers: &[&Installed],
    data: &DataFile,
    deadline: Instant,
    samples: &mut [Vec<Sample>],
) -> Result<()> {
    for server in servers {
        // The warm-up: its answers are verified like all others, its figures are dropped.
        trial::run(stage, point, server, data, 0)?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let begin = Instant::now();
    let progress = Progress::new(point.name, left, servers.len());
    let mut done = 0;
    while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), left) {
        let round = done + 1;
        for index in schedule::order(servers.len(), round) {
            let server = servers[index];
            progress.arm(round, server.server.name);
            samples[index].push(trial::run(stage, point, server, data, round)?);
        }
        done = round;
        progress.round_done(round, begin.elapsed());
    }
    Ok(())
}
