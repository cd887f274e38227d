//! Each guard of the regions is shown to bite: it is taken away, and a test of this binary fails that
//! otherwise passes.
//!
//! | guard taken away | whose bug that is | what sees it |
//! |---|---|---|
//! | `RegionFaultForgotten` | RocketMQ, BLAKE3#488 | what was read of a page that had gone counts |
//! | `RegionLengthUnchecked` | our own | zeros behind the end of the last page count |
//! | `RegionsNotCounted` | RocketMQ | a region beyond the cap is mapped |

use ringway_runtime::fault::{Sabotage, sabotage};
use ringway_testkit::{Bite, assert_bites};

use crate::{caps, faults};

fn bites(test: &str, guard: Sabotage, words: &'static str, scene: fn()) {
    assert_bites(&format!("guards::{test}"), Bite::Says(words), || {
        let _armed = sabotage(guard);
        scene();
    });
}

#[test]
fn a_forgotten_fault() {
    bites("a_forgotten_fault", Sabotage::RegionFaultForgotten, "right: (Fault", || {
        faults::truncate_under_loads(0..1);
    });
}

#[test]
fn an_unchecked_length() {
    let scene = faults::find_zeros_behind_the_end;
    bites("an_unchecked_length", Sabotage::RegionLengthUnchecked, "on an `Ok` value", scene);
}

#[test]
fn a_region_too_many() {
    let scene = caps::bound_regions_in_number;
    bites("a_region_too_many", Sabotage::RegionsNotCounted, "on an `Ok` value: Window", scene);
}
