//! Full handshakes of TLS 1.3, one after the other: what each costs the server's thread.
//!
//! The server's side runs on the runtime's loop in both arms: ours, and rustls's buffered connection whose
//! bytes the same loop carries. So the difference is what is ours: reading the hello, rustls's unbuffered
//! interface, and taking the keys over. The client is rustls on a thread of its own, on the other CPU; it
//! resumes nothing. Accepting and closing the connection is part of the figure, the same for both.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringway::runtime::{Runtime, net};
use ringway::tls::TlsAcceptor;
use ringway::tls::rustls::client::Resumption;
use ringway::tls::rustls::{ClientConfig, ClientConnection, ServerConfig};
use serde::{Deserialize, Serialize};

use super::suite::{Certificate, TLS_SUITE};
use super::{Options, rustls_loop};
use crate::data;
use crate::machine::{Machine, pin_to};
use crate::measure::{Start, Usage};
use crate::neighbours::{Neighbours, Watch};
use crate::results::{self, SCHEMA};
use crate::schedule::{self, Bounds};
use crate::stats::{Estimate, estimate, estimate_ratio};
use crate::{loopback, table};

/// Handshakes of one sample.
const BATCH: u32 = 300;

const ARMS: [(&str, &str); 2] = [
    ("ringway-accept", "TlsAcceptor::accept"),
    ("rustls-accept", "a buffered ServerConnection of rustls over the same loop"),
];

/// What one arm did. The certificate is of P-256.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    schema: u32,
    mode: String,
    arm: String,
    about: String,
    n: usize,
    handshakes_per_sample: u32,
    cpu_us_per_handshake: Estimate,
    handshakes_per_cpu_s: Estimate,
    /// CPU of this arm to CPU of rustls in the same round.
    ratio_to_rustls: Option<Estimate>,
    machine: Machine,
    neighbours: Neighbours,
    samples: Vec<Usage>,
}

/// Measures, prints, and writes if a directory was given.
pub(super) fn run(options: &Options) -> Result<()> {
    let directory = data::directory(options.timed.data_dir.as_deref())?;
    let machine = Machine::look(&directory)?;
    println!("{}\n", table::heading(&machine));
    let folder = tempfile::tempdir_in(&directory)?;
    let certificate = Certificate::make(folder.path())?;
    let server = certificate.server(TLS_SUITE)?;
    let client = Client::start(&certificate, machine.receiver_cpu)?;
    pin_to(machine.sender_cpu)?;
    let watch = Watch::start();
    let mut samples: [Vec<Usage>; 2] = [Vec::new(), Vec::new()];
    let (begin, time) = (Instant::now(), Duration::from_secs(options.timed.seconds_budget));
    // The first round warms caches and counts for nobody.
    for arm in 0..ARMS.len() {
        batch(arm, &server, &client)?;
    }
    let mut done = 0;
    while schedule::goes_on(Bounds::QUICK, done, begin.elapsed(), time) {
        done += 1;
        for arm in schedule::order(ARMS.len(), done) {
            samples[arm].push(batch(arm, &server, &client)?);
        }
    }
    let rows = condense(&machine, watch.seen(), &samples)?;
    print(&rows);
    if let Some(directory) = &options.timed.out {
        let path = results::write(directory, "tls-handshakes", &machine, &rows)?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// Takes the server's side of a batch of handshakes, one after the other.
fn batch(arm: usize, config: &Arc<ServerConfig>, client: &Client) -> Result<Usage> {
    let runtime = Runtime::new()?;
    let listener = net::TcpListener::from_std(loopback::listen(crate::network::LOCALHOST)?)?;
    let acceptor = TlsAcceptor::new(Arc::clone(config));
    client.wanted.send(listener.local_address()?).ok().context("the client has gone")?;
    let used = runtime.block_on(async {
        let start = Start::now();
        for _ in 0..BATCH {
            let stream = listener.accept().await?;
            if arm == 0 {
                let mut stream = acceptor.accept(stream).await?;
                stream.close().await?;
            } else {
                let mut connection = rustls_loop::accept(&stream, Arc::clone(config)).await?;
                rustls_loop::close(&stream, &mut connection).await?;
            }
        }
        anyhow::Ok(start.used())
    });
    client.done.recv().context("the client has gone")??;
    used
}

/// The other side: a thread that shakes hands a batch of times with each address that it is given.
struct Client {
    wanted: Sender<SocketAddr>,
    done: Receiver<Result<()>>,
}

impl Client {
    fn start(certificate: &Certificate, cpu: usize) -> Result<Self> {
        let mut config = Arc::unwrap_or_clone(certificate.client(TLS_SUITE)?);
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        let (wanted, addresses) = channel::<SocketAddr>();
        let (tell, done) = channel();
        std::thread::Builder::new().name("client".to_owned()).spawn(move || {
            // It ends with the last address; what cannot be told is told to nobody.
            for address in addresses {
                let outcome = pin_to(cpu).and_then(|()| shake(&config, address));
                if tell.send(outcome).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { wanted, done })
    }
}

fn shake(config: &Arc<ClientConfig>, address: SocketAddr) -> Result<()> {
    for _ in 0..BATCH {
        let mut socket: TcpStream = loopback::connect(address)?;
        loopback::prepare(&socket)?;
        let mut connection = ClientConnection::new(Arc::clone(config), "127.0.0.1".try_into()?)?;
        while connection.is_handshaking() || connection.wants_write() {
            connection.complete_io(&mut socket).context("no handshake")?;
        }
        // The server's end is awaited, or its close would meet bytes of ours.
        while socket.read(&mut [0; 4096])? > 0 {}
    }
    Ok(())
}

fn condense(machine: &Machine, neighbours: Neighbours, all: &[Vec<Usage>; 2]) -> Result<Vec<Row>> {
    let each = |samples: &[Usage], figure: &dyn Fn(f64) -> f64| -> Vec<f64> {
        samples.iter().map(|used| figure(used.main_thread_s / f64::from(BATCH))).collect()
    };
    let rustls = each(&all[1], &|cpu_s| cpu_s);
    let row = |((arm, about), samples): (&(&str, &str), &Vec<Usage>)| {
        let cpu = estimate(&each(samples, &|cpu_s| cpu_s * 1e6)).context("no samples")?;
        let rate = estimate(&each(samples, &|cpu_s| 1.0 / cpu_s)).context("no samples")?;
        Ok(Row {
            schema: SCHEMA,
            mode: "tls-handshakes".to_owned(),
            arm: (*arm).to_owned(),
            about: (*about).to_owned(),
            n: samples.len(),
            handshakes_per_sample: BATCH,
            cpu_us_per_handshake: cpu,
            handshakes_per_cpu_s: rate,
            ratio_to_rustls: estimate_ratio(&each(samples, &|cpu_s| cpu_s), &rustls),
            machine: machine.clone(),
            neighbours,
            samples: samples.clone(),
        })
    };
    let rows: Result<Vec<Row>> = ARMS.iter().zip(all).map(row).collect();
    let rows = rows?;
    ensure!(rows.iter().all(|row| row.cpu_us_per_handshake.median > 0.0), "nothing was measured");
    Ok(rows)
}

fn print(rows: &[Row]) {
    for row in rows {
        let cpu = table::interval(&row.cpu_us_per_handshake, 1);
        let rate = table::interval(&row.handshakes_per_cpu_s, 0);
        let ratio = row.ratio_to_rustls.map_or(String::new(), |r| table::interval(&r, 3));
        println!("{:16} {cpu} CPU-µs   {rate} per CPU-s   {ratio} × rustls   n={}", row.arm, row.n);
    }
}
