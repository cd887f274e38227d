//! The servers over TLS 1.3, with clients that everybody has: wrk for requests, curl for one long body.
//!
//! All agree on AES-256-GCM: nginx and `ServeDir` offer nothing else, and the clients of all are told so by
//! a configuration of OpenSSL. An answer is compared byte by byte before each timed stretch of wrk, and once
//! for each server of the long body; in the timed ones the clients count.

mod clients;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::clients::Clients;
use self::rows::{Row, Sample, Setting};
use super::processes::Meter;
use super::roster::{Installed, Server, TLS_SERVERS};
use super::running::Running;
use super::site::Site;
use super::{Options, named};
use crate::data::{self, DataFile};
use crate::machine::{Machine, pin_to};
use crate::neighbours::Watch;
use crate::point::{KIB, MIB};
use crate::schedule::{self, Bounds};
use crate::tls::Certificate;
use crate::{network, results};

/// A file, and who asks for it.
#[derive(Debug)]
struct Point {
    name: &'static str,
    file_len: u64,
    client: Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// As many keep-alive connections, for some time.
    Wrk { connections: u32, seconds: u32 },
    /// One GET, opened by OpenSSL.
    Curl,
    /// One GET, whose sealed answer is discarded: the same cheap client for everybody.
    Discard,
}

const WRK: Client = Client::Wrk { connections: 64, seconds: 3 };

const POINTS: &[Point] = &[
    Point { name: "tls-get-64k", file_len: 64 * KIB, client: WRK },
    Point { name: "tls-get-1m", file_len: MIB, client: WRK },
    Point { name: "tls-download-1g", file_len: 1024 * MIB, client: Client::Curl },
    Point { name: "tls-discard-1g", file_len: 1024 * MIB, client: Client::Discard },
];

/// What stays the same for all trials of a run.
struct Stage {
    own: PathBuf,
    site: Site,
    clients: Clients,
    server_cpu: usize,
}

/// Measures, prints, and writes if a directory was given.
pub(super) fn run(options: &Options) -> Result<()> {
    let own = std::env::current_exe()?;
    let points = named(&options.points, POINTS, |point| point.name, |_| false)?;
    let servers = named(&options.servers, TLS_SERVERS, |server| server.name, |_| false)?;
    let ringwayd = options.ringwayd.clone().unwrap_or_else(|| own.with_file_name("ringwayd"));
    let own_network = network::enter();
    if let Err(why) = &own_network {
        eprintln!("no network of its own: {why:#}; the host's is used, with its settings");
    }
    let directory = data::directory(options.data_dir.as_deref())?.canonicalize()?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", crate::table::heading(&machine));
    pin_to(machine.receiver_cpu)?;
    let site = Site::make(&own, &directory)?;
    let clients = Clients::make(site.path(), &Certificate::make(site.path())?)?;
    let congestion = network::congestion_in_force()?;
    let stage = Stage { own, site, clients, server_cpu: machine.sender_cpu };
    let mut found = Vec::new();
    for server in servers {
        match Installed::find(server, &stage.own, &ringwayd) {
            Ok(installed) => found.push(installed),
            Err(why) => println!("{} is missing: {why}", server.name),
        }
    }
    let time = Duration::from_secs(options.seconds_budget) / u32::try_from(points.len())?;
    let mut rows: Vec<Row> = Vec::new();
    for (number, point) in (1..).zip(points) {
        let many = matches!(point.client, Client::Wrk { .. });
        let here: Vec<&Installed> =
            found.iter().filter(|server| server.server.is_a_server() || !many).collect();
        let path = stage.site.root().join(point.name);
        let data = DataFile::create_named(&path, point.file_len, number)?;
        let watch = Watch::start();
        let samples = stage.measure(point, &here, &data, time)?;
        let setting = Setting {
            machine: &machine,
            neighbours: watch.seen(),
            own_network: own_network.is_ok(),
            congestion: &congestion,
            point,
        };
        let new = rows::condense(&setting, &here, &samples)?;
        println!("{}", rows::table(point, &new));
        rows.extend(new);
        std::fs::remove_file(&path)?;
    }
    if let Some(directory) = &options.out {
        let path = results::write(directory, "servers-tls", &machine, &rows)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

impl Stage {
    /// Runs all servers round by round; the samples of each are in the order of the rounds.
    fn measure(
        &self,
        point: &Point,
        servers: &[&Installed],
        data: &DataFile,
        time: Duration,
    ) -> Result<Vec<Vec<Sample>>> {
        let mut samples = vec![Vec::new(); servers.len()];
        let (begin, mut done) = (Instant::now(), 0);
        while schedule::goes_on(Bounds::ONE_PASS, done, begin.elapsed(), time) {
            done += 1;
            for index in schedule::order(servers.len(), done) {
                let sample = self.trial(point, servers[index], data, done == 1);
                let name = servers[index].server.name;
                samples[index]
                    .push(sample.with_context(|| format!("point {}, server {name}", point.name))?);
            }
        }
        Ok(samples)
    }

    fn trial(
        &self,
        point: &Point,
        server: &Installed,
        data: &DataFile,
        first: bool,
    ) -> Result<Sample> {
        let running = Running::start(&self.own, server, &self.site, self.server_cpu)?;
        let measured = self.measured(point, &running, data, first);
        measured.map_err(|error| match running.last_words() {
            words if words.is_empty() => error,
            words => error.context(format!("the server said: {words}")),
        })
    }

    fn measured(
        &self,
        point: &Point,
        running: &Running,
        data: &DataFile,
        first: bool,
    ) -> Result<Sample> {
        let url = format!("https://{}/{}", running.address, point.name);
        if first || matches!(point.client, Client::Wrk { .. }) {
            self.clients.compare(&url, data)?;
        }
        if let Client::Wrk { connections, .. } = point.client {
            // Caches and buffers reach their steady state.
            self.clients.wrk(&url, connections, 1)?;
        }
        let meter = Meter::start(running.processes())?;
        let begin = Instant::now();
        let requests = match point.client {
            Client::Wrk { connections, seconds } => self.clients.wrk(&url, connections, seconds)?,
            Client::Curl => {
                self.clients.download(&url, point.file_len)?;
                1
            }
            Client::Discard => {
                self.clients.discard(running.address, point.name, point.file_len)?;
                1
            }
        };
        let wall_s = begin.elapsed().as_secs_f64();
        let cpu = meter.used()?;
        Ok(Sample {
            requests,
            wall_s,
            cpu_s: cpu.total_s,
            user_share: cpu.user_share,
            rss_bytes: meter.rss_bytes()?,
        })
    }
}

/// What the others are compared with.
const BASELINE: &str = "nginx-tls";

impl Point {
    fn sentence(&self) -> String {
        let client = match self.client {
            Client::Wrk { connections, seconds } => {
                format!("{connections} keep-alive connections of wrk for {seconds} s, ")
            }
            Client::Curl => "one GET by curl, ".to_owned(),
            Client::Discard => "one GET by a client that does not open what is sealed, ".to_owned(),
        };
        format!("{client}a hot file of {} bytes, TLS 1.3 with AES-256-GCM", self.file_len)
    }

    fn about(&self, server: &Server) -> String {
        match self.client {
            Client::Wrk { connections, seconds } => {
                format!("{}; wrk, {connections} connections, {seconds} s", server.about)
            }
            Client::Curl => format!("{}; curl, one GET", server.about),
            Client::Discard => format!("{}; one GET, not opened", server.about),
        }
    }
}
