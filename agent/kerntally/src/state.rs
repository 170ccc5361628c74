//! Files in `state.dir`: whole at every moment, and nobody else's to read.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Names the form of the file of switches; another one is not guessed at.
const SCHEMA: &str = "kerntally/probes/v1";

/// Longest file of switches that is read.
const MOST_BYTES: u64 = 64 * 1024;

/// Probes that were switched to stay so, over the file of the configuration.
pub(crate) type Switches = BTreeMap<String, bool>;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    probes: Switches,
}

/// Why switches cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchesError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("has schema `{0}`, expected `{SCHEMA}`")]
    Schema(String),
}

/// Where switches are kept.
pub(crate) fn switches_file(dir: &Path) -> PathBuf {
    dir.join("probes.json")
}

/// Switches that were kept; none if there is no file.
pub(crate) fn read_switches(dir: &Path) -> Result<Switches, SwitchesError> {
    let mut text = String::new();
    match fs::File::open(switches_file(dir)) {
        Ok(file) => file.take(MOST_BYTES).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Switches::new()),
        Err(error) => return Err(error.into()),
    };
    let document: Document = serde_json::from_str(&text)?;
    if document.schema != SCHEMA {
        return Err(SwitchesError::Schema(document.schema));
    }
    Ok(document.probes)
}

/// Keeps switches beside those that are kept already.
pub(crate) fn keep_switches<'a>(
    dir: &Path,
    names: impl IntoIterator<Item = &'a str>,
    on: bool,
) -> Result<(), SwitchesError> {
    // What cannot be read may be a newer version's: it is not overwritten.
    let mut probes = read_switches(dir)?;
    probes.extend(names.into_iter().map(|name| (name.to_owned(), on)));
    let document = Document {
        schema: SCHEMA.to_owned(),
        probes,
    };
    write_whole(&switches_file(dir), &serde_json::to_vec(&document)?)?;
    Ok(())
}

/// Writes a line of JSON beside its place and moves it there.
pub(crate) fn write_whole(path: &Path, line: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(line)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_come_back_and_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("deep/state");
        assert!(read_switches(&place).unwrap().is_empty());
        keep_switches(&place, ["http1", "tls-go"], false).unwrap();
        keep_switches(&place, ["tls-go"], true).unwrap();
        let kept = read_switches(&place).unwrap();
        let expected = [("http1".to_owned(), false), ("tls-go".to_owned(), true)];
        assert!(kept.into_iter().eq(expected));
        assert!(!place.join("probes.json.new").exists());
    }

    #[test]
    fn what_cannot_be_read_is_not_overwritten() {
        for text in [
            "",
            "[]",
            r#"{"schema": "kerntally/probes/v9", "probes": {}}"#,
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(switches_file(dir.path()), text).unwrap();
            assert!(read_switches(dir.path()).is_err(), "{text}");
            assert!(keep_switches(dir.path(), ["http1"], true).is_err());
            assert_eq!(fs::read_to_string(switches_file(dir.path())).unwrap(), text);
        }
    }
}
