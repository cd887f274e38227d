//! Servers at fixed rates: an open loop, latency from the intended start.
//!
//! Rates are shares of what the slowest of the servers does in a closed loop, by the same client, and the same
//! requests per second for all. A round in which the client itself was late is told, and not counted.

mod rows;
mod trial;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::ClientConfig;

use super::roster::{Installed, SERVERS, Server, TLS_SERVERS};
use super::site::Site;
use super::{Candidate, named};
use crate::data::{self, DataFile};
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::point::{KIB, MIB};
use crate::progress::Progress;
use crate::schedule::{self, Bounds};
use crate::tls::{Certificate, TLS_SUITE};
use crate::{network, open_loop, results};
use rows::Setting;
use trial::Sample;

/// What the command line asks for.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "open")]
pub(super) struct Options {
    /// Ask at fixed rates instead, whatever the answers do; with `--tls` over TLS.
    #[arg(long)]
    pub(super) open_loop: bool,
    /// Requests per second (default: a quarter, a half and three quarters of what the slowest server does).
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', requires = "open_loop")]
    rates: Vec<f64>,
    /// Milliseconds at each rate, in each round.
    #[arg(long, value_name = "N", default_value_t = 800, requires = "open_loop")]
    stretch_ms: u32,
    /// A round is not counted if the client was later than that with one request in a hundred, in
    /// microseconds, and later than a tenth of the p99 that it saw.
    #[arg(long, value_name = "N", default_value_t = 100.0, requires = "open_loop")]
    late_us: f64,
}

/// A file that is asked for over so many connections.
#[derive(Debug)]
struct Point {
    name: &'static str,
    file_len: u64,
    connections: u32,
    tls: bool,
    /// Runs only when named: it exists for the harness's own tests.
    hidden: bool,
}

const fn point(name: &'static str, file_len: u64, tls: bool) -> Point {
    Point { name, file_len, connections: 64, tls, hidden: false }
}

const POINTS: &[Point] = &[
    point("open-4k", 4 * KIB, false),
    point("open-64k", 64 * KIB, false),
    point("open-1m", MIB, false),
    Point { connections: 3, hidden: true, ..point("self-test-open", 20 * KIB + 13, false) },
];

const TLS_POINTS: &[Point] = &[
    point("tls-open-64k", 64 * KIB, true),
    point("tls-open-1m", MIB, true),
    Point { connections: 3, hidden: true, ..point("self-test-tls-open", 20 * KIB + 13, true) },
];

/// Of what the slowest server does, in hundredths.
const SHARES: [u32; 3] = [25, 50, 75];

/// What stays the same for all trials of a run.
struct Stage {
    own: PathBuf,
    site: Site,
    server_cpu: usize,
    config: Arc<ClientConfig>,
    stretch: Duration,
    late_us: f64,
}

/// A rate that all servers are asked at.
#[derive(Debug, Clone, PartialEq)]
struct Rate {
    /// The same in every run: `open-4k-at-25`.
    name: String,
    per_second: f64,
}

/// Measures, prints, and writes if a directory was given.
///
/// # Errors
///
/// A name is unknown, or a trial failed: a wrong answer fails the whole run.
pub(super) fn run(options: &super::Options) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(options.seconds_budget);
    let own = std::env::current_exe()?;
    let ringwayd = options.ringwayd.clone().unwrap_or_else(|| own.with_file_name("ringwayd"));
    let (mode, points, servers) = match options.tls {
        false => ("servers-open", POINTS, SERVERS),
        true => ("servers-tls-open", TLS_POINTS, TLS_SERVERS),
    };
    let points = named(&options.points, points, |point| point.name, |point| point.hidden)?;
    let mut servers = named(&options.servers, servers, |server| server.name, |it| it.hidden)?;
    servers.retain(|server| server.is_a_server());
    let find = |server| (server, Installed::find(server, &own, &ringwayd));
    let candidates: Vec<Candidate> = servers.into_iter().map(find).collect();
    let own_network = network::enter();
    if let Err(why) = &own_network {
        eprintln!("no network of its own: {why:#}; the host's is used, with its settings");
    }
    let directory = data::directory(options.data_dir.as_deref())?.canonicalize()?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", crate::table::heading(&machine));
    pin_to(machine.receiver_cpu)?;
    let urgent_client = open_loop::become_urgent();
    let site = Site::make(&own, &directory)?;
    let config = Certificate::make(site.path())?.client(TLS_SUITE)?;
    let stretch = Duration::from_millis(options.open.stretch_ms.into());
    let (server_cpu, late_us) = (machine.sender_cpu, options.open.late_us);
    let stage = Stage { own, site, server_cpu, config, stretch, late_us };
    let mut rows = Vec::new();
    for (number, point) in (1..).zip(&points) {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(points.len() + 1 - usize::try_from(number)?)?;
        let data = stage.put(point, number)?;
        let watch = Watch::start();
        let measured = stage.measure(point, &candidates, &data, &options.open.rates, share)?;
        let setting = Setting {
            mode,
            machine: &machine,
            neighbours: watch.seen(),
            own_network: own_network.is_ok(),
            urgent_client,
            point,
        };
        for (index, rate) in measured.rates.iter().enumerate() {
            let of_rate = |all: &Vec<Vec<Sample>>| all[index].clone();
            let mut samples = measured.samples.iter().map(of_rate);
            let mut new = Vec::new();
            for (server, found) in &candidates {
                let part = match found {
                    Ok(installed) => Ok((
                        installed.version.clone(),
                        samples.next().context("every server has samples")?,
                    )),
                    Err(why) => Err(why.clone()),
                };
                new.push((*server, part));
            }
            let new = rows::condense(&setting, rate, &measured.slowest, &new)?;
            println!("{}\n", rows::table(rate, &setting, &new));
            rows.extend(new);
        }
    }
    match &options.out {
        Some(directory) => {
            let path = results::write(directory, mode, &machine, &rows)?;
            println!("written to {}", path.display());
        }
        None => println!("not written to a file; --out benches/results would"),
    }
    Ok(())
}

