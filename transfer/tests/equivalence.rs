//! R1: whatever the route, the mode, the size and the offset, the peer gets exactly the bytes of the
//! file, and the receipt names the route that was forced.

mod support;

use ringway::{Mode, Route, transfer_file};
use support::*;

const SIZES: [u64; 9] =
    [0, 1, 4095, 4096, 4097, 65535, 65537, (1 << 20) - 1, (1 << 20) + 1];

#[test]
fn every_way_sends_the_same_bytes() {
    let folder = folder();
    let runtime = runtime();
    for (route, mode) in WAYS {
        for len in SIZES {
            let file = open(&canary_file(&folder, 7, len));
            for offset in [0, 1, 4096].into_iter().filter(|offset| *offset <= len) {
                let (mut stream, receiver) = tcp(expecting(7, offset));
                let receipt = runtime
                    .block_on(async {
                        transfer_file(&file, &mut stream)
                            .range(offset..len)
                            .route(route)
                            .mode(mode)
                            .await
                    })
                    .unwrap_or_else(|error| panic!("{route} {mode} {offset}..{len}: {error}"));
                drop(stream);
                receiver.join().unwrap().assert_complete(len - offset);
                assert_eq!(receipt.bytes, len - offset);
                assert_eq!((receipt.route, &receipt.fallbacks), (route, &vec![]), "{receipt}");
            }
        }
    }
}

#[test]
fn large_files_arrive_whole_over_tcp_and_unix() {
    let len = (64 << 20) + 7;
    let folder = folder();
    let runtime = runtime();
    let file = open(&canary_file(&folder, 8, len));
    for (route, mode) in WAYS {
        let (mut stream, receiver) = tcp(expecting(8, 0));
        let receipt = runtime
            .block_on(async { transfer_file(&file, &mut stream).route(route).mode(mode).await })
            .unwrap();
        drop(stream);
        receiver.join().unwrap().assert_complete(len);
        println!("tcp  {receipt}");
        let (mut stream, receiver) = unix(expecting(8, 0));
        let receipt = runtime
            .block_on(async { transfer_file(&file, &mut stream).route(route).mode(mode).await })
            .unwrap();
        drop(stream);
        receiver.join().unwrap().assert_complete(len);
        println!("unix {receipt}");
        assert_eq!(receipt.route, route);
        if (route, mode) == (Route::Splice, Mode::Ring) {
            assert!(receipt.splice_sqes >= 128, "{receipt}");
        }
    }
}
