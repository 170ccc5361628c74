//! Standard output and standard error: the only place that writes to them.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Every JSON document begins with it.
pub(crate) const SCHEMA: &str = "kerntally/v1";

/// `-o`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On terminals, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether colours go to a stream.
    pub(crate) fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                stream.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// Writes text to standard output, with an end of line.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    draw(text)?;
    if text.ends_with('\n') {
        Ok(())
    } else {
        draw("\n")
    }
}

/// Writes a JSON document to standard output, with the schema as its first key.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&with_schema(value)).map_err(anyhow::Error::from)?;
    print(&text)
}

/// Writes a JSON document to standard output on one line, as streams are written.
pub(crate) fn print_line(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string(&with_schema(value)).map_err(anyhow::Error::from)?;
    print(&text)
}

/// Adds the schema to an object.
pub(crate) fn with_schema(value: &Value) -> Value {
    let mut document = serde_json::Map::new();
    document.insert("schema".to_owned(), SCHEMA.into());
    if let Value::Object(members) = value {
        document.extend(
            members
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Value::Object(document)
}

/// Columns and lines of the terminal on standard output; the usual ones where it does not say.
pub(crate) fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Writes text as it stands to standard output.
pub(crate) fn draw(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line for people to standard error. Nobody can be told if that fails.
pub(crate) fn note(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
