//! What was learnt about routes, kept in `state.dir` from one start of the agent to the next.
//!
//! A file that cannot be read or written costs what it holds, never the agent: it is warned about and counted as the
//! degradation `state_failing`.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kerntally_model::Role;
use kerntally_pipeline::{LearntRoutes, Pipeline};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::state::write_whole;

const NAME: &str = "routes.json";

/// Names the form of the file; another one is not guessed at.
const SCHEMA: &str = "kerntally/routes/v1";

/// Longest file that is read: what the pipeline remembers at most is a part of it.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// The file, and what it holds.
#[derive(Debug)]
pub(super) struct LearntFile {
    path: Option<PathBuf>,
    held: Vec<LearntRoutes>,
    writing: Option<JoinHandle<(Vec<LearntRoutes>, io::Result<()>)>>,
    failing: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    schema: String,
    services: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    side: Side,
    folds: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Server,
    Client,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("larger than {MOST_BYTES} bytes")]
    TooLarge,
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("has schema `{0}`, expected `{SCHEMA}`")]
    Schema(String),
}

impl LearntFile {
    /// Hands what the file holds to the pipeline. Without a directory nothing is kept.
    pub(super) fn open(dir: Option<&Path>, pipeline: &mut Pipeline) -> Self {
        let mut this = Self {
            path: dir.map(|dir| dir.join(NAME)),
            held: Vec::new(),
            writing: None,
            failing: false,
        };
        let Some(path) = &this.path else { return this };
        match read(path) {
            Ok(rows) => {
                let refused = pipeline.restore_routes(rows);
                if refused > 0 {
                    tracing::warn!(
                        "{}: {refused} entries cannot be routes, ignored",
                        path.display()
                    );
                }
                this.failing = refused > 0;
                this.held = pipeline.learnt_routes();
            }
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!("{}: {error}; routes are learnt anew", path.display());
                set_aside(path);
                this.failing = true;
            }
        }
        this
    }

    /// The file could not be read, or not be written lately.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Writes what was learnt since, beside the loop: a slow disk must not hold it up.
    pub(super) async fn keep(&mut self, pipeline: &Pipeline) {
        let Some(path) = self.path.clone() else {
            return;
        };
        if let Some(writing) = self.writing.take_if(|writing| writing.is_finished()) {
            self.written(writing.await);
        }
        let rows = pipeline.learnt_routes();
        if self.writing.is_none() && rows != self.held {
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let result = write(&path, &rows);
                (rows, result)
            }));
        }
    }

    /// Writes the rest, and waits for it.
    pub(super) async fn close(&mut self, pipeline: &Pipeline) {
        if let Some(writing) = self.writing.take() {
            self.written(writing.await);
        }
        self.keep(pipeline).await;
        if let Some(writing) = self.writing.take() {
            self.written(writing.await);
        }
    }

    fn written(
        &mut self,
        outcome: Result<(Vec<LearntRoutes>, io::Result<()>), tokio::task::JoinError>,
    ) {
        let error = match outcome {
            Ok((rows, Ok(()))) => {
                self.held = rows;
                self.failing = false;
                return;
            }
            Ok((_, Err(error))) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if !self.failing {
            tracing::warn!("what was learnt about routes cannot be kept in state.dir: {error}");
        }
        self.failing = true;
    }
}

fn read(path: &Path) -> Result<Vec<LearntRoutes>, ReadError> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ReadError::TooLarge);
    }
    let document: Document = serde_json::from_str(&text)?;
    if document.schema != SCHEMA {
        return Err(ReadError::Schema(document.schema));
    }
    let rows = document.services.into_iter().map(|entry| LearntRoutes {
        name: entry.name,
        namespace: entry.namespace,
        role: match entry.side {
            Side::Server => Role::Server,
            Side::Client => Role::Client,
        },
        folds: entry.folds,
    });
    Ok(rows.collect())
}

