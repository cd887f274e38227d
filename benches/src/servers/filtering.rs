//! A server of one page on the library: small files as they are, and the large one through a processor, so
//! that bystanders can be watched beside a cold transfer that is mapped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ringway::process::RecordFilter;
use ringway::runtime::fs::File;
use ringway::runtime::net::{Half, TcpListener, TcpStream};
use ringway::runtime::{Config, Runtime, spawn};
use ringway::{Parts, transfer_file};

/// What goes through the processor.
const FILTERED: &str = "/large.bin";
const RECORD: usize = 1024;

/// What the harness wants served.
#[derive(Debug, clap::Args)]
pub(crate) struct FilteringJob {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    root: PathBuf,
}

/// Files that were opened once.
struct Site {
    root: PathBuf,
    files: RefCell<HashMap<String, File>>,
}

/// Serves until it is killed, on one loop.
pub(crate) fn serve_filtering(job: &FilteringJob) -> Result<()> {
    let site = Rc::new(Site { root: job.root.clone(), files: RefCell::default() });
    // Windows go with their transfer: a file that is mapped cannot be made cold again, and to unmap a gibibyte
    // at once would stop the loop for milliseconds that no route takes.
    let config = Config { region_idle: Duration::ZERO, ..Config::default() };
    Runtime::with_config(config)?.block_on(async {
        let listener = TcpListener::bind(job.listen)?;
        loop {
            let stream = listener.accept().await?;
            let site = Rc::clone(&site);
            // A connection that ends, ends its task: nobody asks how.
            spawn(async move { converse(stream, &site).await.is_ok() });
        }
    })
}

async fn converse(mut stream: TcpStream, site: &Site) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut len) = ([0; 4096], 0);
    loop {
        let read = stream.read(&mut request[len..]).await?;
        if read == 0 {
            return Ok(());
        }
        len += read;
        // One request at a time: nobody here sends the next one before the answer.
        if !request[..len].ends_with(b"\r\n\r\n") {
            ensure!(len < request.len(), "a request without an end");
            continue;
        }
        let text = str::from_utf8(&request[..len])?;
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        len = 0;
        let file = site.open(&path).await?;
        if path == FILTERED {
            return filter(&file, &mut stream).await;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.metadata()?.len);
        transfer_file(Parts::new().bytes(head).whole_file(&file), &mut stream).await?;
    }
}

/// Sends all but one record in 256 or so. How much that is, is not known beforehand.
async fn filter(file: &File, stream: &mut TcpStream) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    let kept = RecordFilter::fixed(RECORD, |record| record.read(0) != Some([0]));
    let parts = Parts::new().bytes(head).whole_file(file);
    transfer_file(parts, stream).process(kept).await?;
    Ok(stream.shutdown(Half::Write)?)
}

impl Site {
    async fn open(&self, path: &str) -> Result<File> {
        if let Some(file) = self.files.borrow().get(path) {
            return Ok(file.clone());
        }
        let file = File::open(self.root.join(path.trim_start_matches('/'))).await?;
        self.files.borrow_mut().insert(path.to_owned(), file.clone());
        Ok(file)
    }
}
