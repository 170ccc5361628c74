//! Puts the newest run of each suite into a document, between marks of its own.

use std::fmt::Write as _;

use super::table::{cells, power};
use super::{Results, plot, shown};
use crate::suites::Found;

/// The document with the section of each suite replaced, or added at its end.
pub(crate) fn sections(document: &str, results: &Results) -> String {
    let mut text = document.to_owned();
    for (name, found) in &results.suites {
        let begin = format!("<!-- newest {name} -->\n");
        let end = format!("<!-- end of {name} -->\n");
        let section = format!(
            "{begin}{}{end}",
            section(name, found, &results.machine.line())
        );
        let place = text.find(&begin).zip(text.find(&end));
        match place {
            Some((from, to)) if from < to => text.replace_range(from..to + end.len(), &section),
            _ => {
                text.push('\n');
                text.push_str(&section);
            }
        }
    }
    text
}

fn section(name: &str, found: &Found, machine: &str) -> String {
    let mut text = format!("### Newest run: {name}\n\n{machine}.\n\n");
    if !found.figures.is_empty() {
        text.push_str("| figure | value | pairs | A/A spread | floor / aim | verdict |\n|---|---|---|---|---|---|\n");
    }
    for figure in &found.figures {
        let [value, range, spread, target, verdict] = cells(figure);
        // Writing to a string cannot fail.
        writeln!(
            text,
            "| {} | {value} | {range} | {spread} | {target} | {verdict} |",
            figure.name
        )
        .ok();
    }
    if !found.curves.is_empty() {
        text.push_str(
            "\n| curve | values | power of growth | over the last step |\n|---|---|---|---|\n",
        );
    }
    for curve in &found.curves {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|(size, value)| format!("{size:.0}: {}", shown(*value)))
            .collect();
        let (all, last) = (power(curve.exponent), power(curve.last_exponent));
        writeln!(
            text,
            "| {}, {} | {} | {all} | {last} |",
            curve.name,
            curve.unit,
            points.join(", ")
        )
        .ok();
    }
    text.push('\n');
    for note in &found.notes {
        writeln!(text, "- {note}").ok();
    }
    for (plot, _) in plot::plots(name, found) {
        writeln!(text, "\n![{name}](docs/bench/{plot})").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::figure::Figure;
    use crate::report::Machine;

    fn results(value: f64) -> Results {
        let found = Found {
            figures: vec![Figure::new("idle", "processor", "%", value)],
            ..Found::default()
        };
        Results {
            schema: "kerntally-bench/v1",
            machine: Machine::here(true),
            suites: BTreeMap::from([("idle", found)]),
        }
    }

    #[test]
    fn only_the_own_section_is_replaced() {
        let first = sections("# Before\n", &results(1.0)) + "\n# After\n";
        let second = sections(&first, &results(2.0));
        assert!(second.starts_with("# Before\n") && second.ends_with("# After\n"));
        assert!(second.contains("| processor | 2.000 % |") && !second.contains("1.000 %"));
        assert_eq!(second.matches("newest idle").count(), 1);
    }
}
