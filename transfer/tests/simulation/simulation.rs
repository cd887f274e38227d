//! One run: tasks over the model, an event at a time, and its end.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ringway::error::ErrorKind;

use crate::bug::Bug;
use crate::chance::Chance;
use crate::choice::Chooser;
use crate::driver::drive;
use crate::event::{Event, Outcome};
use crate::kernel::{Host, Kernel, Tally};
use crate::oracle::End;
use crate::scenario::Scenario;

/// Rounds in which a run must end when nothing goes wrong any more.
const ROUNDS_MAX: usize = 20_000;

type Task = Pin<Box<dyn Future<Output = Result<u64, End>>>>;

enum Stage {
    Waiting,
    Running(Task),
    Over,
}

pub(crate) struct Simulation<'s> {
    pub(crate) scenario: &'s Scenario,
    pub(crate) host: Host,
    stages: Vec<Stage>,
}

/// What came of a run.
pub(crate) struct Report {
    pub(crate) script: Vec<Event>,
    pub(crate) violation: Option<String>,
    pub(crate) tally: Tally,
}

/// Runs what a seed leads to.
pub(crate) fn run_seed(seed: u64, bug: Option<Bug>) -> Report {
    let mut chance = Chance::new(seed);
    let scenario = Scenario::of(&mut chance);
    let mut script = Vec::new();
    let (violation, tally) = guarded(&scenario, bug, |simulation| {
        let mut chooser = Chooser::new(&mut chance, simulation.scenario);
        for _ in 0..chooser.events_max {
            if simulation.is_over() {
                break;
            }
            let event = chooser.choose(&mut chance, simulation);
            if simulation.apply(event) {
                script.push(event);
            }
        }
    });
    Report { script, violation, tally }
}

/// Runs a script again; what cannot happen at its turn is skipped.
pub(crate) fn replay(scenario: &Scenario, script: &[Event], bug: Option<Bug>) -> Option<String> {
    let play = |simulation: &mut Simulation<'_>| {
        for event in script {
            simulation.apply(*event);
        }
    };
    guarded(scenario, bug, play).0
}

/// Runs to the end. A panic in the code under test is a violation like any other.
fn guarded(
    scenario: &Scenario,
    bug: Option<Bug>,
    play: impl FnOnce(&mut Simulation<'_>),
) -> (Option<String>, Tally) {
    let host = Kernel::new(scenario, bug);
    let stages = scenario.transfers.iter().map(|_| Stage::Waiting).collect();
    let mut simulation = Simulation { scenario, host: host.clone(), stages };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        play(&mut simulation);
        simulation.finish();
    }));
    if outcome.is_err() {
        // Its tasks may be in any state: leak them rather than run their drops.
        std::mem::forget(simulation);
        return (Some("a panic".to_owned()), Tally::default());
    }
    drop(simulation);
    let kernel = host.borrow();
    (kernel.oracle.violation().map(str::to_owned), kernel.tally)
}

