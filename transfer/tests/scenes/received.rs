//! A receiving transfer that is dropped, and a stream that is read again.

use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use ringway::runtime::fs::OpenOptions;
use ringway::{Incoming, transfer_file};

use crate::support::feed::Feed;
use crate::support::{folder, runtime};

const BODY: u64 = 3 << 20;

/// Drops a transfer in the middle of a body and reads on, as if what follows began there.
pub fn drop_and_read_on() {
    let folder = folder();
    let path = folder.path().join("file");
    runtime().block_on(async {
        let options = OpenOptions::new().write(true).create(true);
        let mut file = options.open(&path).await.unwrap();
        let (mut stream, sending) = Feed::of(3, 0, BODY).over_tcp();
        // Something has come, so that the transfer takes it.
        stream.readable().await.unwrap();
        {
            let body = Incoming::exactly(&mut stream, BODY);
            let mut receiving = transfer_file(body, &mut file).reserve(false).into_future();
            let polled = poll_fn(|context| {
                let polled = Pin::new(&mut receiving).poll(context);
                Poll::Ready(polled.is_ready())
            });
            assert!(!polled.await, "it is to be dropped in the middle");
        }
        let taken = stream.received();
        assert!(taken > 0 && taken < BODY, "{taken}");
        // The rest is there, so that only the mark can refuse it.
        stream.readable().await.unwrap();
        let read = stream.try_recv(&mut [0; 100]);
        assert!(read.is_err(), "the middle of a body was read as something else");
        assert_eq!(stream.settle_received(), taken);
        let mut file = options_again(&path).await;
        let rest = Incoming::to_the_end(&mut stream);
        let received = transfer_file(rest, &mut file).await.unwrap().received;
        assert_eq!(taken + received, BODY);
        sending.join().unwrap();
    });
}

async fn options_again(path: &std::path::Path) -> ringway::runtime::fs::File {
    OpenOptions::new().write(true).truncate(true).open(path).await.unwrap()
}
