//! The ways to filter records on their way into a socket.

mod taking_turns;

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use ringway::process::{Algorithm, Digesting, Record, RecordFilter};
use ringway::runtime::{self, Config, Runtime, net};
use ringway::{Consistency, Mode, Route, Thresholds, transfer_file};

use super::patterns::{RECORD, keeps};
use crate::measure::{Start, Usage};

/// One way.
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// It sends nothing, or everything whatever the pattern says.
    pub(crate) sends: Sends,
    run: fn(&File, &TcpStream, u32) -> Result<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sends {
    Kept,
    Everything,
    Nothing,
}

pub(crate) const ARMS: &[Arm] = &[
    Arm {
        name: "read-filter-write-64k",
        about: "pread 64 KiB, move what is kept together, write",
        sends: Sends::Kept,
        run: read_filter_write,
    },
    Arm {
        name: "mmap-writev",
        about: "map and populate the file, writev of the runs that are kept",
        sends: Sends::Kept,
        run: mmap_writev,
    },
    Arm {
        name: "filter-only",
        about: "walk over a populated map, and send nothing",
        sends: Sends::Nothing,
        run: filter_only,
    },
    Arm {
        name: "walk-then-splice",
        about: "a bare loop in turns: 4 MiB of a map that is there already are walked over, and spliced",
        sends: Sends::Everything,
        run: |file, socket, mask| taking_turns::run(file, socket, mask, false),
    },
    Arm {
        name: "map-walk-splice",
        about: "the same, with each 4 MiB mapped, populated and unmapped",
        sends: Sends::Everything,
        run: |file, socket, mask| taking_turns::run(file, socket, mask, true),
    },
    Arm {
        name: "splice",
        about: "transfer_file by splice, which filters nothing",
        sends: Sends::Everything,
        run: |file, socket, _| {
            ours(file, socket, |file, socket| {
                transfer_file(file, socket).route(Route::Splice).mode(Mode::Inline)
            })
        },
    },
    Arm {
        name: "ringway",
        about: "transfer_file with a RecordFilter",
        sends: Sends::Kept,
        run: |file, socket, mask| {
            ours(file, socket, |file, socket| transfer_file(file, socket).process(filter(mask)))
        },
    },
    Arm {
        name: "ringway-snapshot",
        about: "the same, of a snapshot",
        sends: Sends::Kept,
        run: |file, socket, mask| {
            ours(file, socket, |file, socket| {
                let transfer = transfer_file(file, socket).process(filter(mask));
                transfer.consistency(Consistency::Snapshot)
            })
        },
    },
    Arm {
        name: "ringway-referred",
        about: "the same, with every run by reference",
        sends: Sends::Kept,
        run: |file, socket, mask| {
            ours(file, socket, |file, socket| {
                let thresholds = Thresholds::default()
                    .with_reference_min_bytes(1)
                    .with_reference_skewed_min_bytes(1);
                transfer_file(file, socket).process(filter(mask)).thresholds(thresholds)
            })
        },
    },
    Arm {
        name: "ringway-gathered",
        about: "the same, with every run gathered",
        sends: Sends::Kept,
        run: |file, socket, mask| {
            ours(file, socket, |file, socket| {
                transfer_file(file, socket).process(filter(mask)).forbid(Route::Splice)
            })
        },
    },
    Arm {
        name: "ringway-crc32c",
        about: "a filter and a CRC-32C over what it keeps, of a snapshot",
        sends: Sends::Kept,
        run: |file, socket, mask| {
            ours(file, socket, |file, socket| {
                transfer_file(file, socket).process(Digesting::of(filter(mask), Algorithm::Crc32c))
            })
        },
    },
];

/// Runs an arm of this name.
pub(crate) fn run(name: &str, file: &File, socket: &TcpStream, mask: u32) -> Result<Usage> {
    let arm = ARMS.iter().find(|arm| arm.name == name).context("no such arm")?;
    (arm.run)(file, socket, mask)
}

fn filter(mask: u32) -> RecordFilter<impl FnMut(&Record<'_>) -> bool> {
    RecordFilter::fixed(RECORD, move |record| record.read(0).is_some_and(|key| keeps(key, mask)))
}

