//! The programs that people use: curl, GnuTLS and Python as the peer (OpenSSL has a room of its own). Bytes
//! are equal, ends are clean, truncations are seen, tickets resume, and key updates are counted.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringway::runtime::fs::File;
use ringway::runtime::net::Half;
use ringway::tls::{TlsAcceptor, TlsStream};
use ringway::transfer_file;
use rustls::{HandshakeKind, ServerConfig};
use tempfile::TempDir;

use crate::certificates::{Authority, Files};
use crate::programs::{Program, has, output_of};
use crate::{content, listener, read_to_end, run};

/// An authority, its files, and a file to send.
pub(crate) struct Scene {
    pub(crate) authority: Authority,
    pub(crate) files: Files,
    pub(crate) folder: TempDir,
    pub(crate) body: Vec<u8>,
}

impl Scene {
    pub(crate) fn new(len: usize) -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authority = Authority::new();
        let (files, body) = (authority.write(&folder), content(len));
        std::fs::write(folder.path().join("body"), &body).unwrap();
        Self { authority, files, folder, body }
    }

    fn body_path(&self) -> std::path::PathBuf {
        self.folder.path().join("body")
    }

    /// Serves connections on a thread, each by `handle`.
    pub(crate) fn serve<T: Send + 'static, F: Future<Output = T>>(
        &self,
        connections: usize,
        handle: impl Fn(TlsStream, File) -> F + Send + 'static,
    ) -> (SocketAddr, JoinHandle<Vec<T>>) {
        self.serve_by(Arc::new(self.authority.server()), connections, handle)
    }

    /// The same by this configuration.
    pub(crate) fn serve_by<T: Send + 'static, F: Future<Output = T>>(
        &self,
        config: Arc<ServerConfig>,
        connections: usize,
        handle: impl Fn(TlsStream, File) -> F + Send + 'static,
    ) -> (SocketAddr, JoinHandle<Vec<T>>) {
        let acceptor = TlsAcceptor::new(config);
        let path = self.body_path();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            run(async move {
                let (listener, address) = listener();
                sender.send(address).unwrap();
                let mut results = Vec::new();
                for _ in 0..connections {
                    let stream = acceptor.accept(listener.accept().await.unwrap()).await.unwrap();
                    results.push(handle(stream, File::open(&path).await.unwrap()).await);
                }
                results
            })
        });
        (receiver.recv().unwrap(), thread)
    }
}

/// Reads the request, answers by the file, and closes; what was agreed on.
pub(crate) async fn answer(mut stream: TlsStream, file: File) -> (HandshakeKind, String) {
    let request = request(&mut stream).await;
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    let len = file.metadata().unwrap().len;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    transfer_file(&file, &mut stream).await.unwrap();
    stream.close().await.unwrap();
    // A peer that is still there says goodbye, or just leaves.
    let _ = read_to_end(&mut stream).await;
    (stream.handshake_kind(), format!("{:?}", stream.suite()))
}

pub(crate) async fn request(stream: &mut TlsStream) -> String {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request ends early");
        request.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(request).unwrap()
}

fn curl(files: &Files, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--http1.1", "--max-time", "20", "--cacert"]).arg(&files.authority);
    command.args(arguments).arg(format!("https://localhost:{}/", address.port()));
    command
}

