//! OpenSSL as the client and as the server: it resumes, its early data is refused, and its key updates
//! in the middle of a download are counted, as received and as sent.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::runtime::net::TcpStream;
use ringway::runtime::time::sleep;
use ringway::tls::TlsConnector;
use ringway::transfer_file;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, version};

use crate::certificates::Files;
use crate::peers::{Scene, answer, request};
use crate::programs::{Program, has, output_of};
use crate::{read_to_end, run};

fn s_client(files: &Files, address: SocketAddr) -> Command {
    let mut command = s_client_talking(files, address);
    command.arg("-brief");
    command
}

/// It prints what it thinks of the session as well.
fn s_client_talking(files: &Files, address: SocketAddr) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-CAfile"]).arg(&files.authority);
    command.args(["-connect", &address.to_string(), "-servername", "peer.test"]);
    command
}

#[test]
fn key_updates_of_s_client_in_the_middle_of_a_download_are_answered() {
    if !has("openssl") {
        return;
    }
    let scene = Scene::new(24_000_000);
    let (address, server) = scene.serve(1, |mut stream, file| async move {
        stream.tcp().set_send_buffer(100_000).unwrap();
        request(&mut stream).await;
        transfer_file(&file, &mut stream).await.unwrap();
        stream.close().await.unwrap();
        let _ = read_to_end(&mut stream).await;
        stream.key_updates()
    });
    let mut command = s_client(&scene.files, address);
    command.arg("-tls1_3");
    let mut program = Program::start(command);
    let mut input = program.child.stdin.take().unwrap();
    let mut output = program.child.stdout.take().unwrap();
    input.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut read = Vec::new();
    // Its commands are single letters at the beginning of a line; it stops reading while we do.
    for letter in ["K\n", "k\n", "K\n", "K\n"] {
        let mut piece = vec![0; 2_000_000];
        output.read_exact(&mut piece).unwrap();
        read.extend_from_slice(&piece);
        input.write_all(letter.as_bytes()).unwrap();
        input.flush().unwrap();
        // So that it is read as a line of its own.
        std::thread::sleep(Duration::from_millis(20));
    }
    output.read_to_end(&mut read).unwrap();
    drop(input);
    let said = program.end();
    assert!(read == scene.body, "{} bytes; {said:?}", read.len());
    assert_eq!(said.errors.matches("KEYUPDATE").count(), 4, "{said:?}");
    let updates = server.join().unwrap()[0];
    assert_eq!(updates.received, 4, "{updates:?}");
    assert!((1..=3).contains(&updates.sent), "{updates:?}");
}

#[test]
fn s_client_resumes() {
    if !has("openssl") {
        return;
    }
    let scene = Scene::new(50_000);
    let session = scene.folder.path().join("session");
    let (address, server) = scene.serve(2, answer);
    let mut runs = Vec::new();
    for option in ["-sess_out", "-sess_in"] {
        let mut command = s_client(&scene.files, address);
        command.args(["-tls1_3", "-ign_eof", option]).arg(&session);
        let mut program = Program::start(command);
        let mut input = program.child.stdin.take().unwrap();
        input.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut output = Vec::new();
        program.child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        drop(input);
        runs.push(program.end());
        assert!(output.ends_with(&scene.body), "{:?}", runs.last());
    }
    let kinds: Vec<_> = server.join().unwrap().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{runs:?}");
}

/// rustls by itself, once, with a ticket that allows early data: ours gives none away.
fn grant_early_data(config: Arc<ServerConfig>) -> (SocketAddr, JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut connection = ServerConnection::new(config).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(b"a ticket").unwrap();
        connection.send_close_notify();
        while connection.wants_write() {
            connection.write_tls(&mut socket).unwrap();
        }
        let _ = socket.read_to_end(&mut Vec::new());
    });
    (address, thread)
}

#[test]
fn early_data_of_s_client_is_refused_and_the_connection_goes_on() {
    if !has("openssl") {
        return;
    }
    let ways = [
        ("TLS_AES_128_GCM_SHA256", HandshakeKind::Resumed),
        // Ours takes another suite by itself, for which the ticket is no good.
        ("TLS_AES_256_GCM_SHA384", HandshakeKind::Full),
    ];
    for (suite, kind) in ways {
        refuse_early_data(suite, kind);
    }
}

