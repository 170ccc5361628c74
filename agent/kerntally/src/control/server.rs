//! The agent's end of the control socket: who may ask, how much, and how long.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::protocol::{Answer, REQUEST_BYTES, Request};

/// Connections served at one time; further ones wait in the listener's queue.
const CONNECTIONS: usize = 16;

/// A connection that stays silent for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A request on its way to the agent, with the place for its answer.
pub(crate) type Call = (Request, oneshot::Sender<Answer>);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("another agent answers at {}; choose another with --socket", path.display())]
    InUse { path: PathBuf },
    #[error("cannot listen at {}: {reason}", path.display())]
    Unusable { path: PathBuf, reason: io::Error },
}

/// The listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens, replacing what a dead agent left behind.
    pub(crate) fn listen(path: &Path) -> Result<Self, ListenError> {
        let unusable = |reason| ListenError::Unusable {
            path: path.to_owned(),
            reason,
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(unusable)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ListenError::InUse {
                path: path.to_owned(),
            });
        }
        remove_stale(path).map_err(unusable)?;
        let listener = bind_private(path).map_err(unusable)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Accepts until the agent is gone.
    pub(crate) async fn serve(self, calls: mpsc::Sender<Call>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let calls = calls.clone();
                    tokio::spawn(async move {
                        converse(stream, calls).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "cannot remove the control socket");
        }
    }
}

/// Only sockets are removed: a file of another kind at that path was put there by someone else.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::other("there is a file that is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Peers are checked as well, so nothing depends on the moment between binding and closing the mode.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, calls: mpsc::Sender<Call>) {
    if let Err(reason) = converse_or_fail(stream, calls).await {
        tracing::debug!(%reason, "control connection ended");
    }
}

async fn converse_or_fail(mut stream: UnixStream, calls: mpsc::Sender<Call>) -> io::Result<()> {
    if !may_ask(&stream)? {
        let refusal = Answer::Refused("only root and the agent's own user may ask".to_owned());
        return stream.write_all(&refusal.to_line()).await;
    }
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let limit = REQUEST_BYTES as u64 + 1;
        let mut bounded = (&mut read).take(limit);
        let got = timeout(IDLE, bounded.read_until(b'\n', &mut line)).await;
        let Ok(got) = got else { return Ok(()) };
        if got? == 0 {
            return Ok(());
        }
        if line.len() > REQUEST_BYTES {
            let refusal = format!("request too long, expected at most {REQUEST_BYTES} bytes");
            return write.write_all(&Answer::Refused(refusal).to_line()).await;
        }
        let answer = answer_to(&line, &calls).await;
        timeout(IDLE, write.write_all(&answer.to_line())).await??;
    }
}

async fn answer_to(line: &[u8], calls: &mpsc::Sender<Call>) -> Answer {
    let request = match Request::parse(line.trim_ascii_end()) {
        Ok(request) => request,
        Err(message) => return Answer::Refused(message),
    };
    let (reply, answer) = oneshot::channel();
    let stopping = || Answer::Failed("the agent is stopping".to_owned());
    if calls.send((request, reply)).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

fn may_ask(stream: &UnixStream) -> io::Result<bool> {
    let uid = stream.peer_cred()?.uid();
    Ok(uid == 0 || uid == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream as Blocking;

    use serde_json::{Value, json};

    use super::*;
    use crate::control::client;

    /// A server whose agent echoes requests, on a thread of its own.
    fn echo_server(path: &Path) {
        let path = path.to_owned();
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let server = Server::listen(&path).unwrap();
                ready.send(()).unwrap();
                let (calls, mut requests) = mpsc::channel(1);
                tokio::spawn(server.serve(calls));
                while let Some((request, reply)) = requests.recv().await {
                    let echo = serde_json::to_value(&request).unwrap();
                    reply.send(Answer::Ok(echo)).unwrap();
                }
            });
        });
        wait.recv().unwrap();
    }

    fn exchange(path: &Path, bytes: &[u8]) -> Value {
        let mut stream = Blocking::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(bytes).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn requests_are_answered_and_garbage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/control.sock");
        echo_server(&path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let answer = client::ask(&path, &Request::Status {}).unwrap();
        assert_eq!(answer, json!({"command": "status"}));
        let long = [vec![b'x'; REQUEST_BYTES + 10], vec![b'\n']].concat();
        let deep = [vec![b'['; REQUEST_BYTES - 10], vec![b'\n']].concat();
        for garbage in [
            b"\n".as_slice(),
            b"hello\n",
            b"\xff\xfe\x00\n",
            b"{\"command\":\"explode\"}\n",
            b"{\"command\":\"status\",\"x\":1}\n",
            b"GET / HTTP/1.1\n",
            &long,
            &deep,
        ] {
            let answer = exchange(&path, garbage);
            assert!(answer["refused"].is_string(), "{answer}");
        }
        assert!(client::ask(&path, &Request::Ledger {}).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        echo_server(&path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let second = runtime.block_on(async { Server::listen(&path) });
        assert!(
            matches!(second, Err(ListenError::InUse { .. })),
            "{second:?}"
        );
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(matches!(
            Server::listen(&path),
            Err(ListenError::Unusable { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn no_agent_is_said_in_the_promised_words() {
        let error = client::ask(Path::new("/nonexistent/s"), &Request::Status {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no agent at /nonexistent/s; start one with: sudo kerntally run"
        );
    }
}
