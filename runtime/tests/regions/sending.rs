//! Sending from windows: pieces of memory and of maps in one call.

use std::io::Read;
use std::net::TcpListener as StdListener;

use ringway_runtime::fs::File;
use ringway_runtime::net::{Half, Piece, TcpStream};
use ringway_runtime::region::{Access, Cause, Poisoned};
use tempfile::tempdir;

use crate::baseline::on_a_ring;
use crate::{PAGE, canary_file, truncate, unpopulated, whole};

/// A connection to a peer that reads to the end and gives back what it got.
async fn connected() -> (TcpStream, std::thread::JoinHandle<Vec<u8>>) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut peer = listener.accept().unwrap().0;
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    (stream, reading)
}

#[test]
fn pieces_of_memory_and_of_windows_arrive_in_order() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 3 * PAGE);
    on_a_ring(async {
        let (stream, peer) = connected().await;
        let file = File::open(&path).await.unwrap();
        let window = whole(&file, Access::Private).await;
        window.put(5000, b"changed").unwrap();
        let pieces = [
            Piece::Bytes(b"head"),
            Piece::Window(&window, 10..20),
            Piece::Window(&window, 7..7),
            Piece::Window(&window, 4990..5010),
            Piece::Bytes(b"tail"),
        ];
        let sent = stream.try_send_pieces(&pieces, false).unwrap();
        assert_eq!(sent, pieces.iter().map(Piece::len).sum::<usize>());
        assert_eq!(stream.accepted(), sent as u64);
        // More than one call takes: the rest is left for the next.
        let many: Vec<_> = (0..1000).map(|at| Piece::Window(&window, at..at + 1)).collect();
        let first = stream.try_send_pieces(&many, false).unwrap();
        assert_eq!(first, 512);
        assert_eq!(stream.try_send_pieces(&many[first..], false).unwrap(), 488);
        let outside = [Piece::Window(&window, 0..3 * PAGE + 1)];
        assert!(stream.try_send_pieces(&outside, false).is_err());
        stream.shutdown(Half::Write).unwrap();
        let mut expected = b"head".to_vec();
        expected.extend_from_slice(&bytes[10..20]);
        expected.extend_from_slice(&bytes[4990..5000]);
        expected.extend_from_slice(b"changed");
        expected.extend_from_slice(&bytes[5007..5010]);
        expected.extend_from_slice(b"tail");
        expected.extend_from_slice(&bytes[..1000]);
        assert!(peer.join().unwrap() == expected);
    });
}

#[test]
fn a_window_whose_pages_are_gone_sends_nothing_and_is_poisoned() {
    let folder = tempdir().unwrap();
    let (path, bytes) = canary_file(folder.path(), "file", 3 * PAGE);
    on_a_ring(async {
        let (stream, peer) = connected().await;
        let file = File::open(&path).await.unwrap();
        let window = unpopulated(&file, Access::ReadOnly).await;
        truncate(&path, 10);
        let poison = |error: std::io::Error| {
            *error.get_ref().unwrap().downcast_ref::<Poisoned>().expect("it says why")
        };
        // The kernel finds it out while copying: no signal, no byte of that piece.
        let sent = stream.try_send_pieces(&[Piece::Window(&window, PAGE..2 * PAGE)], false);
        let found = poison(sent.unwrap_err());
        assert_eq!((found.cause, found.file_len), (Cause::Refused, Some(10)));
        assert!(window.is_poisoned() && stream.accepted() == 0);
        // From then on nothing goes out of it, not even what is still there.
        let sent = stream.try_send_pieces(&[Piece::Window(&window, 0..5)], false);
        assert_eq!(poison(sent.unwrap_err()).cause, Cause::Refused);
        let other = whole(&file, Access::ReadOnly).await;
        assert_eq!(stream.try_send_pieces(&[Piece::Window(&other, 0..10)], false).unwrap(), 10);
        stream.shutdown(Half::Write).unwrap();
        assert_eq!(peer.join().unwrap(), &bytes[..10]);
    });
}
