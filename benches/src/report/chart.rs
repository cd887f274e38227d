//! A bar for each row, with its interval, on an axis that begins at zero.
//!
//! Names and figures are text of the page; only the bars are drawn, each in a picture that stretches to the
//! width there is. So they can be read on a telephone as well, and take the page's colours, dark or light.
//! Kinds of rows differ by brightness and pattern as much as by hue, for eyes that see fewer hues.

use std::fmt::Write;

use super::escaped;
use crate::stats::Estimate;

/// A bar: its name and what it shows.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    /// A sentence about it.
    pub(super) about: String,
    pub(super) value: Estimate,
    /// To the baseline.
    pub(super) ratio: Option<Estimate>,
    pub(super) kind: Kind,
}

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Auto,
    Ours,
    Baseline,
    Floor,
    Peer,
    Other,
}

/// Every kind, its class and what the legend says.
const KINDS: &[(Kind, &str, &str)] = &[
    (Kind::Auto, "auto", "Ringway, as it chooses"),
    (Kind::Ours, "ours", "Ringway, forced"),
    (Kind::Baseline, "base", "baseline of the ratios"),
    (Kind::Peer, "peer", "other runtimes and servers"),
    (Kind::Other, "other", "by hand"),
    (Kind::Floor, "floor", "floor: does not do all of the work"),
];

impl Kind {
    /// Of who was measured in a mode.
    pub(super) fn of(mode: &str, name: &str, baseline: bool) -> Self {
        match name {
            _ if baseline => Self::Baseline,
            // It seals nothing, and sends everything whatever is asked for.
            "ringway-copy" if mode == "tls" => Self::Floor,
            "splice" if mode == "filter" => Self::Floor,
            // One connection at a time, and no HTTP to speak of.
            "sealed-loop" if mode == "servers-tls" => Self::Floor,
            "ringwayd" | "ringwayd-tls" | "ringway-tls" => Self::Auto,
            _ if name.ends_with("ringway-auto") => Self::Auto,
            _ if name.contains("floor") || name.contains("cipher-") || name == "filter-only" => {
                Self::Floor
            }
            _ if name.contains("ringway") => Self::Ours,
            _ if ["peer", "servedir", "tokio", "nginx"].iter().any(|peer| name.contains(peer)) => {
                Self::Peer
            }
            _ => Self::Other,
        }
    }

    fn class(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("other", |(_, class, _)| class)
    }
}

/// Bars below each other, the lowest first, below an axis with `unit`.
pub(super) fn bars(unit: &str, bars: &[Bar]) -> String {
    let mut bars = bars.to_vec();
    bars.sort_by(|a, b| a.value.median.total_cmp(&b.value.median));
    let axis = Axis::of(&bars);
    let mut html = String::from("<div class=\"chart\">\n");
    // Writing to a String does not fail.
    let _ = writeln!(
        html,
        "<div class=\"unit\">{}</div><div class=\"axis\">{}{}</div><div></div>",
        escaped(unit),
        picture(&axis.marks()),
        axis.labels()
    );
    for bar in &bars {
        let Estimate { median, low, high } = bar.value;
        let cut = high > axis.end;
        let [low, median, high] = [low, median, high].map(|value| axis.place(value));
        let drawn = format!(
            "{}<rect class=\"{}\" x=\"0\" y=\"3\" width=\"{median:.2}\" height=\"14\"/>{}",
            axis.marks(),
            bar.kind.class(),
            whisker(low, high, cut)
        );
        let strong = if bar.kind == Kind::Auto { " strong" } else { "" };
        let ratio = bar.ratio.map_or_else(String::new, |ratio| {
            format!(" <span>× {}</span>", crate::table::interval(&ratio, 2))
        });
        let _ = writeln!(
            html,
            "<div class=\"name{strong}\" title=\"{}\">{}{}</div>{}<div class=\"value\">{}{ratio}</div>",
            escaped(&bar.about),
            escaped(&bar.name),
            if bar.kind == Kind::Baseline { " <span>baseline</span>" } else { "" },
            picture(&drawn),
            crate::table::interval(&bar.value, axis.digits),
        );
    }
    html.push_str("</div>\n");
    html
}

/// What the colours mean.
pub(super) fn legend() -> String {
    let entry = |(_, class, text): &(Kind, &str, &str)| {
        let swatch =
            format!("<rect class=\"{class}\" x=\"0\" y=\"3\" width=\"100\" height=\"14\"/>");
        format!("<span class=\"key\">{} {text}</span>", picture(&swatch))
    };
    let entries: String = KINDS.iter().map(entry).collect();
    format!(
        "<p class=\"legend\">{entries}<span class=\"key\">{} 95 % interval</span></p>\n",
        picture(&whisker(10.0, 90.0, false))
    )
}

/// An interval, with a halo so that it is seen on bars of every brightness; one that is cut off at the end of
/// the axis ends in a point.
fn whisker(low: f64, high: f64, cut: bool) -> String {
    let end = if cut {
        format!("M{:.2} 5L{high:.2} 10L{:.2} 15", high - 1.0, high - 1.0)
    } else {
        format!("M{high:.2} 5V15")
    };
    let path = format!("d=\"M{low:.2} 10H{high:.2}M{low:.2} 5V15{end}\"");
    format!("<path class=\"whisker halo\" {path}/><path class=\"whisker\" {path}/>")
}

