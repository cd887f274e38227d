//! `ringwayd serve --writable` as the receiver.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::receiver::assert_same;
use crate::run::{Files, run};

/// A daemon that takes files. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) url: String,
}

impl Daemon {
    pub(crate) fn start(root: &Files) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwayd"));
        command.args(["serve", "--writable", "--listen", "127.0.0.1:0", "--root"]);
        command.arg(root.path("")).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once(" on http://")?.1.split(',').next()?.to_owned())
        });
        // The pipe must be read on, or the daemon would stop at it.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://{}/", address.expect("the daemon says where it serves"));
        Daemon { child, url }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn our_own_daemon_takes_what_is_pushed() {
    let (root, files) = (Files::new(), Files::new());
    let daemon = Daemon::start(&root);
    let names = ["empty", "small", "large"];
    let contents: Vec<_> =
        names.iter().zip([0, 5000, 7_000_001]).map(|(name, len)| files.file(name, len)).collect();
    let mut arguments = files.names(&names);
    arguments.extend(["--to".to_owned(), daemon.url.clone()]);
    run(&arguments).assert_delivered(3);
    for (name, content) in names.iter().zip(&contents) {
        assert_same(&fs::read(root.path(name)).unwrap(), content, name);
    }
}
