//! Arms that are wrong on purpose: the harness proves itself on them (`tests/self_test.rs`).

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Arm, Span, StreamArm, raw_ring};

macro_rules! arm {
    ($name:literal, $about:literal, $fault:expr) => {
        Arm::stream($name, $about, 2, |file, socket| {
            Ok(Box::new(Broken { file, socket, fault: $fault, calls: 0 }))
        })
        .hidden()
    };
}

pub(super) const ARMS: &[Arm] = &[
    arm!("broken-byte", "one byte in the middle is wrong", Fault::WrongByte),
    arm!(
        "broken-tail",
        "right while it is verified, wrong at the end of the timed run",
        Fault::LateByte
    ),
    arm!("broken-short", "one byte is missing", Fault::Short),
    arm!("broken-long", "one byte too many", Fault::Long),
    arm!("broken-dies", "gives up before the first byte", Fault::Dies),
    arm!("slow-sleeps", "sleeps before it sends", Fault::Sleeps),
    arm!("slow-worker", "a worker of the kernel copies bytes that nobody sends", Fault::Worker),
    arm!("slow-thread", "a second thread burns CPU while the first sends", Fault::Burns),
];

/// How long the slow arms sleep or burn.
const SLOWNESS: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    WrongByte,
    LateByte,
    Short,
    Long,
    Dies,
    Sleeps,
    Burns,
    Worker,
}

struct Broken {
    file: File,
    socket: TcpStream,
    fault: Fault,
    calls: u32,
}

impl StreamArm for Broken {
    fn send(&mut self, span: Span) -> Result<()> {
        self.calls += 1;
        let mut bytes = vec![0; usize::try_from(span.len)?];
        self.file.read_exact_at(&mut bytes, span.offset)?;
        let middle = bytes.len() / 2;
        let last = bytes.len() - 1;
        match self.fault {
            Fault::WrongByte => bytes[middle] ^= 1,
            Fault::LateByte if self.calls > 1 => bytes[last] ^= 1,
            Fault::LateByte => {}
            Fault::Short => bytes.truncate(last),
            Fault::Long => bytes.push(0),
            Fault::Dies => anyhow::bail!("this arm never sends"),
            Fault::Sleeps => std::thread::sleep(SLOWNESS),
            Fault::Burns => std::thread::spawn(burn)
                .join()
                .map_err(|_| anyhow::anyhow!("the burning thread panicked"))?,
            Fault::Worker => raw_ring::read_in_a_worker(&self.file, 256)?,
        }
        self.socket.write_all(&bytes)?;
        Ok(())
    }
}

fn burn() {
    let begin = Instant::now();
    while begin.elapsed() < SLOWNESS {
        std::hint::spin_loop();
    }
}
