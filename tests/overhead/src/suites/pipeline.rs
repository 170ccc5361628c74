//! Stages 4 to 7 on their own: reads what the benchmarks of those crates print.

use anyhow::{Result, ensure};

use super::Found;
use crate::figure::Figure;

const SUITE: &str = "pipeline";

/// Figures of both benchmarks' output.
pub(crate) fn read(floor: &str, encode: &str) -> Result<Found> {
    let mut figures: Vec<Figure> = floor.lines().filter_map(of_floor).collect();
    ensure!(
        !figures.is_empty(),
        "the benchmark of stages 4 to 6 printed no figures"
    );
    figures.extend(encode.lines().filter_map(of_encode));
    Ok(Found {
        figures,
        ..Found::default()
    })
}

/// `NAME: VALUE UNIT`
fn of_floor(line: &str) -> Option<Figure> {
    const UNITS: [&str; 4] = ["ns", "per exchange", "B each", "ms"];
    let (name, rest) = line.rsplit_once(": ")?;
    let (value, unit) = rest.split_once(' ')?;
    let unit = UNITS.into_iter().find(|known| *known == unit)?;
    Some(Figure::new(SUITE, name, unit, value.parse().ok()?))
}

/// `test encode/NAME/SERIES ... bench:  1,234,567 ns/iter (+/- 1,234)`
fn of_encode(line: &str) -> Option<Figure> {
    let rest = line.strip_prefix("test encode/")?;
    let (name, rest) = rest.split_once(" ... bench:")?;
    let (name, series) = name.rsplit_once('/')?;
    let value = rest.trim().split(' ').next()?.replace(',', "");
    let millis = value.parse::<f64>().ok()? / 1e6;
    let name = format!("{series} series, {}", name.replace('_', " "));
    Some(Figure::new(SUITE, name, "ms", millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_read() {
        let floor = "compiling\nserver, learnt route, record to series: 293 ns\nclient, allocations: 0 per exchange\n";
        let encode =
            "test encode/requests as bytes/1000 ... bench:     3,600,000 ns/iter (+/- 12)\n";
        let found = read(floor, encode).unwrap();
        let named: Vec<_> = found
            .figures
            .iter()
            .map(|figure| (figure.name.as_str(), figure.value))
            .collect();
        assert_eq!(
            named,
            [
                ("server, learnt route, record to series", 293.0),
                ("client, allocations", 0.0),
                ("1000 series, requests as bytes", 3.6),
            ]
        );
        assert!(read("nothing", "").is_err());
    }
}
