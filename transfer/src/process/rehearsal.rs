//! Running a processor over memory, without a file and a socket: for the tests of whoever writes one.

use super::{Answer, Changes, Due, Output, Piece, ProcessError, Processor, View, Window};
use crate::process::WindowLimits;
use crate::route::Scan;

/// What a transfer would send of a file with this content, if windows had `window_bytes` bytes.
///
/// # Errors
///
/// The processor's own, and a [`ProcessorFault`](super::ProcessorFault) where a transfer would fail too.
pub fn rehearse(
    mut processor: impl Processor,
    content: &[u8],
    window_bytes: usize,
) -> Result<Vec<u8>, ProcessError> {
    let limits = WindowLimits::default();
    let bytes = window_bytes.max(1) as u64;
    let limits = limits.clone().with_window_bytes(bytes.min(limits.window_max_bytes));
    let mut scan = Scan::new(0..content.len() as u64, &limits);
    let (mut answer, mut changes) = (Answer::default(), Changes::default());
    let mut made = vec![0; processor.writes().max(super::WRITES_MIN)];
    let mut sent = Vec::new();
    while let Some(range) = scan.next() {
        let from = usize::try_from(range.start)?;
        let mut memory = content[from..usize::try_from(range.end)?].to_vec();
        let len = memory.len();
        answer.clear();
        changes.clear();
        let mut filled = 0;
        let last = scan.is_last(&range);
        let writable = processor.changes();
        let (view, due) = (View::Memory(&mut memory), Due::never());
        let mut window = Window::new(view, range.start, last, &mut changes, writable, &due);
        let mut output = Output::new(&mut answer, &mut made, &mut filled, limits.pieces_max, len);
        let used = processor.process(&mut window, &mut output)?;
        answer.check(used, len)?;
        append(&mut sent, &answer, &memory, &made);
        scan.used(&range, used as u64, answer.bytes > 0, false)?;
    }
    answer.clear();
    let mut filled = 0;
    processor.end(&mut Output::new(&mut answer, &mut made, &mut filled, limits.pieces_max, 0))?;
    answer.check(0, 0)?;
    append(&mut sent, &answer, &[], &made);
    Ok(sent)
}

fn append(sent: &mut Vec<u8>, answer: &Answer, window: &[u8], made: &[u8]) {
    for piece in &answer.pieces {
        sent.extend_from_slice(match *piece {
            Piece::Window { at, len } => &window[at..at + len],
            Piece::Made { at, len } => &made[at..at + len],
            Piece::Own { index, .. } => &answer.own[index],
        });
    }
}
