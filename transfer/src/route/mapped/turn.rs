//! One turn of a processor: on the loop or elsewhere, and never out of hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use ringway_runtime::{Lease, region};

use super::frame::Memory;
use crate::process::{
    Answer, Changes, Due, Output, ProcessError, Processor, ProcessorFault, View, Window,
};

/// Work of a processor for another thread; see [`Transfer::process_on`](crate::Transfer::process_on).
pub type Work = Box<dyn FnOnce() + Send>;

/// Where a processor runs.
pub(crate) enum Seat<'t> {
    /// On the loop.
    Here(Box<dyn Processor + 't>),
    /// Wherever the caller's closure runs what it is given. It is away while it works.
    Elsewhere(Option<Box<dyn Processor + Send>>, Box<dyn FnMut(Work) + 't>),
}

/// What a turn is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    /// Where the window begins in its file.
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) last: bool,
}

/// What a turn writes on: all of it is used again for the next.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) answer: Answer,
    pub(super) changes: Changes,
    pub(super) written: usize,
    pub(super) pieces_max: usize,
    /// The processor was told that its time is over.
    pub(super) hurried: bool,
}

/// Memory for what a processor writes.
pub(super) enum Room {
    Heap(Vec<u8>),
    Lease(Lease),
}

/// How a turn ended.
pub(super) enum Verdict {
    Used(usize),
    Failed(ProcessError),
    Fault(ProcessorFault),
}

impl Seat<'_> {
    /// The processor while it is not at work.
    pub(crate) fn processor(&self) -> Option<&dyn Processor> {
        match self {
            Self::Here(processor) => Some(&**processor),
            Self::Elsewhere(processor, _) => processor.as_deref().map(|p| p as &dyn Processor),
        }
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(..))
    }
}

impl Room {
    pub(super) fn all(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Lease(lease) => lease.spare_mut(),
        }
    }

    /// The bytes that were written; the rest of a lease shows nothing.
    pub(super) fn written(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Lease(lease) => lease,
        }
    }
}

impl Desk {
    pub(super) fn clear(&mut self) {
        self.answer.clear();
        self.changes.clear();
        self.written = 0;
        self.hurried = false;
    }

    /// Shows a window; or, without one, tells that there are no more.
    pub(super) fn show(
        &mut self,
        processor: &mut dyn Processor,
        memory: &mut Option<Memory>,
        shown: Shown,
        room: &mut Room,
        budget: Option<Duration>,
    ) -> (Verdict, Duration) {
        let began = Instant::now();
        let due = budget.map_or_else(Due::never, Due::after);
        let verdict = match memory {
            Some(Memory::Lease(lease)) => {
                let view = lease.spare_mut().get_mut(..shown.len).unwrap_or_default();
                self.look(processor, View::Memory(view), shown, room.all(), &due)
            }
            Some(Memory::Heap(bytes)) => {
                let view = bytes.get_mut(..shown.len).unwrap_or_default();
                self.look(processor, View::Memory(view), shown, room.all(), &due)
            }
            Some(Memory::Map(window)) => {
                self.look_at_map(processor, window, shown, room.all(), &due)
            }
            None => self.finish(processor, room.all()),
        };
        if let Room::Lease(lease) = room {
            lease.set_filled(self.written);
        }
        self.hurried = due.was_told();
        (verdict, began.elapsed())
    }

    fn look(
        &mut self,
        processor: &mut dyn Processor,
        view: View<'_>,
        shown: Shown,
        room: &mut [u8],
        due: &Due,
    ) -> Verdict {
        let Self { answer, changes, written, pieces_max, .. } = self;
        let called = catch_unwind(AssertUnwindSafe(|| {
            let writable = processor.changes();
            let mut window = Window::new(view, shown.offset, shown.last, changes, writable, due);
            let mut output = Output::new(answer, room, written, *pieces_max, shown.len);
            processor.process(&mut window, &mut output)
        }));
        self.judge(called, shown.len)
    }

    /// What a panic leaves is caught before it comes to the window. Whether the window is whole is asked
    /// by whoever acts on the answer.
    fn look_at_map(
        &mut self,
        processor: &mut dyn Processor,
        window: &region::Window,
        shown: Shown,
        room: &mut [u8],
        due: &Due,
    ) -> Verdict {
        let mut verdict = None;
        if window.access() == region::Access::Private {
            let _ = window.write(|pen| {
                verdict = Some(self.look(processor, View::Private(pen), shown, room, due));
            });
        } else {
            let _ = window.read(|view| {
                verdict = Some(self.look(processor, View::Shared(*view), shown, room, due));
            });
        }
        verdict.unwrap_or(Verdict::Fault(ProcessorFault::Lost))
    }

    fn finish(&mut self, processor: &mut dyn Processor, room: &mut [u8]) -> Verdict {
        let Self { answer, written, pieces_max, .. } = self;
        let called = catch_unwind(AssertUnwindSafe(|| {
            let mut output = Output::new(answer, room, written, *pieces_max, 0);
            processor.end(&mut output).map(|()| 0)
        }));
        self.judge(called, 0)
    }

    fn judge(
        &self,
        called: std::thread::Result<Result<usize, ProcessError>>,
        window: usize,
    ) -> Verdict {
        match called {
            Err(_) => Verdict::Fault(ProcessorFault::Panicked),
            // What it did wrong may be why it failed.
            Ok(Err(error)) => self.answer.fault.map_or(Verdict::Failed(error), Verdict::Fault),
            Ok(Ok(used)) => match self.answer.check(used, window) {
                Ok(()) => Verdict::Used(used),
                Err(fault) => Verdict::Fault(fault),
            },
        }
    }
}

/// A turn that travels to another thread and back.
pub(super) struct Errand {
    pub(super) processor: Box<dyn Processor + Send>,
    pub(super) memory: Option<Portable>,
    pub(super) desk: Desk,
    pub(super) room: Vec<u8>,
    pub(super) shown: Shown,
}

/// Memory that may be looked at in another thread.
pub(super) enum Portable {
    Heap(Vec<u8>),
    Map(region::Window),
}

/// What comes back.
pub(super) type Returned = (Errand, Verdict, Duration);

impl Errand {
    /// Hands the work over. It is lost if whoever takes it drops it, which the receiver notices.
    pub(super) fn send(self, run: &mut dyn FnMut(Work)) -> oneshot::Receiver<Returned> {
        let (back, receiver) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Nobody listens if the transfer was dropped meanwhile.
            let _ = back.send(self.work());
        });
        // A panic of the caller's closure drops the work, which is noticed like any other drop.
        let _ = catch_unwind(AssertUnwindSafe(|| run(work)));
        receiver
    }

    fn work(mut self) -> Returned {
        let mut memory = self.memory.take().map(Memory::from);
        let mut room = Room::Heap(std::mem::take(&mut self.room));
        let (verdict, took) =
            self.desk.show(&mut *self.processor, &mut memory, self.shown, &mut room, None);
        self.memory = memory.and_then(Memory::into_portable);
        if let Room::Heap(bytes) = room {
            self.room = bytes;
        }
        (self, verdict, took)
    }
}