impl Simulation<'_> {
    pub(crate) fn is_violated(&self) -> bool {
        self.host.borrow().oracle.is_violated()
    }

    /// Nothing is left to happen, or something went wrong.
    pub(crate) fn is_over(&self) -> bool {
        let done = self.stages.iter().all(|stage| matches!(stage, Stage::Over));
        self.is_violated() || done && self.host.borrow().ops.is_empty()
    }

    pub(crate) fn is_waiting(&self, transfer: usize) -> bool {
        matches!(self.stages[transfer], Stage::Waiting)
    }

    pub(crate) fn is_running(&self, transfer: usize) -> bool {
        matches!(self.stages[transfer], Stage::Running(_))
    }

    /// Applies an event; `false` if it cannot happen now.
    pub(crate) fn apply(&mut self, event: Event) -> bool {
        if self.is_violated() {
            return false;
        }
        let applied = match event {
            Event::Start { transfer } => self.start(transfer),
            Event::Poll { transfer } => self.poll(transfer),
            Event::Drop { transfer } => self.drop_task(transfer),
            Event::Cancel { transfer } => self.is_running(transfer) && self.cancel(transfer),
            event => self.host.borrow_mut().apply(event),
        };
        self.host.borrow_mut().tally.steps += u64::from(applied);
        applied
    }

    fn start(&mut self, transfer: usize) -> bool {
        if !self.is_waiting(transfer) {
            return false;
        }
        let spec = Rc::new(self.scenario.transfers[transfer].clone());
        let inodes: Rc<[usize]> = {
            let mut kernel = self.host.borrow_mut();
            let inodes = spec.files.iter().map(|&file| kernel.names[file]).collect::<Rc<_>>();
            let now = kernel.now;
            kernel.oracle.started(transfer, &inodes, now);
            kernel.tally.transfers += 1;
            kernel.wake(transfer);
            inodes
        };
        let task = drive(self.host.clone(), transfer, spec, inodes);
        self.stages[transfer] = Stage::Running(Box::pin(task));
        true
    }

    fn poll(&mut self, transfer: usize) -> bool {
        let Stage::Running(task) = &mut self.stages[transfer] else { return false };
        self.host.borrow_mut().turn(transfer);
        let polled = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(end) = polled {
            // Its leases and ops go first, as they do before a caller sees the outcome.
            self.stages[transfer] = Stage::Over;
            self.ended(transfer, &end);
        }
        true
    }

    fn ended(&mut self, transfer: usize, end: &Result<u64, End>) {
        let mut kernel = self.host.borrow_mut();
        let (corked, now) = (kernel.is_corked(transfer), kernel.now);
        match end {
            Ok(_) => kernel.tally.completed += 1,
            Err(End { kind: ErrorKind::Truncated(_), .. }) => {
                kernel.tally.truncations += 1;
            }
            Err(_) => {}
        }
        kernel.oracle.ended(transfer, end, corked, now);
    }

    fn cancel(&mut self, transfer: usize) -> bool {
        let mut kernel = self.host.borrow_mut();
        kernel.signals[transfer].cancelled = true;
        kernel.oracle.cancelled(transfer);
        kernel.wake(transfer);
        kernel.tally.cancels += 1;
        true
    }

    fn drop_task(&mut self, transfer: usize) -> bool {
        if !self.is_running(transfer) {
            return false;
        }
        self.stages[transfer] = Stage::Over;
        self.host.borrow_mut().tally.drops += 1;
        true
    }

    /// From here on all goes well, in order: every transfer must end soon.
    fn finish(&mut self) {
        let count = self.stages.len();
        self.apply(Event::Pipes { max: 4 });
        for _ in 0..ROUNDS_MAX {
            if self.is_over() {
                break;
            }
            let before = self.host.borrow().tally.steps;
            for transfer in 0..count {
                self.apply(Event::Start { transfer });
                while self.apply(Event::Execute { transfer, nth: 0, outcome: Outcome::Full }) {}
                while self.apply(Event::Reap { transfer, nth: 0 }) {}
                self.apply(Event::PeerReads { transfer, bytes: u64::MAX });
                let woken = self.host.borrow().signals[transfer].woken;
                if woken {
                    self.apply(Event::Poll { transfer });
                }
            }
            if self.host.borrow().tally.steps == before && !self.advance() {
                break;
            }
        }
        if !self.is_violated() {
            if self.is_over() {
                for transfer in 0..count {
                    self.apply(Event::PeerReads { transfer, bytes: u64::MAX });
                }
                self.host.borrow_mut().check_all_returned();
            } else {
                let stuck = (0..count).find(|&t| self.is_running(t)).unwrap_or(0);
                self.host
                    .borrow_mut()
                    .oracle
                    .violate(stuck, "it hangs though nothing goes wrong any more");
            }
        }
    }

    /// To the next time that somebody waits for.
    fn advance(&mut self) -> bool {
        let next = {
            let kernel = self.host.borrow();
            let running = (0..self.stages.len()).filter(|&t| self.is_running(t));
            let next = running.filter_map(|t| kernel.signals[t].wake_at).min();
            next.map(|at| at.saturating_sub(kernel.now))
        };
        let Some(wait) = next else { return false };
        let micros = u64::try_from(wait.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        self.apply(Event::Advance { micros })
    }
}
