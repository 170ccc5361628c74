//! Reads requests one by one: one a line, as files of OTLP have them, or whole documents over many lines.

use std::io::{self, BufRead, Read};

use kerntally_export::ExportMetricsServiceRequest;
use kerntally_export::otlpjson::{Document, FieldProblem, read};
use serde_json::Value;

/// Longest line, and longest document of many lines.
pub(crate) const LONGEST: u64 = 64 * 1024 * 1024;

/// What the input holds.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// A request about metrics, with what was wrong with its fields.
    Request {
        line: u64,
        request: ExportMetricsServiceRequest,
        problems: Vec<FieldProblem>,
    },
    /// A request about another signal.
    OtherSignal,
    /// A last line that breaks off.
    Truncated { line: u64 },
    /// Something else.
    Unreadable { line: u64, reason: String },
}

/// Hands every piece of the input to `sink`.
pub(crate) fn pieces(mut input: impl BufRead, mut sink: impl FnMut(Piece)) -> io::Result<()> {
    let (mut line, mut text) = (0, Vec::new());
    let mut is_first = true;
    loop {
        text.clear();
        let read = (&mut input)
            .take(LONGEST + 1)
            .read_until(b'\n', &mut text)?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        let is_whole = text.ends_with(b"\n");
        if text.len() as u64 > LONGEST && !is_whole {
            skip_line(&mut input)?;
            let reason = format!("longer than {LONGEST} bytes");
            sink(Piece::Unreadable { line, reason });
            is_first = false;
            continue;
        }
        let trimmed = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let trimmed = trimmed.trim_ascii();
        if trimmed.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Value>(trimmed) {
            Ok(value) => tell(&value, line, &mut sink),
            Err(error) if error.is_eof() && is_first && is_whole => {
                return document(text, input, line, &mut sink);
            }
            Err(error) if error.is_eof() && !is_whole && !is_first => {
                sink(Piece::Truncated { line });
            }
            Err(error) => sink(unreadable(line, &error)),
        }
        is_first = false;
    }
}

/// The rest of the input as documents of many lines.
fn document(
    mut text: Vec<u8>,
    input: impl BufRead,
    first_line: u64,
    sink: &mut impl FnMut(Piece),
) -> io::Result<()> {
    input.take(LONGEST + 1).read_to_end(&mut text)?;
    let line_at = |offset: usize| {
        let lines = text[..offset.min(text.len())].split(|byte| *byte == b'\n');
        first_line - 1 + lines.count() as u64
    };
    if text.len() as u64 > LONGEST {
        let reason = format!("a document longer than {LONGEST} bytes");
        sink(Piece::Unreadable {
            line: first_line,
            reason,
        });
        return Ok(());
    }
    let start = text.iter().take_while(|byte| !byte.is_ascii()).count();
    let mut documents = serde_json::Deserializer::from_slice(&text[start..]).into_iter::<Value>();
    loop {
        let line = line_at(start + documents.byte_offset());
        match documents.next() {
            None => return Ok(()),
            Some(Ok(value)) => tell(&value, line, sink),
            Some(Err(error)) => {
                sink(unreadable(first_line - 1 + error.line() as u64, &error));
                return Ok(());
            }
        }
    }
}

/// One document, or a list of them.
fn tell(value: &Value, line: u64, sink: &mut impl FnMut(Piece)) {
    if let Value::Array(items) = value
        && !items.is_empty()
    {
        for item in items {
            sink(piece(item, line));
        }
        return;
    }
    sink(piece(value, line));
}

fn piece(value: &Value, line: u64) -> Piece {
    match read(value) {
        Document::Metrics(request, problems) => Piece::Request {
            line,
            request,
            problems,
        },
        Document::OtherSignal => Piece::OtherSignal,
        Document::Unknown => Piece::Unreadable {
            line,
            reason: "expected an object with resourceMetrics".to_owned(),
        },
    }
}

fn unreadable(line: u64, error: &serde_json::Error) -> Piece {
    // The parser counts lines within what it was given.
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    Piece::Unreadable {
        line,
        reason: format!("not JSON: {reason}"),
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = r#"{"resourceMetrics":[{"scopeMetrics":[]}]}"#;

    fn kinds(input: &str) -> Vec<String> {
        let mut kinds = Vec::new();
        pieces(input.as_bytes(), |piece| {
            kinds.push(match piece {
                Piece::Request { line, request, .. } => {
                    format!("{line}:{}", request.resource_metrics.len())
                }
                Piece::OtherSignal => "other".to_owned(),
                Piece::Truncated { line } => format!("{line}:truncated"),
                Piece::Unreadable { line, reason } => format!("{line}:{reason}"),
            });
        })
        .unwrap();
        kinds
    }

    #[test]
    fn one_request_a_line() {
        let input = format!("{REQUEST}\n\n{REQUEST}\r\n{{\"resourceLogs\":[]}}\n{REQUEST}");
        assert_eq!(kinds(&input), ["1:1", "3:1", "other", "5:1"]);
        assert_eq!(kinds(&format!("\u{feff}{REQUEST}\n")), ["1:1"]);
    }

    #[test]
    fn a_document_of_many_lines() {
        let value: Value = serde_json::from_str(REQUEST).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(kinds(&pretty), ["1:1"]);
        assert_eq!(kinds(&format!("\n{pretty}\n{pretty}\n")).len(), 2);
        assert_eq!(kinds(&format!("[\n{REQUEST},\n{REQUEST}\n]\n")).len(), 2);
    }

    #[test]
    fn what_is_no_request_is_said_with_its_line() {
        assert_eq!(
            kinds(&format!("{REQUEST}\nhello\n{REQUEST}\n")),
            ["1:1", "2:not JSON: expected value", "3:1"]
        );
        assert_eq!(
            kinds("{\"a\":1}\n"),
            ["1:expected an object with resourceMetrics"]
        );
        assert!(kinds("{\n\"resourceMetrics\": [\n}")[0].starts_with("3:not JSON"));
        assert!(kinds(&REQUEST[..20])[0].starts_with("1:not JSON"));
        assert_eq!(kinds("").len(), 0);
    }

    #[test]
    fn a_last_line_may_still_be_being_written() {
        let input = format!("{REQUEST}\n{}", &REQUEST[..20]);
        assert_eq!(kinds(&input), ["1:1", "2:truncated"]);
    }

    #[test]
    fn every_prefix_and_deep_nesting_end() {
        let pretty = format!("{REQUEST}\n{REQUEST}\n");
        for end in 0..pretty.len() {
            kinds(&pretty[..end]);
        }
        kinds(&"[".repeat(100_000));
        kinds(&"{\"a\":".repeat(100_000));
    }

    #[test]
    fn lines_beyond_the_limit_are_skipped() {
        let long = io::Cursor::new(vec![b'x'; 10]).chain(io::repeat(b'y').take(LONGEST));
        let input = long.chain(io::Cursor::new(format!("\n{REQUEST}\n")));
        let mut kinds = Vec::new();
        pieces(io::BufReader::new(input), |piece| {
            kinds.push(matches!(piece, Piece::Request { line: 2, .. }));
        })
        .unwrap();
        assert_eq!(kinds, [false, true]);
    }
}
