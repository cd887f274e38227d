//! From a script that fails to a short one that still does.

use crate::bug::Bug;
use crate::event::Event;
use crate::scenario::Scenario;
use crate::simulation::replay;

/// What is left of a failing run: the scenario of `seed` without some extents, and few events.
#[derive(Debug)]
pub(crate) struct Shrunk {
    pub(crate) seed: u64,
    pub(crate) emptied: Vec<(usize, usize)>,
    pub(crate) script: Vec<Event>,
}

impl Shrunk {
    pub(crate) fn scenario(&self) -> Scenario {
        Scenario::of_seed(self.seed).without(&self.emptied)
    }

    /// The violation that it leads to.
    pub(crate) fn replay(&self, bug: Option<Bug>) -> Option<String> {
        replay(&self.scenario(), &self.script, bug)
    }
}

/// Delta debugging: leaves out ever smaller runs of events while it still fails, then parts of the
/// bodies, then events again.
pub(crate) fn shrink(seed: u64, script: &[Event], bug: Option<Bug>) -> Shrunk {
    let mut shrunk = Shrunk { seed, emptied: Vec::new(), script: script.to_vec() };
    shrunk.leave_out_events(bug);
    shrunk.merge_advances(bug);
    if shrunk.leave_out_extents(bug) {
        shrunk.leave_out_events(bug);
        shrunk.merge_advances(bug);
    }
    shrunk
}

impl Shrunk {
    fn leave_out_events(&mut self, bug: Option<Bug>) {
        let scenario = self.scenario();
        let fails = |script: &[Event]| replay(&scenario, script, bug).is_some();
        if fails(&[]) {
            return self.script.clear();
        }
        let mut run = self.script.len().div_ceil(2);
        while run > 0 {
            let (mut at, mut left_out) = (0, false);
            while at < self.script.len() {
                let end = (at + run).min(self.script.len());
                let without = [&self.script[..at], &self.script[end..]].concat();
                if fails(&without) {
                    self.script = without;
                    left_out = true;
                } else {
                    at = end;
                }
            }
            // Single events are tried until none can be left out any more.
            run = if run == 1 && left_out { 1 } else { run / 2 };
        }
    }

    /// Makes one jump in time of two that follow each other.
    fn merge_advances(&mut self, bug: Option<Bug>) {
        let scenario = self.scenario();
        let mut at = 0;
        while at + 1 < self.script.len() {
            if let [Event::Advance { micros: one }, Event::Advance { micros: other }] =
                self.script[at..at + 2]
            {
                let mut merged = self.script.clone();
                merged.splice(at..at + 2, [Event::Advance { micros: one + other }]);
                if replay(&scenario, &merged, bug).is_some() {
                    self.script = merged;
                    continue;
                }
            }
            at += 1;
        }
    }

    fn leave_out_extents(&mut self, bug: Option<Bug>) -> bool {
        let before = self.emptied.len();
        let counts: Vec<_> =
            self.scenario().transfers.iter().map(|transfer| transfer.extents.len()).collect();
        for (transfer, &count) in counts.iter().enumerate() {
            for part in 0..count {
                self.emptied.push((transfer, part));
                if self.replay(bug).is_none() {
                    self.emptied.pop();
                }
            }
        }
        self.emptied.len() > before
    }
}
