//! Plots as SVG: ratios with their range and the spread of repeats, curves over sizes on logarithmic axes.

use std::fmt::Write as _;

use super::shown;
use crate::figure::Figure;
use crate::suites::{Curve, Found};

const WIDTH: f64 = 860.0;
const ROW: f64 = 26.0;
const LABELS: f64 = 400.0;
const COLOURS: [&str; 4] = ["#1f6f8b", "#c8553d", "#588157", "#6d597a"];

/// File names and contents of a suite's plots.
pub(super) fn plots(suite: &str, found: &Found) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    let ratios: Vec<&Figure> = found
        .figures
        .iter()
        .filter(|figure| figure.unit == "ratio")
        .collect();
    if !ratios.is_empty() {
        plots.push((format!("{suite}-ratios.svg"), self::ratios(&ratios)));
    }
    let added: Vec<&Figure> = found
        .figures
        .iter()
        .filter(|figure| figure.name.ends_with("added"))
        .collect();
    if !added.is_empty() {
        plots.push((format!("{suite}-added.svg"), bars(&added)));
    }
    for (number, curve) in found.curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let name = curve.name.replace(' ', "-");
        plots.push((format!("{suite}-{name}.svg"), self::curve(curve, colour)));
    }
    plots
}

fn canvas(height: f64, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{content}</svg>\n"
    )
}

fn text(into: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string cannot fail.
    writeln!(
        into,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    )
    .ok();
}

fn line(into: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(
        into,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>"
    )
    .ok();
}

/// A row each: the grey band is what repeats of the same thing give, the line the range of the pairs.
fn ratios(figures: &[&Figure]) -> String {
    let edges = figures.iter().flat_map(|figure| {
        let (least, most) = figure.range.unwrap_or((figure.value, figure.value));
        let spread = figure.spread.unwrap_or(0.0);
        [least, most, 1.0 - spread, 1.0 + spread, figure.value]
    });
    let (least, most) = edges.fold((0.95, 1.05), |(least, most): (f64, f64), edge| {
        (least.min(edge), most.max(edge))
    });
    // One outlier must not press everything else together.
    let (least, most) = (least.max(0.3), most.min(2.0));
    let place = |value: f64| {
        LABELS + (value.clamp(least, most) - least) / (most - least) * (WIDTH - LABELS - 20.0)
    };
    let mut content = String::new();
    let bottom = 30.0 + ROW * real(figures.len());
    line(
        &mut content,
        (place(1.0), 20.0),
        (place(1.0), bottom),
        "stroke=\"#888\"",
    );
    for value in [least, 1.0, most] {
        text(
            &mut content,
            place(value),
            15.0,
            "middle",
            &format!("{value:.2}"),
        );
    }
    for (row, figure) in figures.iter().enumerate() {
        let y = 40.0 + ROW * real(row);
        let spread = figure.spread.unwrap_or(0.0);
        line(
            &mut content,
            (place(1.0 - spread), y),
            (place(1.0 + spread), y),
            "stroke=\"#ddd\" stroke-width=\"14\"",
        );
        let (low, high) = figure.range.unwrap_or((figure.value, figure.value));
        line(
            &mut content,
            (place(low), y),
            (place(high), y),
            "stroke=\"#1f6f8b\" stroke-width=\"2\"",
        );
        writeln!(
            content,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#c8553d\"/>",
            place(figure.value)
        )
        .ok();
        text(&mut content, LABELS - 10.0, y + 4.0, "end", &figure.name);
    }
    canvas(bottom + 15.0, &content)
}

fn bars(figures: &[&Figure]) -> String {
    let most = figures
        .iter()
        .map(|figure| figure.value)
        .fold(1.0, f64::max);
    let mut content = String::new();
    for (row, figure) in figures.iter().enumerate() {
        let y = 10.0 + ROW * real(row);
        let width = figure.value.max(0.0) / most * (WIDTH - LABELS - 120.0);
        writeln!(
            content,
            "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"#1f6f8b\"/>"
        )
        .ok();
        text(&mut content, LABELS - 10.0, y + 12.0, "end", &figure.name);
        let value = format!("{} {}", shown(figure.value), figure.unit);
        text(
            &mut content,
            LABELS + width + 6.0,
            y + 12.0,
            "start",
            &value,
        );
    }
    canvas(20.0 + ROW * real(figures.len()), &content)
}

fn curve(curve: &Curve, colour: &str) -> String {
    const HEIGHT: f64 = 300.0;
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let values = curve.points.iter().map(of).filter(|value| *value > 0.0);
        let (least, most) = values.fold((f64::MAX, 0.0), |(least, most): (f64, f64), value| {
            (least.min(value), most.max(value))
        });
        (least.log10(), (most.log10()).max(least.log10() + 0.1))
    };
    let (sizes, values) = (bounds(|point| point.0), bounds(|point| point.1));
    let share = |value: f64, (least, most): (f64, f64)| (value.log10() - least) / (most - least);
    let place = |point: &(f64, f64)| {
        let x = 70.0 + share(point.0, sizes) * (WIDTH - 110.0);
        (x, HEIGHT - 40.0 - share(point.1, values) * (HEIGHT - 90.0))
    };
    let mut content = String::new();
    text(
        &mut content,
        WIDTH / 2.0,
        18.0,
        "middle",
        &format!("{}, {}", curve.name, curve.unit),
    );
    text(
        &mut content,
        WIDTH / 2.0,
        HEIGHT - 4.0,
        "middle",
        curve.size,
    );
    let drawn: Vec<&(f64, f64)> = curve
        .points
        .iter()
        .filter(|point| point.0 > 0.0 && point.1 > 0.0)
        .collect();
    for pair in drawn.windows(2) {
        let style = format!("stroke=\"{colour}\" stroke-width=\"2\"");
        line(&mut content, place(pair[0]), place(pair[1]), &style);
    }
    for point in drawn {
        let (x, y) = place(point);
        writeln!(
            content,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
        )
        .ok();
        text(&mut content, x, y - 9.0, "middle", &shown(point.1));
        text(
            &mut content,
            x,
            HEIGHT - 22.0,
            "middle",
            &format!("{:.0}", point.0),
        );
    }
    canvas(HEIGHT, &content)
}

#[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_and_point_is_drawn() {
        let figures = [
            Figure::new("s", "a & b", "ratio", 0.97)
                .spread(0.01)
                .range((0.9, 1.0)),
            Figure::new("s", "c", "ratio", 7.0),
        ];
        let points = vec![(10.0, 1.0), (100.0, 0.0), (1000.0, 2.0)];
        let curve = Curve {
            name: "memory by series".to_owned(),
            size: "series",
            unit: "MiB",
            points,
            exponent: None,
            last_exponent: None,
        };
        let found = Found {
            figures: figures.to_vec(),
            curves: vec![curve],
            notes: Vec::new(),
        };
        let plots = plots("s", &found);
        let names: Vec<_> = plots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["s-ratios.svg", "s-memory-by-series.svg"]);
        assert!(plots[0].1.contains("a &amp; b") && !plots[0].1.contains("NaN"));
        // What is 0 has no place on a logarithmic axis.
        assert_eq!(plots[1].1.matches("<circle").count(), 2);
    }
}
