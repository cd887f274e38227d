//! Real transfers over loopback: which route each takes is seen, not foretold.

use std::fs;
use std::io;
use std::path::Path;

use ringway::runtime::fs::{Advice, File, FileSystem, Residency};
use ringway::runtime::net::{Half, TcpListener, TcpStream};
use ringway::runtime::spawn;
use ringway::transfer_file;

const SMALL: usize = 4 * 1024;
const LARGE: usize = 16 * 1024 * 1024;

/// One transfer.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) what: &'static str,
    /// The receipt, or why there is none.
    pub(crate) outcome: Result<String, String>,
    /// Something was done that was not planned.
    pub(crate) fell_back: bool,
}

/// Transfers a small, a large and a cold file of this folder.
pub(crate) async fn all(folder: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (what, len, cold) in [
        ("a small file (4 KiB) in memory", SMALL, false),
        ("a large file (16 MiB) in memory", LARGE, false),
        ("a large file (16 MiB) not in memory", LARGE, true),
    ] {
        let (outcome, fell_back) = match one(folder, len, cold).await {
            Ok((receipt, fell_back)) => (Ok(receipt), fell_back),
            Err(why) => (Err(why), false),
        };
        trials.push(Trial { what, outcome, fell_back });
    }
    trials
}

async fn one(folder: &Path, len: usize, cold: bool) -> Result<(String, bool), String> {
    let shown = folder.display();
    let file = scratch(folder, len).map_err(|error| format!("no file in {shown}: {error}"))?;
    let file = File::from_std(file);
    if cold {
        chill(&file, len).await?;
    }
    let text = |error: io::Error| format!("no loopback connection: {error}");
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).map_err(text)?;
    let address = listener.local_address().map_err(text)?;
    let reading = spawn(async move { read_all(listener.accept().await?).await });
    let mut stream = TcpStream::connect(address).await.map_err(text)?;
    let receipt = transfer_file(&file, &mut stream).await;
    _ = stream.shutdown(Half::Write);
    let receipt = receipt.map_err(|error| error.to_string())?;
    let arrived = reading.await.map_err(|error| format!("{error:?}"))?.map_err(text)?;
    if arrived != len as u64 {
        return Err(format!("{arrived} bytes of {len} arrived: please report it"));
    }
    Ok((format!("{receipt}: {}", receipt.reason), !receipt.fallbacks.is_empty()))
}

/// A file with content and without a name.
fn scratch(folder: &Path, len: usize) -> io::Result<fs::File> {
    let path = folder.join(format!(".ringwayd-doctor-{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    io::Write::write_all(&mut file, &vec![0xA5; len])?;
    Ok(file)
}

/// Puts a file out of memory.
async fn chill(file: &File, len: usize) -> Result<(), String> {
    if file.file_system().is_ok_and(|system| system == FileSystem::Memory) {
        return Err("this file system is in memory: nothing on it is ever cold".to_owned());
    }
    let text = |error: io::Error| format!("it cannot be put out of memory: {error}");
    file.sync_all().await.map_err(text)?;
    file.advise(0, 0, Advice::DontNeed).await.map_err(text)?;
    match file.residency(0, len as u64) {
        Residency::Resident => Err("this file system keeps it in memory".to_owned()),
        Residency::Cold | Residency::Unknown => Ok(()),
    }
}

async fn read_all(stream: TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut all = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            read => all += read as u64,
        }
    }
}
