//! A server as simple as can be, right or wrong on purpose: the harness proves itself on it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    Nothing,
    WrongByte,
    LateByte,
    Short,
    Long,
    OtherLength,
    Status,
    Start,
    /// Right, but nobody is answered for 50 ms, once in 400 answers.
    Stall,
    /// Right, but every connection ends after 20 answers.
    Leaves,
}

impl Fault {
    /// As the command line wants it.
    pub(crate) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What the harness wants served.
#[derive(Debug, clap::Args)]
pub(crate) struct BrokenJob {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    fault: Fault,
}

/// Serves until it is killed, a thread per connection.
pub(crate) fn serve_broken(job: &BrokenJob) -> Result<()> {
    if job.fault == Fault::Start {
        bail!("this server never listens");
    }
    let listener = TcpListener::bind(job.listen)?;
    loop {
        let (socket, _) = listener.accept()?;
        let (root, fault) = (job.root.clone(), job.fault);
        // A connection that ends, ends its thread: nobody asks how.
        std::thread::spawn(move || converse(&socket, &root, fault));
    }
}

/// Lets everybody wait for 50 ms, once in 400 answers of all connections.
fn stall() {
    static ANSWERS: Mutex<u32> = Mutex::new(0);
    let Ok(mut answers) = ANSWERS.lock() else { return };
    *answers += 1;
    if *answers % 400 == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn converse(socket: &TcpStream, root: &std::path::Path, fault: Fault) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut lines = BufReader::new(socket).lines();
    for answered in 0.. {
        if fault == Fault::Leaves && answered == 20 {
            return Ok(());
        }
        let Some(request) = lines.next() else { return Ok(()) };
        let request = request?;
        let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let body = std::fs::read(root.join(name))?;
        while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
        if fault == Fault::Stall {
            stall();
        }
        { socket }.write_all(&answer(body, fault, answered))?;
    }
    Ok(())
}

/// Head and body of the answer that comes after `answered` others.
fn answer(mut body: Vec<u8>, fault: Fault, answered: u32) -> Vec<u8> {
    let mut length = body.len();
    let (middle, last) = (length / 2, length - 1);
    let mut status = "200 OK";
    match fault {
        Fault::WrongByte => body[middle] ^= 1,
        // The harness compares the first answers in full, and the last one.
        Fault::LateByte if answered >= super::trial::VERIFIED_EACH => body[last] ^= 1,
        Fault::Short => body.truncate(last),
        Fault::Long => body.push(0),
        Fault::OtherLength => {
            body.truncate(last);
            length = last;
        }
        Fault::Status => status = "500 Oh",
        Fault::Nothing | Fault::LateByte | Fault::Start | Fault::Stall | Fault::Leaves => {}
    }
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.extend_from_slice(&body);
    answer
}
