//! Appends requests to a file in the OTLP file format: one request in JSON a line.
//! <https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{ExportMetricsServiceRequest, encode::json};

/// A file that would grow past this is put aside first.
pub const ROTATE_BYTES: u64 = 100 * 1024 * 1024;

/// Files put aside that are kept: `PATH.1` is the newest.
pub const ROTATED_FILES: u32 = 3;

/// Size limit of a request that becomes a line, as protobuf: in JSON it takes up to four times as much, and a
/// line of more than 1 MiB is cut by the Collector's file receivers, by their default (`max_log_size`).
pub const LINE_REQUEST_BYTES: usize = 256 * 1024;

/// Points name services and routes of the whole node: for the owner and the group.
const FILE_MODE: u32 = 0o640;

/// Why lines could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened for appending.
    #[error("`{path}` could not be opened for appending")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The full file cannot be put aside.
    #[error("`{path}` could not be rotated")]
    Rotate {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line cannot be written: the disk is full, the reader is gone.
    #[error("`{path}` could not be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A request that has no JSON.
    #[error("request could not be written as JSON")]
    Json {
        /// What the serializer said.
        source: serde_json::Error,
    },
}

impl FileError {
    /// The reader of a pipe is gone: no error of ours, and no reason to go on.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Totals since the start, for the agent's own health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    /// Lines written.
    pub lines: u64,
    /// Requests that could not be written; cumulative points heal with the next ones.
    pub dropped: u64,
    /// Files put aside.
    pub rotations: u64,
    /// The latest error, kept after a success.
    pub last_error: Option<String>,
    /// Whether the latest line could not be written.
    pub failing: bool,
}

/// A file, a pipe or standard output that lines are appended to. Blocks: not for async tasks.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    rotate_bytes: u64,
    /// `None` after a failed rotation or for standard output.
    file: Option<Open>,
    stats: FileStats,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Length if it is a regular file: only those are rotated and cut back.
    length: Option<u64>,
}

impl FileSink {
    /// Opens for appending; `-` is standard output.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::with_limit(path, ROTATE_BYTES)
    }

    /// As [`FileSink::open`], rotating at another size.
    pub fn with_limit(path: &Path, rotate_bytes: u64) -> Result<Self, FileError> {
        let mut sink = Self {
            path: path.to_owned(),
            rotate_bytes,
            file: None,
            stats: FileStats::default(),
        };
        if !sink.is_stdout() {
            sink.file = Some(open_file(path)?);
        }
        Ok(sink)
    }

    /// Appends one line a request and flushes. The first error ends it; a line is whole or not there.
    pub fn append(&mut self, requests: &[ExportMetricsServiceRequest]) -> Result<(), FileError> {
        for (index, request) in requests.iter().enumerate() {
            if let Err(error) = self.append_one(request) {
                self.stats.dropped += (requests.len() - index) as u64;
                self.stats.last_error = Some(with_source(&error));
                self.stats.failing = true;
                return Err(error);
            }
            self.stats.lines += 1;
            self.stats.failing = false;
        }
        Ok(())
    }

    /// Counts a request that is not written, because one before it could not be.
    pub fn pass_over(&mut self) {
        self.stats.dropped += 1;
    }

    /// Totals so far.
    pub fn stats(&self) -> &FileStats {
        &self.stats
    }

    fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    fn append_one(&mut self, request: &ExportMetricsServiceRequest) -> Result<(), FileError> {
        let mut line = json(request).map_err(|source| FileError::Json { source })?;
        line.push(b'\n');
        if self.is_stdout() {
            let mut out = io::stdout().lock();
            return out
                .write_all(&line)
                .and_then(|()| out.flush())
                .map_err(self.write_error());
        }
        self.rotate_if_full(line.len() as u64)?;
        let path = self.path.clone();
        let open = match &mut self.file {
            Some(open) => open,
            none => none.insert(open_file(&path)?),
        };
        open.write_line(&line).map_err(self.write_error())
    }

    fn write_error(&self) -> impl FnOnce(io::Error) -> FileError + use<> {
        let path = self.path.clone();
        |source| FileError::Write { path, source }
    }

    fn rotate_if_full(&mut self, line_bytes: u64) -> Result<(), FileError> {
        let length = self.file.as_ref().and_then(|open| open.length).unwrap_or(0);
        if length == 0 || length + line_bytes <= self.rotate_bytes {
            return Ok(());
        }
        let rotate_error = |source| FileError::Rotate {
            path: self.path.clone(),
            source,
        };
        for number in (0..ROTATED_FILES).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(rotate_error(error));
                }
                _ => {}
            }
        }
        self.file = None;
        self.stats.rotations += 1;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Open {
    /// A line that was written in part is cut off again, so that the next one starts on its own.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(line).and_then(|()| self.file.flush());
        match (&written, &mut self.length) {
            (Ok(()), Some(length)) => *length += line.len() as u64,
            (Err(_), Some(length)) => self.file.set_len(*length)?,
            (_, None) => {}
        }
        written
    }
}

fn open_file(path: &Path) -> Result<Open, FileError> {
    let open_error = |source| FileError::Open {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(open_error)?;
    let metadata = file.metadata().map_err(open_error)?;
    Ok(Open {
        file,
        length: metadata.is_file().then_some(metadata.len()),
    })
}

fn with_source(error: &FileError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
