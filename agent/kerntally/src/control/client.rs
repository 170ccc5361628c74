//! The commands' end of the control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::protocol::{ANSWER_BYTES, Answer, Request};
use crate::failure::Failure;

/// How long the agent may take: switching probes waits for the kernel, and kernels before 5.13 verify programs of
/// fexit again whenever they are attached again.
const PATIENCE: Duration = Duration::from_mins(2);

/// Asks the agent behind a socket.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Value, Failure> {
    let stream = UnixStream::connect(socket).map_err(|error| no_agent(socket, &error))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = converse(&stream, request).map_err(|error| unanswered(socket, &error))?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Refused(message) => Err(Failure::usage(message)),
        Answer::Failed(message) => Err(Failure::failed(message)),
    }
}

fn converse(mut stream: &UnixStream, request: &Request) -> std::io::Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::other("the agent closed the connection"));
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn unanswered(socket: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let shown = socket.display();
    // The kernel's words for a timeout are "resource temporarily unavailable".
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        let seconds = PATIENCE.as_secs();
        return Failure::failed(format!(
            "the agent at {shown} did not answer within {seconds} s"
        ));
    }
    Failure::failed(format!("{shown}: {error}"))
}

fn no_agent(socket: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let shown = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::failed(format!(
            "no agent at {shown}; start one with: sudo kerntally run"
        )),
        ErrorKind::PermissionDenied => Failure::refused(format!(
            "{shown}: permission denied; ask as root or as the agent's user, such as: sudo kerntally status"
        )),
        _ => Failure::failed(format!("{shown}: {error}")),
    }
}
