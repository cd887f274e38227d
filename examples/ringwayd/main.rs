//! `ringwayd`, the file-push daemon of Ringway: it serves a folder over HTTP and pushes files
//! to other servers with io_uring, and copies as little as the kernel allows.

mod access_log;
mod cli;
mod client;
mod config;
mod doctor;
mod get;
mod http;
mod pem;
mod privileges;
mod push;
mod serve;
mod state;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = config::command_line().and_then(|line| match line.command {
        cli::Command::Serve(settings) => serve::run(&settings).map(|()| ExitCode::SUCCESS),
        cli::Command::Push(settings) => push::run(&settings),
        cli::Command::Watch(settings) => watch::run(&settings),
        cli::Command::Status(settings) => watch::status::run(&settings),
        cli::Command::Get(settings) => get::run(&settings),
        cli::Command::Doctor(settings) => doctor::run(&settings),
        cli::Command::Check(settings) => config::check(&settings),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringwayd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
