//! Running other people's programs, with an end to our patience.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Whether a program is installed; says so loudly if not.
pub(crate) fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("SKIPPED: {program} is not installed, and this test is about it");
    }
    found
}

/// A program that is ended with this value, by its own handle.
pub(crate) struct Program {
    pub(crate) child: Child,
    errors: JoinHandle<String>,
}

/// What a program has said when it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) errors: String,
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = errors.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Self { child, errors }
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Said {
        drop(self.child.stdin.take());
        let began = Instant::now();
        let success = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.success();
            }
            if began.elapsed() > PATIENCE {
                self.kill();
                panic!("the program hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Said { success, errors: self.errors.join().unwrap() }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end; its output and what it said.
pub(crate) fn output_of(command: Command) -> (Vec<u8>, Said) {
    let mut program = Program::start(command);
    let mut output = program.child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        output.read_to_end(&mut all).unwrap();
        all
    });
    let said = program.end();
    (reading.join().unwrap(), said)
}
