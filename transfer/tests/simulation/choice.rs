//! What happens next, by chance: mostly what drives transfers on, and now and then what hurts.

use crate::chance::Chance;
use crate::event::{
    Call, EAGAIN, ECANCELED, ECONNRESET, EINTR, EINVAL, EIO, ENOMEM, EOPNOTSUPP, EPIPE, Event,
    Outcome,
};
use crate::kernel::ring::Work;
use crate::scenario::{PAGE, Scenario};
use crate::simulation::Simulation;

/// How one seed hurts. Each kind is left out of half the seeds, so that no kind hides another by
/// ending every transfer early.
pub(crate) struct Chooser {
    pub(crate) events_max: u64,
    /// Of a thousand ops and inline calls.
    shorts: u64,
    errnos: u64,
    /// Of a thousand events.
    mutations: u64,
    endings: u64,
    stalls: u64,
    no_pipes: u64,
    /// Peers that read nothing for now.
    stalled: Vec<bool>,
}

impl Chooser {
    pub(crate) fn new(chance: &mut Chance, scenario: &Scenario) -> Self {
        let mut half = |most: u64| if chance.one_in(2) { 0 } else { 1 + chance.below(most) };
        Self {
            shorts: half(300),
            errnos: half(40),
            mutations: half(30),
            endings: half(24),
            stalls: half(60),
            no_pipes: half(20),
            stalled: scenario.transfers.iter().map(|_| false).collect(),
            events_max: 100 + chance.below(700),
        }
    }

    pub(crate) fn choose(&mut self, chance: &mut Chance, simulation: &Simulation<'_>) -> Event {
        let count = self.stalled.len();
        let transfer = chance.index(count);
        let file = chance.index(simulation.scenario.files.len());
        if simulation.is_waiting(transfer) && chance.one_in(3) {
            return Event::Start { transfer };
        }
        if chance.thousandth(self.mutations) {
            return self.mutation(chance, simulation, file);
        }
        if chance.thousandth(self.endings) {
            return match chance.below(6) {
                0 => Event::PeerResets { transfer },
                1..3 => Event::Drop { transfer },
                _ => Event::Cancel { transfer },
            };
        }
        if chance.thousandth(self.stalls) {
            self.stalled[transfer] = !self.stalled[transfer];
        }
        if chance.thousandth(self.no_pipes) {
            return Event::Pipes { max: chance.index(6) };
        }
        if chance.thousandth(self.shorts / 4 + self.errnos) {
            let processed = simulation.scenario.transfers[transfer].script.is_some();
            if processed && chance.one_in(2) {
                return self.arm_processing(chance, transfer);
            }
            return self.arm(chance, transfer);
        }
        self.onward(chance, simulation, transfer)
    }

    /// What drives some transfer on, looking from `first` for one that can be.
    fn onward(&self, chance: &mut Chance, simulation: &Simulation<'_>, first: usize) -> Event {
        let count = self.stalled.len();
        let kernel = simulation.host.borrow();
        let kind = chance.below(16);
        for transfer in (first..count).chain(0..first) {
            if kind < 6 && simulation.is_running(transfer) && kernel.signals[transfer].woken {
                return Event::Poll { transfer };
            }
            let ops = |done| {
                let of_it = kernel.ops.iter().filter(move |op| op.transfer == transfer);
                of_it.filter(move |op| !op.reaped && op.result.is_some() == done)
            };
            if (6..9).contains(&kind) {
                let nth = chance.index(ops(false).count());
                if let Some(op) = ops(false).nth(nth) {
                    let outcome = match op.cancelled && chance.one_in(2) {
                        true => Outcome::Errno(ECANCELED),
                        false => self.outcome(chance, op.work),
                    };
                    return Event::Execute { transfer, nth, outcome };
                }
            }
            if (9..12).contains(&kind) && ops(true).next().is_some() {
                return Event::Reap { transfer, nth: chance.index(ops(true).count()) };
            }
            let socket = &kernel.sockets[transfer];
            if (12..15).contains(&kind) && !self.stalled[transfer] && socket.queued > 0 {
                let bytes =
                    if chance.one_in(2) { u64::MAX } else { 1 + chance.below(socket.queued) };
                return Event::PeerReads { transfer, bytes };
            }
        }
        if simulation.is_running(first) && chance.one_in(30) {
            return Event::Poll { transfer: first };
        }
        let micros = match chance.below(12) {
            0 => chance.below(200_000),
            1..4 => chance.below(30_000),
            _ => chance.below(3000),
        };
        Event::Advance { micros }
    }