/// With a ticket that was got under this suite.
fn refuse_early_data(suite: &str, kind: HandshakeKind) {
    // In one record, so that s_client prints it in one piece.
    let scene = Scene::new(5000);
    let mut config = scene.authority.server();
    config.max_early_data_size = 1 << 14;
    let config = Arc::new(config);
    let [session, early] = ["session", "early"].map(|name| scene.folder.path().join(name));
    std::fs::write(&early, "GET /early HTTP/1.1\r\n\r\n").unwrap();
    let (address, granting) = grant_early_data(Arc::clone(&config));
    let mut first = s_client(&scene.files, address);
    first.args(["-tls1_3", "-ign_eof", "-ciphersuites", suite, "-sess_out"]).arg(&session);
    let (output, said) = output_of(first);
    assert!(output == b"a ticket" && said.success, "{said:?}");
    granting.join().unwrap();

    let (address, server) = scene.serve_by(config, 1, answer);
    let mut second = s_client_talking(&scene.files, address);
    second.args(["-tls1_3", "-ign_eof", "-sess_in"]).arg(&session).arg("-early_data").arg(&early);
    let mut program = Program::start(second);
    let mut input = program.child.stdin.take().unwrap();
    input.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut output = Vec::new();
    program.child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    drop(input);
    let said = program.end();
    let told = String::from_utf8_lossy(&output);
    assert!(told.contains("Early data was rejected"), "{suite}: {told} {said:?}");
    let body = output.windows(scene.body.len()).any(|part| part == scene.body);
    assert!(body && said.success, "{suite}: {told} {said:?}");
    // The request that was answered is the one that came late.
    let kinds: Vec<_> = server.join().unwrap().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [kind], "{suite}");
}

/// A server of OpenSSL that serves the files of a folder, until it is dropped.
struct SServer {
    program: Program,
    port: u16,
}

impl SServer {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        Self::start_bare(scene, &[&["-WWW", "-quiet"], arguments].concat())
    }

    /// It sends what it reads from its input, but for lines that are commands.
    fn start_bare(scene: &Scene, arguments: &[&str]) -> Self {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", &format!("127.0.0.1:{port}")]);
        command.arg("-cert").arg(&scene.files.certificate).arg("-key").arg(&scene.files.key);
        command.args(arguments).current_dir(scene.folder.path());
        Self { program: Program::start(command), port }
    }

    /// It needs a moment before it listens.
    async fn connect(&self) -> TcpStream {
        for _ in 0..500 {
            let address = SocketAddr::from(([127, 0, 0, 1], self.port));
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("s_server does not listen");
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        self.program.kill();
    }
}

#[test]
fn a_client_of_ours_downloads_from_s_server_and_resumes() {
    if !has("openssl") {
        return;
    }
    let scene = Scene::new(1_000_003);
    let ways = [
        (&version::TLS13, "TLS13_AES_128", "-tls1_3"),
        (&version::TLS13, "TLS13_AES_256", "-tls1_3"),
        (&version::TLS13, "TLS13_CHACHA20", "-tls1_3"),
        (&version::TLS12, "ECDSA_WITH_AES_128", "-tls1_2"),
    ];
    for (version, suite, option) in ways {
        let server = SServer::start(&scene, &[option]);
        let connector =
            TlsConnector::new(Arc::new(scene.authority.client_of(&[version], &[suite])));
        let kinds = run(async {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let stream = server.connect().await;
                let mut stream = connector.connect(stream, crate::name("localhost")).await.unwrap();
                stream.write_all(b"GET /body HTTP/1.0\r\n\r\n").await.unwrap();
                let answer = read_to_end(&mut stream).await.unwrap();
                assert!(answer.ends_with(&scene.body), "{suite}: {} bytes", answer.len());
                stream.close().await.unwrap();
                assert!(format!("{:?}", stream.suite()).contains(suite));
                kinds.push(stream.handshake_kind());
            }
            kinds
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{suite}");
    }
}

#[test]
fn key_updates_of_s_server_in_the_middle_of_a_download_are_answered() {
    if !has("openssl") {
        return;
    }
    let scene = Scene::new(0);
    let mut server = SServer::start_bare(&scene, &["-tls1_3"]);
    let mut input = server.program.child.stdin.take().unwrap();
    // Not the letter of any command.
    let line = [&[b'z'; 8000][..], b"\n"].concat();
    let connector = TlsConnector::new(Arc::new(scene.authority.client()));
    let letters = ["K\n", "k\n", "K\n"];
    run(async {
        let stream = server.connect().await;
        let mut stream = connector.connect(stream, crate::name("localhost")).await.unwrap();
        let mut buffer = [0; 5000];
        for round in 0..=letters.len() {
            for _ in 0..10 {
                input.write_all(&line).unwrap();
                let mut left = line.len();
                while left > 0 {
                    let wanted = left.min(buffer.len());
                    let count = stream.read(&mut buffer[..wanted]).await.unwrap();
                    assert!(count > 0, "an end in round {round}");
                    let place = line.len() - left;
                    assert!(buffer[..count] == line[place..place + count], "round {round}");
                    left -= count;
                }
            }
            if let Some(letter) = letters.get(round) {
                // All lines before it were read, so that it is read as a line of its own.
                input.write_all(letter.as_bytes()).unwrap();
                sleep(Duration::from_millis(50)).await;
            }
        }
        let updates = stream.key_updates();
        assert_eq!((updates.received, updates.sent), (3, 2), "K asks for an answer, k does not");
        stream.write_all(b"under new keys").await.unwrap();
        stream.close().await.unwrap();
    });
}