fn write(path: &Path, rows: &[LearntRoutes]) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA.to_owned(),
        services: rows
            .iter()
            .map(|row| Entry {
                name: row.name.clone(),
                namespace: row.namespace.clone(),
                side: match row.role {
                    Role::Server => Side::Server,
                    Role::Client => Side::Client,
                },
                folds: row.folds.clone(),
            })
            .collect(),
    };
    write_whole(path, &serde_json::to_vec(&document)?)
}

/// What cannot be read may be a newer version's: it is not overwritten.
fn set_aside(path: &Path) {
    if let Err(error) = fs::rename(path, path.with_extension("json.refused")) {
        tracing::debug!(%error, "cannot set the file aside");
    }
}

#[cfg(test)]
mod tests {
    use kerntally_pipeline::Config;

    use super::*;
    use crate::clock;
    use crate::procsource::ProcFiles;

    fn pipeline() -> Pipeline {
        let source = Box::new(ProcFiles::new(Path::new("/proc")));
        Pipeline::new(&Config::default(), source, clock::now())
    }

    fn row(folds: &[&str]) -> LearntRoutes {
        LearntRoutes {
            name: "shop".to_owned(),
            namespace: Some("web".to_owned()),
            role: Role::Client,
            folds: folds.iter().map(|fold| (*fold).to_owned()).collect(),
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn what_was_learnt_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("deep/state");
        let mut first = pipeline();
        let mut file = LearntFile::open(Some(&place), &mut first);
        assert!(!file.is_failing(), "there is none yet");
        first.restore_routes(vec![row(&["/a/{param}", "/b/{id}/{param}"])]);
        runtime().block_on(file.close(&first));
        let mut second = pipeline();
        let file = LearntFile::open(Some(&place), &mut second);
        assert!(!file.is_failing());
        assert_eq!(
            second.learnt_routes(),
            [row(&["/a/{param}", "/b/{id}/{param}"])]
        );
        assert!(!place.join("routes.json.new").exists());
    }

    #[test]
    fn a_bad_file_is_set_aside_and_replaced() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"schema": "kerntally/routes/v9", "services": []}"#,
            r#"{"schema": "kerntally/routes/v1", "services": [{"name": 5}]}"#,
            "\u{0}\u{1}",
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(NAME), text).unwrap();
            let mut pipeline = pipeline();
            let mut file = LearntFile::open(Some(dir.path()), &mut pipeline);
            assert!(file.is_failing(), "{text}");
            assert!(pipeline.learnt_routes().is_empty());
            let aside = fs::read_to_string(dir.path().join("routes.json.refused")).unwrap();
            assert_eq!(aside, text);
            pipeline.restore_routes(vec![row(&["/a/{param}"])]);
            runtime().block_on(async {
                file.keep(&pipeline).await;
                file.close(&pipeline).await;
            });
            assert_eq!(
                read(&dir.path().join(NAME)).unwrap(),
                [row(&["/a/{param}"])]
            );
        }
    }

    #[test]
    fn entries_that_are_no_routes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        write(
            &dir.path().join(NAME),
            &[row(&["/a/{param}", "/users/ann@example.org"])],
        )
        .unwrap();
        let mut pipeline = pipeline();
        let file = LearntFile::open(Some(dir.path()), &mut pipeline);
        assert!(file.is_failing());
        assert_eq!(pipeline.learnt_routes(), [row(&["/a/{param}"])]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_degradation() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        let mut pipeline = pipeline();
        let mut file = LearntFile::open(Some(&blocked), &mut pipeline);
        pipeline.restore_routes(vec![row(&["/a/{param}"])]);
        runtime().block_on(async {
            file.keep(&pipeline).await;
            let writing = file.writing.take().unwrap();
            let outcome = writing.await;
            file.written(outcome);
        });
        assert!(file.is_failing());
    }

    #[test]
    fn without_a_directory_nothing_is_written() {
        let mut pipeline = pipeline();
        let mut file = LearntFile::open(None, &mut pipeline);
        pipeline.restore_routes(vec![row(&["/a/{param}"])]);
        runtime().block_on(file.keep(&pipeline));
        assert!(file.writing.is_none() && !file.is_failing());
    }
}
