//! What each way of moving a file into a socket costs, measured on your machine.
//!
//! ```text
//! cargo run --release -p ringway-bench -- quick | full --for 2h | servers | tls | bystander | textbook
//! cargo run --release -p ringway-bench -- calibrate | compare A B | report FILES
//!
//!   parent, CPU 1                                   child, CPU 0
//!   quick: points, rounds, order                    sender: one arm, one point
//!   trial: one arm once      ── orders, stdin ──▶   getrusage before
//!   receiver / load          ◀── TCP, 127.0.0.1 ──  the arm
//!                            ◀── answers, stdout ─  getrusage after
//! ```
//!
//! The sender is a process of its own so that `getrusage(RUSAGE_SELF)` around a transfer counts the
//! sender, all its threads and its io-wq workers, and nothing else. Bytes are verified in every run; a
//! mismatch fails everything. Method and traps: `benches/README.md`.

mod any_row;
mod arms;
mod auto;
mod bystander;
mod calibrate;
mod canary;
mod compare;
mod control;
mod counters;
mod data;
mod filter;
mod full;
mod http_head;
mod journal;
mod launch;
mod load;
mod loopback;
mod machine;
mod measure;
mod neighbours;
mod network;
mod open_loop;
mod outline;
mod point;
mod progress;
mod quick;
mod receiver;
mod receiving;
mod records;
mod report;
mod results;
mod rounds;
mod schedule;
mod sealed;
mod sender;
mod servers;
mod stats;
mod table;
mod textbook;
mod timed;
mod tls;
mod trial;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "ringway-bench", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the most telling points within a few minutes.
    Quick(quick::Options),
    /// Measure every point with every arm, for as long as there is time.
    Full(full::Options),
    /// Compare whole HTTP servers: nginx, ringwayd, tower-http.
    Servers(servers::Options),
    /// Watch what innocent clients notice of a cold transfer, or of stalled peers.
    Bystander(bystander::Options),
    /// Find where one way becomes cheaper than another here, as thresholds to be loaded.
    Calibrate(calibrate::Options),
    /// Filter records on their way: what is kept, and how it leaves.
    Filter(filter::Options),
    /// Filter and send for one arm; started by the harness itself.
    #[command(hide = true)]
    FilterSender(filter::Job),
    /// Receive bodies into files, counted; started by the harness itself.
    #[command(hide = true)]
    Receiving(receiving::Job),
    /// One stream over TLS: what the cipher costs, and what everything else does.
    Tls(tls::Options),
    /// Send over TLS for one arm; started by the harness itself.
    #[command(hide = true)]
    TlsSender(tls::Job),
    /// Measure what textbooks say of one transfer, and say where they are wrong.
    Textbook(textbook::Options),
    /// Name what became dearer or cheaper between two result files.
    Compare(compare::Options),
    /// Make one HTML page of result files, with pictures.
    Report(report::Options),
    /// Send for one arm; started by the harness itself.
    #[command(hide = true)]
    Sender(sender::Job),
    /// Become a server on its CPU; started by the harness itself.
    #[command(hide = true)]
    Launch(launch::Job),
    /// Hold the far end of a veth pair until stdin ends; started by the harness itself.
    #[command(hide = true)]
    KeepNetwork(network::KeeperJob),
    /// Make a directory and remove it when stdin ends; started by the harness itself.
    #[command(hide = true)]
    KeepSite(servers::SiteJob),
    /// Serve as axum and tower-http do; started by the harness itself.
    #[cfg(feature = "peers")]
    #[command(hide = true)]
    PeerServedir(servers::ServedirJob),
    /// Answer as the bare loop does that reads, seals and sends; started by the harness itself.
    #[command(hide = true)]
    PeerFloor(servers::FloorJob),
    /// Serve through a processor; started by the harness itself.
    #[command(hide = true)]
    PeerFiltering(servers::FilteringJob),
    /// Serve, rightly or wrongly on purpose; started by the harness itself.
    #[command(hide = true)]
    PeerBroken(servers::BrokenJob),
}

fn main() -> ExitCode {
    allow_many_descriptors();
    let outcome = match Cli::parse().command {
        Command::Quick(options) => quick::run(&options),
        Command::Full(options) => full::run(&options),
        Command::Servers(options) => servers::run(&options),
        Command::Bystander(options) => bystander::run(&options),
        Command::Calibrate(options) => calibrate::run(&options),
        Command::Filter(options) => filter::run(&options),
        Command::FilterSender(job) => filter::send(&job),
        Command::Receiving(job) => receiving::receive(&job),
        Command::Tls(options) => tls::run(&options),
        Command::TlsSender(job) => tls::send(&job),
        Command::Textbook(options) => textbook::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Sender(job) => sender::run(&job),
        Command::Launch(job) => launch::run(&job),
        Command::KeepNetwork(job) => network::keep(&job),
        Command::KeepSite(job) => servers::keep_site(&job),
        #[cfg(feature = "peers")]
        Command::PeerServedir(job) => servers::serve_dir(&job),
        Command::PeerFloor(job) => servers::serve_floor(&job),
        Command::PeerFiltering(job) => servers::serve_filtering(&job),
        Command::PeerBroken(job) => servers::serve_broken(&job),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A thousand connections are more than the usual soft limit allows; senders inherit what is set here.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it is refused, points with many connections fail and say why.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
