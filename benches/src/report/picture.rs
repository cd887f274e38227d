//! A bar for each row, with its interval.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::stats::Estimate;

/// A bar: its name and what it shows.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: Estimate,
    pub(super) baseline: bool,
}

const WIDTH: i32 = 920;
const NAMES_WIDTH: i32 = 240;
const VALUES_WIDTH: i32 = 170;
const LINE: i32 = 22;
const HEAD: i32 = 26;

/// Bars below each other, shortest best.
pub(super) fn bars(unit: &str, bars: &[Bar]) -> Result<String> {
    let mut svg = String::new();
    let height = HEAD + LINE * i32::try_from(bars.len())? + 6;
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let most = bars.iter().map(|bar| bar.value.high).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(WIDTH - NAMES_WIDTH - VALUES_WIDTH);
    let place = |value: f64| NAMES_WIDTH + whole(value / most * room);
    let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error + '_>> {
        canvas.fill(&WHITE)?;
        let text = TextStyle::from(("sans-serif", 13).into_font()).color(&BLACK);
        let right = text.clone().pos(Pos::new(HPos::Right, VPos::Center));
        let left = text.pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw(&Text::new(unit.to_owned(), (NAMES_WIDTH, HEAD / 2), left.clone()))?;
        for (bar, line) in bars.iter().zip(0..) {
            let top = HEAD + LINE * line;
            let middle = top + LINE / 2;
            let Estimate { median, low, high } = bar.value;
            canvas.draw(&Text::new(bar.name.clone(), (NAMES_WIDTH - 8, middle), right.clone()))?;
            let corners = [(NAMES_WIDTH, top + 3), (place(median), top + LINE - 3)];
            canvas.draw(&Rectangle::new(corners, color(bar).filled()))?;
            let whisker = vec![(place(low), middle), (place(high), middle)];
            canvas.draw(&PathElement::new(whisker, BLACK.stroke_width(1)))?;
            for end in [low, high] {
                let tick = vec![(place(end), middle - 4), (place(end), middle + 4)];
                canvas.draw(&PathElement::new(tick, BLACK.stroke_width(1)))?;
            }
            let value = format!("{median:.3} [{low:.3}–{high:.3}]");
            canvas.draw(&Text::new(value, (place(high) + 8, middle), left.clone()))?;
        }
        canvas.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("a picture cannot be drawn: {error}"))?;
    drop(canvas);
    Ok(svg)
}

/// Ours, the floor, peers, and all others.
fn color(bar: &Bar) -> RGBColor {
    if bar.baseline {
        RGBColor(110, 110, 110)
    } else if bar.name.contains("ringway") {
        RGBColor(58, 124, 196)
    } else if bar.name.contains("floor") {
        RGBColor(212, 180, 60)
    } else if bar.name.contains("peer") || bar.name == "servedir" {
        RGBColor(196, 110, 80)
    } else {
        RGBColor(165, 175, 185)
    }
}

/// A place in pixels.
fn whole(pixels: f64) -> i32 {
    format!("{:.0}", pixels.clamp(0.0, 10_000.0)).parse().unwrap_or(0)
}
