//! `kerntally tail`: one line an exchange, as they pass.

use std::time::Duration;

use serde_json::Value;

use super::running::text;
use super::socket;
use crate::cli::{Global, Tail};
use crate::control::{Request, client};
use crate::failure::Failure;
use crate::output::{Format, note, print, print_line};

/// Time between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the command.
pub(crate) fn tail(global: &Global, arguments: &Tail) -> Result<(), Failure> {
    let socket = socket(global)?;
    let slower = arguments.slower.map_or(0, |span| span.0.as_nanos());
    let mut left = arguments.lines.unwrap_or(u64::MAX);
    let mut from = None;
    while left > 0 {
        let request = Request::Tail {
            from,
            raw_path: arguments.raw_path,
            service: arguments.service.clone(),
            status: arguments.status.clone(),
            slower_ns: u64::try_from(slower).unwrap_or(u64::MAX),
        };
        let answer = client::ask(&socket, &request)?;
        from = answer["next"].as_u64();
        if let Some(missed) = answer["missed"].as_u64().filter(|missed| *missed > 0) {
            note(&format!(
                "kerntally: {missed} exchanges passed too fast to be shown"
            ));
        }
        let rows = answer["exchanges"].as_array().map(Vec::as_slice);
        let rows = rows.unwrap_or_default();
        for row in rows {
            match global.output {
                Format::Json => print_line(row)?,
                Format::Text => print(&line(row))?,
            }
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        // A full answer has a rest.
        if rows.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// `5xx`, or a code.
pub(crate) fn parse_status(given: &str) -> Result<String, String> {
    let digits = given.strip_suffix("xx").unwrap_or(given);
    let length = if digits.len() == given.len() { 3 } else { 1 };
    let is_status = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_status {
        return Ok(given.to_owned());
    }
    Err("expected a status such as 503, or a class such as 5xx".to_owned())
}

fn line(row: &Value) -> String {
    let target = ["path", "route", "server_address"]
        .into_iter()
        .find(|key| !row[*key].is_null())
        .map_or_else(|| "-".to_owned(), |key| text(&row[key]));
    let error = match &row["error_type"] {
        Value::Null => String::new(),
        error => format!(" {}", text(error)),
    };
    let line = format!(
        "{} {} {} {} {target} {} {:.2} ms{error}",
        time_of_day(row["time_unix_nano"].as_u64().unwrap_or_default()),
        text(&row["service"]),
        text(&row["role"]),
        text(&row["method"]),
        text(&row["status"]),
        row["duration_seconds"].as_f64().unwrap_or_default() * 1000.0,
    );
    line.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

/// In UTC.
fn time_of_day(unix_ns: u64) -> String {
    let millis = unix_ns / 1_000_000;
    let seconds = millis / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1000
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_codes_or_classes() {
        for good in ["503", "5xx", "200"] {
            assert!(parse_status(good).is_ok(), "{good}");
        }
        for bad in ["", "xx", "50", "5x", "5xxx", "abc", "55xx"] {
            assert!(parse_status(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_tells_what_there_is() {
        let row = json!({ "time_unix_nano": 1_700_000_000_123_000_000_u64, "service": "api", "role": "client",
            "method": "GET", "route": null, "server_address": "db\u{1b}[2J", "status": null,
            "error_type": "no_response", "duration_seconds": 0.0015 });
        assert_eq!(
            line(&row),
            "22:13:20.123Z api client GET db\u{fffd}[2J - 1.50 ms no_response"
        );
    }
}