fn picture(inside: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 100 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{inside}</svg>"
    )
}

/// From zero to a round number, in round steps.
struct Axis {
    end: f64,
    step: f64,
    /// Behind the point, for figures of the bars.
    digits: usize,
}

/// An interval that reaches so many times further than all bars would make them too short to be compared.
const REACH: f64 = 2.0;

impl Axis {
    /// Until the last interval's end, if it does not dwarf the bars.
    fn of(bars: &[Bar]) -> Self {
        let most =
            |of: fn(&Estimate) -> f64| bars.iter().map(|bar| of(&bar.value)).fold(0.0, f64::max);
        Self::until(most(|value| value.high).min(REACH * most(|value| value.median)))
    }

    /// Three to six steps of 1, 2 or 5 times a power of ten.
    fn until(most: f64) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let power = 10f64.powf((most / 3.0).log10().floor());
        let steps = [5.0, 2.0, 1.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| most / step >= 3.0).unwrap_or(power);
        let digits = if most < 1.0 {
            4
        } else if most < 10.0 {
            3
        } else {
            usize::from(most < 1000.0)
        };
        // A hair of tolerance: 0.30000000000000004 is still three steps of 0.1.
        Self { end: (most / step - 1e-9).ceil() * step, step, digits }
    }

    /// In hundredths of the width.
    fn place(&self, value: f64) -> f64 {
        (value / self.end * 100.0).clamp(0.0, 100.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (end, step) = (self.end, self.step);
        (0..=10u32).map(move |n| f64::from(n) * step).take_while(move |at| *at <= end * 1.0001)
    }

    fn marks(&self) -> String {
        let lines: String = self.ticks().map(|at| format!("M{:.2} 0V20", self.place(at))).collect();
        format!("<path class=\"grid\" d=\"{lines}\"/>")
    }

    fn labels(&self) -> String {
        let digits = (0..4).find(|digits| self.step * 10f64.powi(*digits) >= 0.999).unwrap_or(4);
        let digits = usize::try_from(digits).unwrap_or(0);
        let (unit, letter) = match self.end {
            end if end >= 1e6 => (1e6, " M"),
            end if end >= 1e4 => (1e3, " k"),
            _ => (1.0, ""),
        };
        let digits = if self.step < unit && unit > 1.0 { 1 } else { digits };
        let label = |at: f64| {
            let (place, at) = (self.place(at), at / unit);
            // The last one stands inside, where the one before it must not reach.
            let near_the_end = place > 86.0 && place < 99.9;
            let text = if near_the_end { String::new() } else { format!("{at:.digits$}{letter}") };
            format!("<i style=\"left:{place:.2}%\">{text}</i>")
        };
        self.ticks().map(label).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_at_a_round_number_that_holds_everything() {
        for (most, end, step) in
            [(0.3, 0.3, 0.1), (0.0137, 0.014, 0.002), (92.0, 100.0, 20.0), (1.0, 1.0, 0.2)]
        {
            let axis = Axis::until(most);
            assert!((axis.end - end).abs() < 1e-9, "{most}: {}", axis.end);
            assert!((axis.step - step).abs() < 1e-9, "{most}: {}", axis.step);
            assert!((3..=7).contains(&(axis.ticks().count() - 1)), "{most}");
        }
        assert!((Axis::until(0.0).end - 1.0).abs() < 1e-9);
    }

    #[test]
    fn interval_that_would_dwarf_the_bars_is_cut_and_says_so() {
        let bar = |high: f64| Bar {
            name: "servedir".to_owned(),
            about: String::new(),
            value: Estimate { median: 100.0, low: 0.0, high },
            ratio: None,
            kind: Kind::Peer,
        };
        let html = bars("units", &[bar(100.0), bar(50_000.0)]);
        assert_eq!(html.matches("width=\"50.00\"").count(), 2, "{html}");
        assert!(html.contains("M99.00 5L100.00 10L99.00 15"), "{html}");
        assert!(bars("units", &[bar(250_000.0)]).contains("250000"), "figures are not cut");
        let long = bars(
            "units",
            &[Bar { value: Estimate { median: 6e5, low: 6e5, high: 6e5 }, ..bar(0.0) }],
        );
        assert!(long.contains(">600 k</i>"), "{long}");
    }

    #[test]
    fn bars_are_as_long_as_what_they_show_and_the_lowest_is_first() {
        let bar = |name: &str, median: f64| Bar {
            name: name.to_owned(),
            about: String::new(),
            value: Estimate { median, low: median, high: median },
            ratio: None,
            kind: Kind::of("quick", name, false),
        };
        let html = bars("units", &[bar("dear", 100.0), bar("serve-ringway-auto", 25.0)]);
        let (cheap, dear) = (html.find("width=\"25.00\""), html.find("width=\"100.00\""));
        assert!(cheap.unwrap() < dear.unwrap(), "{html}");
        assert!(html.contains("class=\"auto\"") && html.contains("class=\"other\""), "{html}");
    }
}