#[test]
fn curl_downloads_by_every_cipher() {
    if !has("curl") {
        return;
    }
    let scene = Scene::new(3_000_001);
    let v13 = |cipher| ["--tlsv1.3", "--tls13-ciphers", cipher];
    let v12 = |cipher| ["--tls-max", "1.2", "--ciphers", cipher].map(str::to_owned).to_vec();
    let mut ways: Vec<(Vec<String>, &str)> = vec![
        (v12("ECDHE-ECDSA-AES128-GCM-SHA256"), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (v12("ECDHE-ECDSA-AES256-GCM-SHA384"), "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        (v12("ECDHE-ECDSA-CHACHA20-POLY1305"), "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ];
    for suite in ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"] {
        let (asked, got) = match suite {
            "AES_128_GCM_SHA256" => ("TLS_AES_128_GCM_SHA256", "TLS13_AES_128_GCM_SHA256"),
            "AES_256_GCM_SHA384" => ("TLS_AES_256_GCM_SHA384", "TLS13_AES_256_GCM_SHA384"),
            _ => ("TLS_CHACHA20_POLY1305_SHA256", "TLS13_CHACHA20_POLY1305_SHA256"),
        };
        ways.push((v13(asked).map(str::to_owned).to_vec(), got));
    }
    let (address, server) = scene.serve(ways.len(), answer);
    for (arguments, _) in &ways {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (output, said) = output_of(curl(&scene.files, address, &arguments));
        assert!(said.success, "{arguments:?}: {said:?}");
        assert!(output == scene.body, "{arguments:?}: {} bytes", output.len());
    }
    let suites: Vec<String> = server.join().unwrap().into_iter().map(|(_, suite)| suite).collect();
    assert_eq!(suites, ways.iter().map(|(_, suite)| suite.to_string()).collect::<Vec<_>>());
}

#[test]
fn curl_sees_a_clean_end_and_a_truncation() {
    if !has("curl") {
        return;
    }
    let scene = Scene::new(100_000);
    // Without a length only the end says that this is all; with one, too few bytes are too few.
    for (length, is_clean) in [("", true), ("Content-Length: 100001\r\n", false)] {
        let (address, server) = scene.serve(1, move |mut stream, file| async move {
            request(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            transfer_file(&file, &mut stream).await.unwrap();
            if is_clean {
                stream.close().await.unwrap();
            } else {
                stream.shutdown(Half::Write).unwrap();
            }
            let _ = read_to_end(&mut stream).await;
        });
        let (output, said) = output_of(curl(&scene.files, address, &[]));
        assert!(output == scene.body, "{said:?}");
        assert_eq!(said.success, is_clean, "{said:?}");
        server.join().unwrap();
    }
}

#[test]
fn gnutls_downloads_and_rekeys() {
    if !has("gnutls-cli") {
        return;
    }
    let scene = Scene::new(700_001);
    let (address, server) = scene.serve(1, |mut stream, file| async move {
        let mut buffer = [0; 100];
        let count = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"please\n");
        transfer_file(&file, &mut stream).await.unwrap();
        stream.close().await.unwrap();
        // It leaves without a word when we have said goodbye.
        let _ = read_to_end(&mut stream).await;
        stream.key_updates()
    });
    let mut command = Command::new("gnutls-cli");
    command.args(["--logfile=/dev/null", "--inline-commands", "--x509cafile"]);
    command.arg(&scene.files.authority).args(["-p", &address.port().to_string(), "localhost"]);
    let mut program = Program::start(command);
    let mut input = program.child.stdin.take().unwrap();
    input.write_all(b"^rekey^\n").unwrap();
    input.flush().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    input.write_all(b"please\n").unwrap();
    let mut output = Vec::new();
    program.child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    drop(input);
    let said = program.end();
    assert!(output.ends_with(&scene.body), "{} bytes; {said:?}", output.len());
    let updates = server.join().unwrap()[0];
    assert_eq!((updates.received, updates.sent), (1, 1));
}

const PYTHON: &str = r"
import socket, ssl, sys
authority, port, version = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=authority)
context.maximum_version = context.minimum_version = getattr(ssl.TLSVersion, version)
def talk(session):
    raw = socket.create_connection(('127.0.0.1', port), timeout=20)
    stream = context.wrap_socket(raw, server_hostname='peer.test', session=session,
                                 suppress_ragged_eofs=False)
    stream.sendall(b'q' * 100000)
    got = b''
    while len(got) < 100000:
        got += stream.recv(65536)
    return stream, got
stream, first = talk(None)
session = stream.session
stream.unwrap()
again, second = talk(session)
assert first == second and again.session_reused, again.session_reused
try:
    again.recv(1)
    print('no truncation was seen')
except ssl.SSLEOFError:
    sys.stdout.buffer.write(first)
";

#[test]
fn python_talks_both_ways_resumes_and_sees_a_truncation() {
    if !has("python3") {
        return;
    }
    let scene = Scene::new(100_000);
    for version in ["TLSv1_3", "TLSv1_2"] {
        let (address, server) = scene.serve(2, |mut stream, file| async move {
            let mut buffer = vec![0; 30_000];
            let mut left = 100_000;
            while left > 0 {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0 && buffer[..count].iter().all(|&byte| byte == b'q'));
                left -= count;
            }
            transfer_file(&file, &mut stream).await.unwrap();
            let kind = stream.handshake_kind();
            if kind == HandshakeKind::Full {
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "Python says goodbye");
                stream.close().await.unwrap();
            } else {
                stream.shutdown(Half::Write).unwrap();
                let _ = read_to_end(&mut stream).await;
            }
            kind
        });
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON]).arg(Path::new(&scene.files.authority));
        command.args([&address.port().to_string(), version]);
        let (output, said) = output_of(command);
        assert!(said.success && output == scene.body, "{version}: {said:?}");
        let kinds = server.join().unwrap();
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{version}");
    }
}
