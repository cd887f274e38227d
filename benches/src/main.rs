//! What each way of moving a file into a socket costs, measured on your machine.
//!
//! ```text
//! cargo run --release -p ringway-bench -- quick [--seconds-budget N] [--out DIR]
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

mod arms;
mod canary;
mod control;
mod data;
mod load;
mod loopback;
mod machine;
mod measure;
mod neighbours;
mod point;
mod quick;
mod receiver;
mod results;
mod schedule;
mod sender;
mod stats;
mod table;
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
    /// Send for one arm; started by the harness itself.
    #[command(hide = true)]
    Sender(sender::Job),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Quick(options) => quick::run(&options),
        Command::Sender(job) => sender::run(&job),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
