//! What is processed on its way: a file that is cut under the processor, a peer that stalls in the middle
//! of what was kept.

use std::fs::OpenOptions;
use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use ringway::error::ErrorKind;
use ringway::process::{Output, ProcessError, Processor, Window, WindowLimits};
use ringway::runtime::time::sleep;
use ringway::runtime::{Runtime, spawn};
use ringway::{Limits, Thresholds, transfer_file};

use ringway_testkit::canary;

use crate::support::gated::Gated;
use crate::support::{canary_bytes, canary_file, end, folder, open, runtime, unix_pair};

const WINDOW: u64 = 128 << 10;
const LEN: u64 = 5 * WINDOW;
/// Everything is gathered; everything leaves by reference.
const WAYS: [u64; 2] = [u64::MAX, 1];

fn windows() -> WindowLimits {
    WindowLimits::default().with_window_bytes(WINDOW).with_turn_budget(Duration::from_secs(3600))
}

/// Keeps everything in pieces, and does something at the fourth window.
struct Pieces<F>(usize, F);

impl<F: FnMut()> Processor for Pieces<F> {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        if window.offset() == 3 * WINDOW {
            (self.1)();
        }
        // What is behind the new end of the file shows as zeros.
        window.visit(0..window.len(), |_| ());
        for from in (0..window.len()).step_by(self.0) {
            output.send(from..(from + self.0).min(window.len()));
        }
        Ok(window.len())
    }
}

/// Cuts the file while a processor looks at a window of it, in front of the window, in it, and in its last
/// page, for which there is no signal: nothing of that window may go out.
pub fn cut_under_the_processor() {
    cut_under_the_processor_in(folder().path());
}

/// The same on the file system of this folder.
pub fn cut_under_the_processor_in(folder: &Path) {
    let runtime = runtime();
    for to in [2 * WINDOW, 3 * WINDOW, 3 * WINDOW + 5000, 4 * WINDOW - 100] {
        for reference_min in WAYS {
            let path = folder.join("cut");
            canary::write_file(&path, 9, LEN).unwrap();
            let writer = OpenOptions::new().write(true).open(&path).unwrap();
            let (mut stream, theirs) = unix_pair();
            let peer = Gated::new(theirs);
            peer.open(u64::MAX);
            let transfer = transfer_file(open(&path), &mut stream)
                .window_limits(windows())
                .thresholds(
                    Thresholds::default()
                        .with_reference_min_bytes(reference_min)
                        .with_reference_skewed_min_bytes(reference_min),
                )
                .process(Pieces(30_000, || writer.set_len(to).unwrap()));
            let error = runtime.block_on(transfer.into_future()).unwrap_err();
            end(stream);
            let received = peer.finish();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
            assert_eq!(error.sent(), received.len() as u64, "what it tells is not what went out");
            assert_eq!(
                error.sent(),
                3 * WINDOW,
                "something of a window that was cut went out: {to}"
            );
            assert!(received == canary_bytes(9, 0, received.len()));
            std::fs::remove_file(&path).unwrap();
        }
    }
}

/// The peer reads in steps that end in the middle of runs, and stalls so long behind each that everything is
/// let go of.
pub fn stall_in_the_middle_of_runs() {
    let (folder, runtime) = (folder(), runtime());
    let file = open(&canary_file(&folder, 9, LEN));
    for reference_min in WAYS {
        stall(&runtime, file.clone(), reference_min);
    }
}

fn stall(runtime: &Runtime, file: ringway::runtime::fs::File, reference_min: u64) {
    let (mut stream, theirs) = unix_pair();
    let peer = Gated::new(theirs);
    let (receipt, received) = runtime.block_on(async {
        let task = spawn(async move {
            let transfer = transfer_file(&file, &mut stream)
                .window_limits(windows())
                .limits(Limits::default().with_stall_hold(Duration::from_millis(1)))
                .thresholds(
                    Thresholds::default()
                        .with_reference_min_bytes(reference_min)
                        .with_reference_skewed_min_bytes(reference_min),
                )
                .deadline(Duration::from_secs(20))
                .process(Pieces(50_000, || ()));
            let outcome = transfer.await;
            end(stream);
            outcome
        });
        let mut allowed = 0;
        while !task.is_finished() && allowed < LEN {
            sleep(Duration::from_millis(10)).await;
            allowed += 33_333;
            peer.open(allowed);
        }
        peer.open(u64::MAX);
        (task.await.unwrap(), peer.finish())
    });
    let expected = canary_bytes(9, 0, usize::try_from(LEN).unwrap());
    let wrong = received.iter().zip(&expected).position(|(came, wanted)| came != wanted);
    assert_eq!(wrong, None, "a byte comes where another one should");
    let receipt = receipt.unwrap();
    assert_eq!((receipt.bytes, received.len()), (LEN, expected.len()), "{receipt}");
    assert!(receipt.stalls > 3, "{receipt}");
}
