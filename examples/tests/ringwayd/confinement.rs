//! Nothing outside of the root can be had, and nothing that is no regular file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::client::{Client, assert_same};
use crate::daemon::{Daemon, Root, Start};

#[test]
fn no_path_leads_out_of_the_root() {
    let outside = Root::new();
    outside.file("secret", 1000);
    let root = Root::new();
    root.file("file", 100);
    fs::create_dir(root.path("folder")).unwrap();
    let secret = outside.path("secret");
    symlink(&secret, root.path("absolute")).unwrap();
    symlink(outside.path(""), root.path("elsewhere")).unwrap();
    let name = outside.path("").file_name().unwrap().to_owned();
    let relative = std::path::Path::new("..").join(&name).join("secret");
    assert!(root.path("").join(&relative).exists(), "both folders are beside each other");
    symlink(&relative, root.path("relative")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.path("magic")).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    let relative = relative.to_str().unwrap();
    let encoded = relative.replace("../", "%2e%2e%2f");
    let half_encoded = relative.replace("..", "%2e%2E");
    for path in [
        "/absolute",
        "/elsewhere/secret",
        "/relative",
        "/magic",
        "/../etc/passwd",
        "/folder/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/%2fetc%2fpasswd",
        "//etc/passwd",
        &format!("/{relative}"),
        &format!("/{encoded}"),
        &format!("/{half_encoded}"),
        &format!("/folder/../{relative}"),
        &format!("/{}", secret.display()),
    ] {
        let response = client.get(path);
        assert!(matches!(response.status, 400 | 404), "{path}: {}", response.status);
        assert!(response.body.len() < 100, "{path}");
    }
    for path in ["/file", "/folder/../file", "/./file", "/%66ile"] {
        assert_eq!(client.get(path).status, 200, "{path} stays inside");
    }
}

#[test]
fn links_inside_of_the_root_are_followed() {
    let root = Root::new();
    let content = root.file("file", 5000);
    fs::create_dir(root.path("folder")).unwrap();
    symlink("../file", root.path("folder/link")).unwrap();
    symlink("loop", root.path("loop")).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    assert_same(&client.get("/folder/link").body, &content, "what the link leads to");
    assert_eq!(client.get("/loop").status, 404);
}

#[test]
fn hidden_files_are_shown_only_on_demand() {
    let root = Root::new();
    root.file(".secret", 10);
    let daemon = Daemon::serve(&root, &[]);
    assert_eq!(Client::connect(daemon.address()).get("/.secret").status, 404);
    let daemon = Daemon::serve(&root, &["--hidden"]);
    assert_eq!(Client::connect(daemon.address()).get("/.secret").status, 200);
}

#[test]
fn folders_are_found_with_a_slash() {
    let root = Root::new();
    fs::create_dir_all(root.path("with/index.html.d")).unwrap();
    fs::create_dir(root.path("without")).unwrap();
    let index = root.file("with/index.html", 300);
    let home = root.file("index.html", 200);
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for folder in ["with", "without"] {
        let response = client.get(&format!("/{folder}?a=b"));
        assert_eq!(response.status, 301, "{folder}");
        assert_eq!(response.field("Location"), Some(format!("/{folder}/?a=b").as_str()));
    }
    let response = client.get("/with/");
    assert_eq!(response.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_same(&response.body, &index, "the index");
    assert_same(&client.get("/").body, &home, "the index of the root");
    assert_same(&client.get("/with/index.html").body, &index, "the index by its name");
    let response = client.get("/without/");
    assert_eq!(response.status, 403, "a folder without an index is not listed");
}

#[test]
fn a_fifo_is_refused_and_hangs_nobody() {
    let root = Root::new();
    root.file("file", 100);
    let made = std::process::Command::new("mkfifo").arg(root.path("fifo")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(root.path("socket")).unwrap();
    let daemon = Daemon::serve(&root, &[]);
    let mut client = Client::connect(daemon.address());
    for path in ["/fifo", "/socket"] {
        assert_eq!(client.get(path).status, 403, "{path}");
        assert_eq!(client.get(&format!("{path}/")).status, 404, "{path}/");
    }
    assert_eq!(client.get("/file").status, 200);
}

#[test]
fn an_unreadable_file_is_403() {
    const NOBODY: u32 = 65534;
    let root = Root::new();
    let shown = root.file("shown", 100);
    for name in ["file", "folder"] {
        if name == "file" {
            root.file(name, 100);
        } else {
            fs::create_dir(root.path(name)).unwrap();
            root.file("folder/inside", 10);
        }
        fs::set_permissions(root.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Root may read everything, so the daemon must be somebody else; and its binary may lie where
    // nobody else can reach it.
    let bin = Root::new();
    let program = bin.path("ringwayd");
    let as_root = rustix::process::getuid().is_root();
    if as_root {
        fs::copy(env!("CARGO_BIN_EXE_ringwayd"), &program).unwrap();
    }
    let start = Start::new(&root, &[]);
    let daemon = if as_root {
        Daemon::start(&Start { user: Some(NOBODY), program: &program, ..start })
    } else {
        Daemon::start(&start)
    };
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.get("/file").status, 403);
    assert_eq!(client.get("/folder/inside").status, 403);
    assert_same(&client.get("/shown").body, &shown, "what may be read");
    // Made unreadable after it was opened: that is noticed too.
    fs::set_permissions(root.path("shown"), fs::Permissions::from_mode(0o000)).unwrap();
    crate::daemon::wait_until("it is refused", || client.get("/shown").status == 403);
    // Otherwise nobody but root could remove it.
    fs::set_permissions(root.path("folder"), fs::Permissions::from_mode(0o755)).unwrap();
}
