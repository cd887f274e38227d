//! The child: one arm at one point, pinned to its CPU, measured around each task it is given.

use std::fs::File;
use std::io::{BufRead, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::arms::{self, Arm, Counts, ExchangeArm, Make, StreamArm};
use crate::control::{Answer, Cost, Order, Task};
use crate::counters::Counters;
use crate::launch::die_with_the_parent;
use crate::loopback;
use crate::machine::pin_to;
use crate::measure::Start;
use crate::network;
use crate::point::{self, Point};

/// What the parent wants sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    #[arg(long)]
    pub(crate) arm: String,
    #[arg(long)]
    pub(crate) point: String,
    /// The file to send.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The CPU to run on.
    #[arg(long)]
    pub(crate) cpu: usize,
    /// The process that started this one.
    #[arg(long)]
    pub(crate) parent: i32,
    /// The address to listen on.
    #[arg(long)]
    pub(crate) address: IpAddr,
    /// The network that the address is in, if it is not the parent's.
    #[arg(long)]
    pub(crate) network: Option<PathBuf>,
    /// Count system calls, by the tracepoint with this number.
    #[arg(long)]
    pub(crate) syscall_event: Option<u64>,
}

/// Runs until the parent closes stdin.
pub(crate) fn run(job: &Job) -> Result<()> {
    die_with_the_parent(job.parent, Signal::KILL)?;
    // The parent is told what failed and says it; only what it cannot be told is said here.
    serve_the_parent(job).or_else(|error| say(&Answer::Failed { message: format!("{error:#}") }))
}

fn serve_the_parent(job: &Job) -> Result<()> {
    pin_to(job.cpu)?;
    if let Some(network) = &job.network {
        network::join(network)?;
    }
    let point = point::named(&job.point).context("no such point")?;
    let arm = arms::named(&job.arm, point).context("no such arm for this point")?;
    let file = File::open(&job.data).context("the data file cannot be opened")?;
    let connections = gather(point, job.address)?;
    // Threads that an arm starts when it is made are counted too.
    let mut counters = job.syscall_event.map(Counters::open).transpose()?;
    let mut worker = Worker::make(arm, file, point, connections)?;
    while let Some(order) = hear()? {
        let Order::Run(task) = order else { bail!("out of step: {order:?}") };
        let _ = worker.counts();
        let start = Start::now();
        let begin = counters.as_mut().map(Counters::begin).transpose()?;
        worker.run(task)?;
        let counting = counters.as_mut().zip(begin);
        let counted = counting.map(|(counters, begin)| counters.end(begin)).transpose()?;
        ensure!(hear()? == Some(Order::Received), "the parent did not confirm");
        let usage = start.used();
        worker.rest()?;
        let cost = Cost { usage, counts: worker.counts(), counted };
        say(&Answer::Measured(Box::new(cost)))?;
    }
    Ok(())
}

/// Accepts as many connections as the point has.
fn gather(point: &Point, address: IpAddr) -> Result<Vec<TcpStream>> {
    let listener = loopback::listen(address)?;
    say(&Answer::Listening { address: listener.local_addr()? })?;
    let mut connections = Vec::new();
    let mut congestion = String::new();
    for _ in 0..point.connections() {
        let socket = loopback::accept(&listener)?;
        congestion = loopback::prepare(&socket)?;
        connections.push(socket);
    }
    say(&Answer::Connected { congestion })?;
    Ok(connections)
}

/// An arm that was made and waits for work.
enum Worker {
    Stream(Box<dyn StreamArm>),
    Exchange(Box<dyn ExchangeArm>),
}

impl Worker {
    fn make(arm: &Arm, file: File, point: &Point, mut connections: Vec<TcpStream>) -> Result<Self> {
        Ok(match arm.make {
            Make::Stream(make) => {
                Worker::Stream(make(file, connections.pop().context("no connection")?)?)
            }
            Make::Exchange(make) => Worker::Exchange(make(file, point.slices(), connections)?),
            Make::Missing(_, why) => bail!("{why}"),
        })
    }

    fn run(&mut self, task: Task) -> Result<()> {
        match (self, task) {
            (Worker::Stream(arm), Task::Send(span)) => arm.send(span),
            (Worker::Exchange(arm), Task::Serve { requests_each }) => arm.serve(requests_each),
            (_, task) => bail!("this arm is not made for {task:?}"),
        }
    }

    fn rest(&mut self) -> Result<()> {
        match self {
            Worker::Stream(arm) => arm.rest(),
            Worker::Exchange(arm) => arm.rest(),
        }
    }

    fn counts(&mut self) -> Counts {
        match self {
            Worker::Stream(arm) => arm.counts(),
            Worker::Exchange(arm) => arm.counts(),
        }
    }
}

fn say(answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line)?;
    Ok(())
}

fn hear() -> Result<Option<Order>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    if read == 0 { Ok(None) } else { Ok(Some(serde_json::from_str(&line)?)) }
}
