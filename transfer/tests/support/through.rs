//! A processor that lets everything through, in each way in which bytes can leave a window, so that the
//! route `Mapped` can stand in the same lists as the others.

use std::time::Duration;

use ringway::process::{Output, ProcessError, Processor, Window, WindowLimits};
use ringway::{Mode, Route, Thresholds, Transfer};

use super::WAYS;

/// Every route that plain bytes can take, in every mode.
pub const ALL_WAYS: [(Route, Mode); 8] = [
    WAYS[0],
    WAYS[1],
    WAYS[2],
    WAYS[3],
    WAYS[4],
    WAYS[5],
    (Route::Mapped, Mode::Hybrid),
    (Route::Mapped, Mode::Inline),
];

/// From this length on runs leave by reference.
const REFERENCE_MIN: u64 = 8192;
const WINDOW: u64 = 40 << 10;

/// Pieces of these lengths in turn, by their place in the file.
const MADE: u64 = 700;
const SHORT: u64 = 900;
/// As many as are copied at once.
const CHANGED: u64 = 300;
const LONG: u64 = 12_000;

/// What goes out is what came in.
#[derive(Clone, Copy, Debug)]
pub struct Same {
    /// Some of it is written over with what stands there.
    pub changes: bool,
}

impl Processor for Same {
    fn process(
        &mut self,
        window: &mut Window<'_>,
        output: &mut Output<'_>,
    ) -> Result<usize, ProcessError> {
        let mut at = 0;
        while at < window.len() && !output.is_full() {
            let place = (window.offset() + at as u64) % (MADE + SHORT + CHANGED + LONG);
            let made = place < MADE;
            let border = [MADE, MADE + SHORT, MADE + SHORT + CHANGED, u64::MAX];
            let end = border.into_iter().find(|border| place < *border).unwrap_or(u64::MAX);
            let end = end.min(MADE + SHORT + CHANGED + LONG);
            let to = (at + usize::try_from(end - place)?).min(window.len());
            let mut copy = [0; 300];
            if made {
                if output.room() < to - at {
                    break;
                }
                let copied = window.copy_to(at, &mut output.spare()[..to - at]);
                output.wrote(copied);
            } else {
                if self.changes && end == MADE + SHORT + CHANGED {
                    let copied = window.copy_to(at, &mut copy[..to - at]);
                    window.write(at, &copy[..copied])?;
                }
                output.send(at..to);
            }
            at = to;
        }
        Ok(at)
    }

    fn changes(&self) -> bool {
        self.changes
    }
}

/// Takes a way; to the route `Mapped` belongs a processor, which changes nothing of what goes out.
pub fn through<'t>(transfer: Transfer<'t>, (route, mode): (Route, Mode)) -> Transfer<'t> {
    let transfer = transfer.route(route).mode(mode);
    if route != Route::Mapped {
        return transfer;
    }
    let limits = WindowLimits::default().with_window_bytes(WINDOW);
    let thresholds = Thresholds::default()
        .with_reference_min_bytes(REFERENCE_MIN)
        .with_reference_skewed_min_bytes(REFERENCE_MIN);
    transfer
        // So that it does not depend on how busy the machine is where windows end.
        .window_limits(limits.with_turn_budget(Duration::from_secs(3600)))
        .thresholds(thresholds)
        .process(Same { changes: mode == Mode::Hybrid })
}
