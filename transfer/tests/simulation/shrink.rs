//! From a script that fails to a short one that still does.

use ringway::progress::Extent;

use crate::bug::Bug;
use crate::event::Event;
use crate::scenario::Scenario;
use crate::simulation::replay;

/// Delta debugging: leaves out ever smaller runs of events while it still fails, then whole transfers
/// and parts of their bodies, then events again.
pub(crate) fn shrink(
    scenario: &Scenario,
    script: &[Event],
    bug: Option<Bug>,
) -> (Scenario, Vec<Event>) {
    let mut scenario = scenario.clone();
    let mut script = fewer_events(&scenario, script.to_vec(), bug);
    if fewer_extents(&mut scenario, &script, bug) {
        script = fewer_events(&scenario, script, bug);
    }
    (scenario, script)
}

fn fewer_events(scenario: &Scenario, mut script: Vec<Event>, bug: Option<Bug>) -> Vec<Event> {
    if replay(scenario, &[], bug).is_some() {
        return Vec::new();
    }
    let mut run = script.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        let mut left_out = false;
        while at < script.len() {
            let end = (at + run).min(script.len());
            let without = [&script[..at], &script[end..]].concat();
            if replay(scenario, &without, bug).is_some() {
                script = without;
                left_out = true;
            } else {
                at = end;
            }
        }
        // Single events are tried until none can be left out any more.
        run = if run == 1 && left_out { 1 } else { run / 2 };
    }
    script
}

fn fewer_extents(scenario: &mut Scenario, script: &[Event], bug: Option<Bug>) -> bool {
    let mut changed = false;
    for transfer in 0..scenario.transfers.len() {
        for part in 0..scenario.transfers[transfer].extents.len() {
            let mut smaller = scenario.clone();
            smaller.transfers[transfer].extents[part] = Extent::Bytes { len: 0 };
            if replay(&smaller, script, bug).is_some() {
                *scenario = smaller;
                changed = true;
            }
        }
    }
    changed
}
