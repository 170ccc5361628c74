//! `kerntally check --live`: whether exchanges are really seen, by making one and looking.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kerntally_abi::role;
use kerntally_probes::{Options, Record, Session};
use serde_json::{Value, json};

use crate::control::{Request, client};
use crate::failure::Failure;

/// How long to look for the exchange.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The least time that is looked, so that other traffic is counted too.
const SPAN: Duration = Duration::from_secs(1);

/// Most of what one side reads.
const READ_BYTES: usize = 4096;

/// Makes an exchange and looks for it: through the running agent, or by attaching for a moment.
pub(crate) fn look(socket: &Path, options: &Options) -> Result<Value, Failure> {
    match client::ask(socket, &Request::Status {}) {
        Ok(status) if status["ready"] == true => through_agent(socket, &status),
        Ok(_) => Err(Failure::failed(
            "an agent is running and not ready to tally; try again after kerntally status --wait 30s",
        )),
        Err(_) => by_attaching(options),
    }
}

fn through_agent(socket: &Path, status: &Value) -> Result<Value, Failure> {
    let before = seen(&client::ask(socket, &Request::Ledger {})?);
    let started = Instant::now();
    exchange_elsewhere()?;
    let mut events;
    loop {
        std::thread::sleep(PAUSE);
        let now = seen(&client::ask(socket, &Request::Ledger {})?);
        events = [0, 1].map(|role| now[role].saturating_sub(before[role]));
        let works = events.iter().all(|events| *events > 0);
        if (works && started.elapsed() >= SPAN) || started.elapsed() >= PATIENCE {
            break;
        }
    }
    Ok(outcome("agent", &status["backend"]["name"], events))
}

fn seen(ledger: &Value) -> [u64; 2] {
    ["server", "client"].map(|role| ledger["roles"][role]["seen"].as_u64().unwrap_or_default())
}

fn by_attaching(options: &Options) -> Result<Value, Failure> {
    let mut session = Session::load(options)?;
    session.attach()?;
    let started = Instant::now();
    exchange_elsewhere()?;
    let mut events = [0; 2];
    loop {
        std::thread::sleep(PAUSE);
        session.drain(|record| {
            if let Record::Exchange(exchange) = record {
                events[usize::from(exchange.record.role != role::SERVER)] += 1;
            }
        });
        let works = events.iter().all(|events| *events > 0);
        if (works && started.elapsed() >= SPAN) || started.elapsed() >= PATIENCE {
            break;
        }
    }
    let backend = session.backend().name();
    session.detach()?;
    Ok(outcome("attached", &backend.into(), events))
}

fn outcome(through: &str, backend: &Value, [server, client]: [u64; 2]) -> Value {
    json!({
        "through": through,
        "backend": backend,
        "works": server > 0 && client > 0,
        "server_exchanges": server,
        "client_exchanges": client,
    })
}

/// Another process makes it: what looks is never looked at itself.
fn exchange_elsewhere() -> Result<(), Failure> {
    let own = std::env::current_exe()?;
    let status = Command::new(own)
        .arg(crate::cli::EXCHANGE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed(
        "no HTTP exchange could be made on 127.0.0.1",
    ))
}

/// One request and its response over loopback, both in this process.
pub(crate) fn exchange() -> Result<(), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let client = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /kerntally-check HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut response = Vec::new();
        stream.take(READ_BYTES as u64).read_to_end(&mut response)?;
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; READ_BYTES];
    let _length = stream.read(&mut request)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    drop(stream);
    match client.join() {
        Ok(result) => Ok(result?),
        Err(_panic) => Err(Failure::failed("the client failed")),
    }
}

/// For people.
pub(crate) fn render(document: &Value) -> String {
    let through = if document["through"] == "agent" {
        "the running agent"
    } else {
        "hooks attached for a moment"
    };
    let verdict = if document["works"] == true {
        "works"
    } else {
        "does not work"
    };
    format!(
        "live: {verdict}: an exchange was made, and {} as server and {} as client were seen through {through} ({})",
        document["server_exchanges"],
        document["client_exchanges"],
        document["backend"].as_str().unwrap_or("-")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_is_a_whole_one() {
        exchange().unwrap();
    }

    #[test]
    fn both_sides_have_to_be_seen() {
        let works = |events| outcome("agent", &json!("fexit"), events)["works"] == true;
        assert!(works([1, 1]) && !works([1, 0]) && !works([0, 1]));
        let text = render(&outcome("agent", &json!("fexit"), [2, 1]));
        assert!(
            text.contains("works: ") && text.contains("(fexit)"),
            "{text}"
        );
    }
}