/// What was found at a point.
struct Measured {
    rates: Vec<Rate>,
    /// Who sets the rates, and what it does in a closed loop; empty if they were given.
    slowest: String,
    /// For each server that is here, and each rate, the samples in the order of the rounds.
    samples: Vec<Vec<Vec<Sample>>>,
}

impl Stage {
    fn put(&self, point: &Point, seed: u64) -> Result<DataFile> {
        DataFile::create_named(&self.site.root().join(point.name), point.file_len, seed)
    }

    /// All servers round by round, each at all rates.
    fn measure(
        &self,
        point: &Point,
        candidates: &[Candidate],
        data: &DataFile,
        given: &[f64],
        time: Duration,
    ) -> Result<Measured> {
        let begin = Instant::now();
        let here: Vec<&Installed> =
            candidates.iter().filter_map(|(_, found)| found.as_ref().ok()).collect();
        let mut capacities: Vec<(&'static Server, f64)> = Vec::new();
        for server in here.iter().filter(|_| given.is_empty()) {
            let capacity = trial::capacity(self, point, server, data);
            capacities.push((server.server, capacity.with_context(|| said(point, server))?));
        }
        let (rates, slowest) = rates(point.name, given, &capacities)?;
        let mut samples = vec![vec![Vec::new(); rates.len()]; here.len()];
        let progress = Progress::new(point.name, time, here.len());
        let mut done = 0;
        while !here.is_empty() && schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
            done += 1;
            let order_of_rates = schedule::order(rates.len(), done);
            for index in schedule::order(here.len(), done) {
                progress.arm(done, here[index].server.name);
                let new = trial::run(self, point, here[index], data, &rates, &order_of_rates, done);
                let new = new.with_context(|| said(point, here[index]))?;
                for (rate, sample) in new {
                    samples[index][rate].push(sample);
                }
            }
            progress.round_done(done, begin.elapsed());
        }
        Ok(Measured { rates, slowest, samples })
    }
}

fn said(point: &Point, server: &Installed) -> String {
    format!("point {}, server {}", point.name, server.server.name)
}

/// The rates that were given, or shares of what the slowest server does; and who that is.
fn rates(
    point: &str,
    given: &[f64],
    capacities: &[(&'static Server, f64)],
) -> Result<(Vec<Rate>, String)> {
    ensure!(given.iter().all(|rate| *rate > 0.0 && rate.is_finite()), "a rate is a number above 0");
    let slowest = capacities.iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let rate = |(name, per_second)| Rate { name: format!("{point}-at-{name}"), per_second };
    Ok(match slowest {
        _ if !given.is_empty() => {
            let of = |per_second: &f64| rate((format!("{per_second}-per-s"), *per_second));
            (given.iter().map(of).collect(), String::new())
        }
        // Nobody is here: the gaps need names all the same.
        None => (SHARES.iter().map(|of| rate((of.to_string(), 0.0))).collect(), String::new()),
        Some((server, most)) => {
            let of =
                |share: &u32| rate((share.to_string(), rounded(most * f64::from(*share) / 100.0)));
            let text = format!("{}: {most:.0} requests/s in a closed loop", server.name);
            (SHARES.iter().map(of).collect(), text)
        }
    })
}

/// Down to two digits, so that runs have rates in common.
fn rounded(rate: f64) -> f64 {
    let unit = 10f64.powf(rate.log10().floor() - 1.0);
    (rate / unit).floor() * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::roster::named;

    #[test]
    fn rates_are_shares_of_what_the_slowest_does_and_the_same_for_all() {
        let of = |name| named(name).unwrap();
        let capacities = [(of("nginx-nopush-off"), 50_000.0), (of("servedir"), 14_321.0)];
        let (rates, slowest) = rates("open-4k", &[], &capacities).unwrap();
        let found: Vec<f64> = rates.iter().map(|rate| rate.per_second.round()).collect();
        assert_eq!(found, [3_500.0, 7_100.0, 10_000.0]);
        assert_eq!(rates[0].name, "open-4k-at-25");
        assert!(slowest.starts_with("servedir: 14321"), "{slowest}");
    }

    #[test]
    fn given_rates_are_taken_and_nonsense_is_refused() {
        let (found, slowest) = rates("p", &[100.0, 2000.0], &[]).unwrap();
        assert_eq!(found[1], Rate { name: "p-at-2000-per-s".to_owned(), per_second: 2000.0 });
        assert_eq!(slowest, "");
        assert!(rates("p", &[0.0], &[]).is_err());
        assert_eq!(rates("p", &[], &[]).unwrap().0.len(), 3);
    }
}
