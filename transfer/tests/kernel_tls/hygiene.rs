//! R8 where the kernel seals: what a pipe held for a client that went away never reaches the next one.

use std::time::Duration;

use ringway::Route;
use ringway_testkit::Census;

use crate::kernel_seals;
use crate::sealed_aborted::{abort_and_go_on, tiny_runtime};
use crate::support::sealed::by_kernel;
use crate::support::tap::in_child;

#[test]
fn no_byte_of_an_aborted_client_reaches_the_next_one() {
    let name = "hygiene::no_byte_of_an_aborted_client_reaches_the_next_one";
    in_child(name, Duration::from_secs(100), || {
        let before = Census::take();
        // Older kernels keep the last worker of a ring for as long as the thread that made it.
        std::thread::spawn(serve_and_abort).join().unwrap();
        before.assert_unchanged_within(Duration::from_secs(5));
    });
}

fn serve_and_abort() {
    let runtime = tiny_runtime();
    let seals = runtime.block_on(async {
        let seals = kernel_seals().await;
        if seals {
            abort_and_go_on(&by_kernel(), Route::KernelTls, 30).await;
        }
        seals
    });
    let destroyed = runtime.stats().pipes_destroyed;
    assert!(!seals || destroyed > 0, "a pipe that something was left in is not lent again");
}
