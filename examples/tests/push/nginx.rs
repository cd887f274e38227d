//! nginx with its DAV module as the receiver: what a push must get along with.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::receiver::assert_same;
use crate::run::{Files, run, wait_until};

pub(crate) struct Nginx {
    child: Child,
    address: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Nginx {
    /// Starts one; none if this host has none with the module, which `.ci/run` sees to.
    pub(crate) fn start(more: &str) -> Option<Nginx> {
        Nginx::start_on("", more)
    }

    /// The same with more words behind the address that it listens on.
    pub(crate) fn start_on(listening: &str, more: &str) -> Option<Nginx> {
        let modules = Command::new("nginx").arg("-V").output();
        let known = modules.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stderr).contains("http_dav_module")
        });
        if !known {
            println!("skipped: no nginx with http_dav_module can be run (Debian: nginx)");
            return None;
        }
        // Another program may take the port before nginx does.
        (0..5)
            .find_map(|_| Nginx::try_start(listening, more))
            .or_else(|| panic!("nginx does not start"))
    }

    fn try_start(listening: &str, more: &str) -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let base = folder.path().display();
        fs::create_dir(folder.path().join("in")).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {base}/{name};"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {base}/pid; error_log {base}/error;\n\
             events {{}}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen {address}{listening}; root {base}; client_max_body_size 0; {more}\n\
             location /in/ {{ dav_methods PUT; create_full_put_path on; }} }} }}\n"
        );
        let path = folder.path().join("configuration");
        fs::write(&path, configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&path);
        command.args(["-e", "stderr"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Nginx { child, address, folder };
        let mut ended = false;
        wait_until("nginx listens", || {
            ended = nginx.child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        });
        (!ended).then_some(nginx)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn secure_url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.address)
    }

    pub(crate) fn stored(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("in").join(name)).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn nginx_stores_what_was_pushed_and_lets_it_be_replaced() {
    let Some(nginx) = Nginx::start("") else { return };
    let files = Files::new();
    let sizes = [0, 1, 16_384, 1_048_577, 9_000_000];
    let names: Vec<String> = sizes.iter().map(|size| format!("file {size} ä")).collect();
    let mut arguments = files.names(&names.iter().map(String::as_str).collect::<Vec<_>>());
    arguments.extend(["--to".to_owned(), nginx.url("in/deep/"), nginx.url("in/")]);
    for status in [201, 204] {
        let contents: Vec<_> =
            names.iter().zip(sizes).map(|(name, size)| files.file(name, size + status)).collect();
        let outcome = run(&arguments);
        outcome.assert_delivered(2 * sizes.len());
        assert!(outcome.events("delivered").iter().all(|line| line["status"] == status));
        for (name, content) in names.iter().zip(&contents) {
            assert_same(&nginx.stored(name), content, name);
            assert_same(&nginx.stored(&format!("deep/{name}")), content, name);
        }
    }
}

#[test]
fn nginx_refuses_what_is_too_large_and_what_it_may_not() {
    let limited = "location /limited/ { client_max_body_size 1m; dav_methods PUT; }";
    let Some(nginx) = Nginx::start(limited) else { return };
    let files = Files::new();
    files.file("file", 9_000_000);
    let path = files.names(&["file"]).remove(0);
    run(&[&path, "--to", &nginx.url("limited/")]).assert_failed(6, "refused", "it answered 413");
    // Without the question, the answer comes in the middle of the body.
    run(&[&path, "--to", &nginx.url("limited/"), "--expect-min-bytes", "99999999"]).assert_failed(
        6,
        "refused",
        "it answered 413",
    );
    run(&[&path, "--to", &nginx.url("other/")]).assert_failed(6, "refused", "it answered 40");
}
