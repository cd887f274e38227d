//! What a long run will do with its time, before it begins: points, seconds, rounds, and what does not fit.
//! Pure.
//!
//! How long a trial takes is reckoned from what the point moves. The constants are a machine's, not yours: in
//! a run, what its own first passes took corrects them.

use std::fmt::Write;
use std::time::Duration;

use crate::data::VERIFIED_LEN;
use crate::point::{Cache, GIB, Layout, Point, Reader, Shape};
use crate::schedule::Bounds;

/// One point of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) point: &'static str,
    pub(crate) arms: usize,
    /// One round of all arms.
    pub(crate) round: Duration,
    /// A pass of one round, its file included.
    pub(crate) pass: Duration,
    /// The warm-up, and as many passes as there are.
    pub(crate) least: Duration,
    /// How many rounds there is time for; `None` if the point does not fit.
    pub(crate) rounds: Option<u32>,
}

/// What `points` with so many arms take, and how far `budget` reaches.
pub(crate) fn outline(
    points: impl IntoIterator<Item = (&'static Point, usize)>,
    bounds: Bounds,
    budget: Duration,
) -> Vec<Line> {
    let mut left = budget;
    let mut lines: Vec<Line> = Vec::new();
    for (point, arms) in points {
        let round = trial(point) * u32::try_from(arms).unwrap_or(u32::MAX);
        let pass = file(point) + round;
        let least = round + pass * bounds.passes;
        // Points are begun in their order: one that does not fit ends the run's list.
        let before = lines.iter().all(|line| line.rounds.is_some());
        let fits = before && (least <= left || bounds.insists);
        if fits {
            left = left.saturating_sub(least);
        }
        let rounds = fits.then_some(bounds.passes);
        lines.push(Line { point: point.name, arms, round, pass, least, rounds });
    }
    let begun = lines.iter().filter(|line| line.rounds.is_some()).count();
    // What is left is shared equally; each point makes of its share what rounds it can.
    let share = left / u32::try_from(begun.max(1)).unwrap_or(1);
    for line in &mut lines {
        let more = share.as_secs_f64() / line.round.as_secs_f64().max(1e-3);
        let more = more.min(f64::from(bounds.most)).floor();
        let more = format!("{more:.0}").parse().unwrap_or(0);
        line.rounds = line.rounds.map(|rounds| (rounds + more).min(bounds.most));
    }
    lines
}

/// How long one arm takes for one round.
pub(crate) fn trial(point: &Point) -> Duration {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let connections = f64::from(point.connections());
    let (moved, verified, requests_s) = match point.shape {
        Shape::Stream => (point.body_len, VERIFIED_LEN.min(point.body_len / 2), 0.0),
        Shape::Exchange { connections: many, requests_each } => {
            let requests = u64::from(many) * u64::from(requests_each);
            // One at a time costs a wake-up on either side.
            let each_s = if many == 1 { 70e-6 } else { 8e-6 };
            (requests * point.body_len, u64::from(many) * point.body_len, requests as f64 * each_s)
        }
    };
    let moving_s = match (point.reader, point.cache) {
        _ if point.layout == Layout::Sparse => gb(moved) / HOLES_GB_PER_S,
        (Reader::Slow { bytes_per_second }, _) => moved as f64 / bytes_per_second as f64,
        (Reader::Eager, Cache::Cold) => gb(moved) / DISK_GB_PER_S,
        (Reader::Eager, Cache::Hot) => gb(moved) / HOT_GB_PER_S,
    };
    let start_s = TRIAL_S + connections * CONNECTION_S;
    Duration::from_secs_f64(start_s + gb(verified) / COMPARED_GB_PER_S + requests_s + moving_s)
}

/// How long it takes to make the file of a point.
fn file(point: &Point) -> Duration {
    let slices = point.slices();
    let dense = match point.layout {
        Layout::Dense => slices.count * slices.len,
        Layout::Sparse => GIB / 16,
    };
    Duration::from_secs_f64(0.02 + dense as f64 / 1e9 / WRITTEN_GB_PER_S)
}

/// Starting a sender, and ending it.
const TRIAL_S: f64 = 0.06;
const CONNECTION_S: f64 = 120e-6;
const COMPARED_GB_PER_S: f64 = 0.8;
const HOT_GB_PER_S: f64 = 4.0;
const DISK_GB_PER_S: f64 = 1.0;
/// Pages of zeros have to be made, and do not all stay.
const HOLES_GB_PER_S: f64 = 1.5;
const WRITTEN_GB_PER_S: f64 = 0.6;

/// For people.
pub(crate) fn text(lines: &[Line], bounds: Bounds, budget: Duration) -> String {
    let whole = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
    let mut text = String::from("point             arms   s/round   at least   rounds\n");
    // Writing to a String does not fail.
    for line in lines {
        let rounds = line.rounds.map_or("no time".to_owned(), |rounds| rounds.to_string());
        let (round, least) = (line.round.as_secs_f64(), line.least.as_secs_f64());
        let (point, arms) = (line.point, line.arms);
        let _ = writeln!(text, "{point:16} {arms:5} {round:9.1} {least:8.0} s {rounds:>8}");
    }
    let least: Duration = lines.iter().map(|line| line.least).sum();
    let fitting = lines.iter().filter(|line| line.rounds.is_some()).count();
    let _ = write!(
        text,
        "{} points with {} rounds each take {} at least; {fitting} of them fit into {}.\nReckoned, not \
         measured: the run corrects this by its own first pass, and leaves out the last points if it must.",
        lines.len(),
        bounds.passes,
        whole(least),
        whole(budget),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{Choice, POINTS};

    fn whole_matrix(hours: u64) -> Vec<Line> {
        let points = POINTS.iter().filter(|point| point.choice != Choice::Hidden);
        // As many as a build with peers has of each kind.
        let arms = |point: &'static Point| {
            (
                point,
                crate::arms::all()
                    .filter(|arm| arm.fits(point) && arm.choice != Choice::Hidden)
                    .count(),
            )
        };
        outline(points.map(arms), Bounds::FULL, Duration::from_secs(hours * 3600))
    }

    #[test]
    fn two_hours_reach_every_point_with_ten_rounds() {
        let lines = whole_matrix(2);
        assert_eq!(lines.len(), 24);
        for line in &lines {
            assert!(line.rounds.is_some_and(|rounds| rounds >= 10), "{line:?}");
        }
        let all: Duration = lines.iter().map(|line| line.least).sum();
        assert!(all < Duration::from_secs(7200), "{all:?}");
    }

    #[test]
    fn most_telling_points_come_first_and_what_does_not_fit_is_said() {
        let points: Vec<(&'static Point, usize)> = POINTS.iter().take(8).map(|p| (p, 20)).collect();
        let of = |budget| outline(points.clone(), Bounds::FULL, budget);
        let first_three: Duration = of(Duration::ZERO).iter().take(3).map(|line| line.least).sum();
        let lines = of(first_three);
        let fitting: Vec<&str> =
            lines.iter().filter(|line| line.rounds.is_some()).map(|line| line.point).collect();
        assert_eq!(fitting, ["hot-64k-x64", "hot-1g", "hot-4k-x64"]);
        let said = text(&lines, Bounds::FULL, first_three);
        assert!(said.contains("3 of them fit"), "{said}");
        assert_eq!(said.matches("no time").count(), 5, "{said}");
    }

    #[test]
    fn time_that_is_left_becomes_rounds_and_a_run_that_insists_leaves_nothing_out() {
        let points = || POINTS.iter().take(2).map(|point| (point, 4));
        let lines = outline(points(), Bounds::FULL, Duration::from_secs(600));
        assert!(lines.iter().all(|line| line.rounds.is_some_and(|rounds| rounds > 50)));
        let lines = outline(points(), Bounds::QUICK, Duration::ZERO);
        assert!(lines.iter().all(|line| line.rounds == Some(8)));
    }

    #[test]
    fn slow_readers_and_cold_files_take_what_their_bytes_take() {
        let of = |name: &str| trial(crate::point::named(name).unwrap()).as_secs_f64();
        assert!(of("slow-16m") > 0.167 && of("slow-16m") < 0.5);
        assert!(of("cold-1g") > of("hot-1g") && of("sparse-5g") > 2.0);
        assert!(of("hot-64k-x1024") > of("hot-64k-x64"));
    }
}
