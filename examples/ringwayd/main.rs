//! `ringwayd`, the file-push daemon of Ringway: it serves a folder over HTTP with io_uring, and
//! copies as little as the kernel allows.

mod access_log;
mod cli;
mod http;
mod serve;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let outcome = match cli::CommandLine::parse().command {
        cli::Command::Serve(settings) => serve::run(&settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringwayd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
