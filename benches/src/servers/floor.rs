//! The floor as a server: one connection at a time, one answer each, by the loop that only reads, seals and
//! sends. What it costs to answer is what no server can go below that has no TLS in the kernel.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ringway::tls::rustls::{ServerConfig, ServerConnection};

use crate::loopback::PATIENCE;
use crate::tls::{self, Certificate, Sealer, TLS_SUITE};

/// What the harness wants served.
#[derive(Debug, clap::Args)]
pub(crate) struct FloorJob {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    root: PathBuf,
    /// Where certificate and key are.
    #[arg(long)]
    certificate: PathBuf,
}

/// Records that are read, sealed and sent at a time: the best of the sizes, and what `ringway` does.
const RECORDS: usize = 64;
/// Longer requests are none of the harness's.
const REQUEST_MAX: usize = 4096;

/// Serves until it is killed.
pub(crate) fn serve_floor(job: &FloorJob) -> Result<()> {
    let config = Certificate::at(&job.certificate).server(TLS_SUITE)?;
    let mut config = Arc::unwrap_or_clone(config);
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let listener = TcpListener::bind(job.listen)?;
    loop {
        let (socket, _) = listener.accept()?;
        // Some only look whether somebody listens.
        if let Err(error) = answer(socket, &config, &job.root) {
            eprintln!("{error:#}");
        }
    }
}

fn answer(mut socket: TcpStream, config: &Arc<ServerConfig>, root: &Path) -> Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut connection = tls::shaken(&mut socket, Arc::clone(config))?;
    let request = request(&mut connection, &mut socket)?;
    let mut words = request.split(' ');
    ensure!(words.next() == Some("GET"), "not a GET");
    let name = words.next().and_then(|path| path.strip_prefix('/')).context("no path")?;
    let file = File::open(root.join(name))?;
    let mut sealer = Sealer::of(connection)?;
    let len = file.metadata()?.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    sealer.send_bytes(&mut socket, head.as_bytes())?;
    sealer.send_file(&mut socket, &file, RECORDS)?;
    sealer.send_end(&mut socket)?;
    socket.shutdown(Shutdown::Write)?;
    while socket.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

/// The head of a request, up to its empty line.
fn request(connection: &mut ServerConnection, socket: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < REQUEST_MAX, "a request that is too long");
        let mut part = [0; REQUEST_MAX];
        match connection.reader().read(&mut part) {
            Ok(0) => anyhow::bail!("the client has gone"),
            Ok(read) => head.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.complete_io(socket)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8(head)?)
}
