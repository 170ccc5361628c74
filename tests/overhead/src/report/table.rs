//! The table: each figure beside the spread of repeats, what it is held against, and the verdict.

use std::fmt::Write as _;

use super::{Results, shown};
use crate::figure::Figure;

/// For a terminal.
pub(crate) fn table(results: &Results) -> String {
    let mut text = format!("\n{}\n", results.machine.line().replace("**", ""));
    for (name, found) in &results.suites {
        // Writing to a string cannot fail.
        writeln!(text, "\n== {name}").ok();
        for figure in &found.figures {
            let [value, range, spread, target, verdict] = cells(figure);
            writeln!(
                text,
                "{:<76} {value:>18} {range:>17} {spread:>8} {target:>15}  {verdict}",
                figure.name
            )
            .ok();
        }
        for curve in &found.curves {
            let points: Vec<String> = curve
                .points
                .iter()
                .map(|(size, value)| format!("{size:.0}: {}", shown(*value)))
                .collect();
            writeln!(
                text,
                "{} ({}): {}; grows with the power {}, lately {}",
                curve.name,
                curve.unit,
                points.join(", "),
                power(curve.exponent),
                power(curve.last_exponent)
            )
            .ok();
        }
        for note in &found.notes {
            writeln!(text, "note: {note}").ok();
        }
    }
    text.push_str("\ncolumns: value, range of the pairs, A/A spread, floor / aim, verdict\n");
    text
}

/// Value with unit, range, spread, target, verdict.
pub(super) fn cells(figure: &Figure) -> [String; 5] {
    let range = figure
        .range
        .map(|(least, most)| format!("{} to {}", shown(least), shown(most)));
    let target = figure
        .target
        .map(|target| format!("{} / {}", target.floor, target.aim));
    let verdict = figure.verdict.map(|verdict| verdict.words().to_owned());
    [
        format!("{} {}", shown(figure.value), figure.unit),
        range.unwrap_or_default(),
        figure.spread.map(shown).unwrap_or_default(),
        target.unwrap_or_default(),
        verdict.unwrap_or_default(),
    ]
}

pub(super) fn power(exponent: Option<f64>) -> String {
    exponent.map_or_else(|| "unknown".to_owned(), |exponent| format!("{exponent:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::targets;

    #[test]
    fn a_figure_stands_beside_its_spread_and_target() {
        let figure = Figure::new("s", "throughput", "ratio", 0.968)
            .range((0.95, 0.98))
            .spread(0.012)
            .against(targets::THROUGHPUT);
        let words = [
            "0.968 ratio",
            "0.950 to 0.980",
            "0.012",
            "0.955 / 0.97",
            "floor reached",
        ];
        assert_eq!(cells(&figure), words);
    }
}
