//! `kerntally top`: what passes now, by service and route, redrawn until it is interrupted.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;

use super::running::text;
use super::socket;
use crate::cli::{Global, Top};
use crate::control::{Request, client};
use crate::failure::Failure;
use crate::output::{Format, draw, print, print_line, terminal_size};

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Rows where there is no terminal to fill.
const ROWS: usize = 20;

/// Runs the command.
pub(crate) fn top(global: &Global, arguments: &Top) -> Result<(), Failure> {
    let socket = socket(global)?;
    // The agent tells watchers apart by it; numbers of processes do.
    let request = Request::Traffic {
        watcher: u64::from(std::process::id()),
    };
    let is_live = !arguments.once && std::io::stdout().is_terminal();
    let mut first = true;
    loop {
        let document = client::ask(&socket, &request)?;
        match global.output {
            Format::Json => print_line(&limited(&document, arguments.rows))?,
            Format::Text if is_live => draw(&frame(&document, arguments.rows, first))?,
            Format::Text => {
                print(&table(
                    &document,
                    arguments.rows.unwrap_or(ROWS),
                    usize::MAX,
                ))?;
            }
        }
        if arguments.once {
            return Ok(());
        }
        first = false;
        std::thread::sleep(PAUSE);
    }
}

fn limited(document: &Value, rows: Option<usize>) -> Value {
    let mut document = document.clone();
    if let (Some(rows), Some(list)) = (rows, document["traffic"].as_array_mut()) {
        list.truncate(rows);
    }
    document
}

/// The table over the one before.
fn frame(document: &Value, rows: Option<usize>, is_first: bool) -> String {
    let (columns, height) = terminal_size();
    let room = height.saturating_sub(2).max(1);
    let rows = rows.map_or(room, |rows| rows.min(room));
    let clear = if is_first { "\x1b[2J" } else { "" };
    let lines: Vec<String> = table(document, rows, columns)
        .lines()
        .map(|line| format!("{line}\x1b[K"))
        .collect();
    format!("{clear}\x1b[H{}\x1b[J", lines.join("\n"))
}

fn table(document: &Value, rows: usize, columns: usize) -> String {
    let mut lines = vec![format!(
        "{:<24} {:<6} {:<36} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "SERVICE", "ROLE", "ROUTE", "RATE/s", "ERRORS", "P50 ms", "P95 ms", "P99 ms"
    )];
    let traffic = document["traffic"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for row in traffic.iter().take(rows) {
        lines.push(format!(
            "{:<24} {:<6} {:<36} {:>9.1} {:>8} {:>9} {:>9} {:>9}",
            cut(&text(&row["service"]), 24),
            text(&row["role"]),
            cut(&text(&row["route"]), 36),
            row["rate"].as_f64().unwrap_or_default(),
            text(&row["errors"]),
            millis(&row["p50_seconds"]),
            millis(&row["p95_seconds"]),
            millis(&row["p99_seconds"])
        ));
    }
    if traffic.is_empty() {
        lines.push("no traffic".to_owned());
    } else if traffic.len() > rows {
        lines.push(format!("{} more", traffic.len() - rows));
    }
    let lines: Vec<String> = lines
        .into_iter()
        .map(|line| line.chars().take(columns).collect())
        .collect();
    lines.join("\n")
}

fn millis(seconds: &Value) -> String {
    seconds.as_f64().map_or_else(
        || "-".to_owned(),
        |seconds| format!("{:.2}", seconds * 1000.0),
    )
}

/// Cut in the middle, where routes tell least.
fn cut(text: &str, width: usize) -> String {
    let letters: Vec<char> = text
        .chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect();
    if letters.len() <= width {
        return letters.into_iter().collect();
    }
    let head = (width - 1) / 2;
    let tail = letters.len() - (width - 1 - head);
    letters[..head]
        .iter()
        .chain(&['\u{2026}'])
        .chain(&letters[tail..])
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        let row = |route: &str, rate: f64| {
            json!({ "service": "api", "role": "server", "route": route, "rate": rate, "errors": 1,
                "exchanges": 9, "p50_seconds": 0.001, "p95_seconds": 0.25, "p99_seconds": null })
        };
        json!({ "traffic": [row("/users/{id}", 12.34), row("/\x1b[2J", 1.0)] })
    }

    #[test]
    fn rows_are_in_milliseconds_and_fit() {
        let text = table(&document(), 1, 60);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 60));
        let text = table(&document(), 9, 200);
        assert!(text.contains("12.3") && text.contains("250.00"), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(table(&json!({}), 5, 80).contains("no traffic"));
    }

    #[test]
    fn long_names_are_cut_in_the_middle() {
        assert_eq!(cut("abcdefgh", 5), "ab\u{2026}gh");
        assert_eq!(cut("abc", 5), "abc");
    }

    #[test]
    fn json_is_cut_to_the_rows_asked_for() {
        let rows = |limit| {
            limited(&document(), limit)["traffic"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!((rows(Some(1)), rows(None), rows(Some(9))), (1, 2, 2));
    }
}