    fn outcome(&self, chance: &mut Chance, work: Work) -> Outcome {
        if chance.thousandth(self.shorts) {
            return short(chance);
        }
        if !chance.thousandth(self.errnos) {
            return Outcome::Full;
        }
        Outcome::Errno(match work {
            Work::Fill { .. } => chance.of(&[EIO, EINVAL, EOPNOTSUPP, ENOMEM, ECANCELED, EINTR]),
            Work::Populate { .. } => chance.of(&[EAGAIN, EINTR, ENOMEM, EIO]),
            Work::Read { .. } | Work::ReadHeap { .. } | Work::Errand => {
                chance.of(&[EIO, ENOMEM, ECANCELED, EINTR])
            }
            Work::Drain { .. } => chance.of(&[EAGAIN, EAGAIN, ENOMEM, ECANCELED, EINTR, EPIPE]),
            Work::Send { .. } | Work::SendMemory { .. } => {
                chance.of(&[EAGAIN, EAGAIN, ENOMEM, EOPNOTSUPP, ECANCELED, ECONNRESET])
            }
        })
    }

    fn arm(&self, chance: &mut Chance, transfer: usize) -> Event {
        let calls = [Call::Fill, Call::Drain, Call::Read, Call::Send, Call::Sendfile];
        let call = if chance.thousandth(150) {
            chance.of(&[Call::Lend, Call::Writable])
        } else {
            chance.of(&calls)
        };
        let outcome = if chance.below(self.shorts / 4 + self.errnos) >= self.errnos {
            short(chance)
        } else {
            Outcome::Errno(match call {
                Call::Fill | Call::Sendfile => chance.of(&[EIO, EINVAL, ENOMEM]),
                Call::Read => chance.of(&[EAGAIN, EINVAL, EIO]),
                _ => chance.of(&[EAGAIN, EAGAIN, EAGAIN, ENOMEM, ECONNRESET]),
            })
        };
        Event::Arm { transfer, call, outcome }
    }

    fn arm_processing(&self, chance: &mut Chance, transfer: usize) -> Event {
        let failed = Outcome::Errno(EIO);
        let (call, outcome) = match chance.below(8) {
            0..3 => (Call::Map, failed),
            3 if self.errnos > 0 => (Call::Turn, failed),
            _ => (Call::Turn, Outcome::Short(chance.below(4))),
        };
        Event::Arm { transfer, call, outcome }
    }

    fn mutation(&self, chance: &mut Chance, simulation: &Simulation<'_>, file: usize) -> Event {
        let len = simulation.scenario.files[file];
        let scale = simulation.scenario.transfers[0].limits.quantum_bytes;
        // Under a window that is being looked at or sent it is where it hurts.
        let under = simulation.host.borrow().mapped(file);
        if let Some(range) = under.filter(|_| chance.one_in(3)) {
            return Event::Truncate {
                file,
                len: range.start + chance.below(range.end - range.start),
            };
        }
        match chance.below(9) {
            0 => Event::Truncate { file, len: len.saturating_sub(chance.below(scale * 8)) },
            1..3 => Event::Grow { file, by: chance.below(scale * 8) },
            3..6 => Event::Overwrite { file },
            6 => Event::Replace { file, len: len.saturating_sub(chance.below(PAGE)) },
            _ => Event::Residency { file, resident: chance.one_in(2) },
        }
    }
}

fn short(chance: &mut Chance) -> Outcome {
    let most = chance.of(&[1, 10, PAGE, 16 * PAGE]);
    Outcome::Short(1 + chance.below(most))
}
