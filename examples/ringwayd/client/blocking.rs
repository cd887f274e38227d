//! What would hold the loop, on a thread of its own.

use std::io;
use std::thread;

use futures_channel::oneshot;

/// Runs a closure on a new thread and gives its result here.
///
/// # Errors
///
/// When no thread can be started, and when the closure panicked.
///
/// # Cancel safety
///
/// Dropping the future does not stop the closure, only the waiting for it.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (give, take) = oneshot::channel();
    thread::Builder::new().name(format!("ringwayd-{name}")).spawn(move || {
        // Nobody waits any more: that is no error of the work.
        _ = give.send(work());
    })?;
    take.await.map_err(|_| io::Error::other(format!("the thread for {name} panicked")))
}