fn ours(
    file: &File,
    socket: &TcpStream,
    make: impl for<'t> FnOnce(&runtime::fs::File, &'t mut net::TcpStream) -> ringway::Transfer<'t>,
) -> Result<Usage> {
    let config = Config::default();
    let runtime = Runtime::with_config(config)?;
    let file = runtime::fs::File::from_std(file.try_clone()?);
    let mut stream = net::TcpStream::from_std(socket.try_clone()?)?;
    let start = Start::now();
    let told = runtime.block_on(make(&file, &mut stream).into_future())?;
    stream.shutdown(net::Half::Write)?;
    runtime.block_on(async { stream.read(&mut [0]).await })?;
    let used = start.used();
    if std::env::var_os("RINGWAY_BENCH_RECEIPTS").is_some() {
        eprintln!("{told}");
    }
    Ok(used)
}

/// Waits until the other side has taken everything and closed.
fn confirmed(mut socket: &TcpStream) -> Result<()> {
    socket.shutdown(std::net::Shutdown::Write)?;
    ensure!(std::io::Read::read(&mut socket, &mut [0])? == 0, "the receiver said something");
    Ok(())
}

fn key(record: &[u8]) -> [u8; 4] {
    [record[0], record[1], record[2], record[3]]
}

fn read_filter_write(file: &File, mut socket: &TcpStream, mask: u32) -> Result<Usage> {
    let mut buffer = vec![0; 64 << 10];
    let start = Start::now();
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        ensure!(read % RECORD == 0, "the file is not read in whole records");
        offset += read as u64;
        let mut len = 0;
        for at in (0..read).step_by(RECORD) {
            if keeps(key(&buffer[at..]), mask) {
                if at != len {
                    buffer.copy_within(at..at + RECORD, len);
                }
                len += RECORD;
            }
        }
        socket.write_all(&buffer[..len])?;
    }
    confirmed(socket)?;
    Ok(start.used())
}

/// A whole file in memory, with its pages present.
struct Map {
    base: *mut libc::c_void,
    len: usize,
}

impl Map {
    fn new(file: &File) -> Result<Self> {
        Self::of(file, 0, usize::try_from(file.metadata()?.len())?)
    }

    fn of(file: &File, offset: usize, len: usize) -> Result<Self> {
        let offset = libc::off_t::try_from(offset)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(file);
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, flags, fd, offset) };
        ensure!(base != libc::MAP_FAILED, "mmap failed: {}", std::io::Error::last_os_error());
        Ok(Self { base, len })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and the harness alone has the file.
        unsafe { std::slice::from_raw_parts(self.base.cast(), self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: nobody holds a slice of the mapping any more: they borrow `self`.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

/// The runs of records that are kept.
fn runs(bytes: &[u8], mask: u32) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let kept = |at: usize| keeps(key(&bytes[at..]), mask);
        while at < bytes.len() && !kept(at) {
            at += RECORD;
        }
        let from = at;
        while at < bytes.len() && kept(at) {
            at += RECORD;
        }
        (at > from).then(|| &bytes[from..at])
    })
}

fn mmap_writev(file: &File, mut socket: &TcpStream, mask: u32) -> Result<Usage> {
    let start = Start::now();
    let map = Map::new(file)?;
    let mut runs = runs(map.bytes(), mask);
    let mut slices = Vec::with_capacity(1024);
    loop {
        slices.extend(runs.by_ref().take(1024).map(IoSlice::new));
        if slices.is_empty() {
            break;
        }
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let sent = socket.write_vectored(left)?;
            IoSlice::advance_slices(&mut left, sent);
        }
        slices.clear();
    }
    confirmed(socket)?;
    Ok(start.used())
}

fn filter_only(file: &File, socket: &TcpStream, mask: u32) -> Result<Usage> {
    let map = Map::new(file)?;
    let start = Start::now();
    let kept = map.bytes().chunks_exact(RECORD).filter(|record| keeps(key(record), mask)).count();
    std::hint::black_box(kept);
    let used = start.used();
    confirmed(socket)?;
    Ok(used)
}
