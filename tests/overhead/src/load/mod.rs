//! Load on one thread: as fast as answers come, or at a fixed rate whose latencies count from the time a request was
//! due, so that a server that stalls is not spared the requests that it kept from being sent.

mod connection;
mod drive;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use drive::drive;

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Servers, in turn by connection.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Connections in all, each with one request under way at most.
    pub(crate) connections: usize,
    /// Requests a second; none for as fast as answers come.
    pub(crate) rate: Option<f64>,
    /// Milliseconds of load that is not measured, and that is.
    pub(crate) warm_millis: u64,
    pub(crate) millis: u64,
    pub(crate) asked: Asked,
}

/// Which requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// The same path each time.
    Path(String),
    /// `routes` paths by `statuses` statuses by up to five methods, in turn: as many series.
    Variety { series: u64 },
}

/// What came of it; times in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Answers, warm-up included: what an agent must have counted.
    pub(crate) sent: u64,
    /// Answers in the measured time.
    pub(crate) requests: u64,
    /// Requests that were not answered.
    pub(crate) errors: u64,
    pub(crate) elapsed: u64,
    /// Processor time of the generator in that time.
    pub(crate) processor: u64,
    pub(crate) median: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) longest: u64,
}

impl Plan {
    /// Plays the plan in a process of its own on one core. `begun` is called when the measured part begins, and
    /// its answer comes back with the report, `ended` likewise when it is over.
    pub(crate) fn play<T>(
        &self,
        core: usize,
        mut snapshot: impl FnMut() -> Result<T>,
    ) -> Result<(Report, T, T)> {
        use std::io::{BufRead as _, BufReader};
        let mut child = Command::new(std::env::current_exe()?)
            .args(["load", &serde_json::to_string(self)?, &core.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the load")?;
        let output = child.stdout.take().context("the output is piped")?;
        let mut lines = BufReader::new(output).lines();
        let mut expect = |what: &str| -> Result<()> {
            let line = lines.next().context("the load ended early")??;
            ensure!(line == what, "the load said {line}, not {what}");
            Ok(())
        };
        expect("begun")?;
        let before = snapshot()?;
        expect("ended")?;
        let after = snapshot()?;
        let line = lines.next().context("the load printed no report")??;
        ensure!(child.wait()?.success(), "the load failed");
        let report: Report = serde_json::from_str(&line).context("the load's report")?;
        ensure!(report.requests > 0, "the load got no answer");
        Ok((report, before, after))
    }
}

impl Asked {
    /// The bytes of a request.
    pub(crate) fn write(&self, number: u64, into: &mut Vec<u8>) {
        const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];
        into.clear();
        let (method, target) = match self {
            Self::Path(path) => ("GET", path.clone()),
            Self::Variety { series } => {
                let number = number % series.max(&1);
                let route = letters(number % ROUTES);
                let status = 200 + number / ROUTES % STATUSES;
                let method = number / ROUTES / STATUSES % METHODS.len() as u64;
                let method = METHODS[usize::try_from(method).unwrap_or(0)];
                (method, format!("/{route}?status={status}"))
            }
        };
        into.extend_from_slice(method.as_bytes());
        into.push(b' ');
        into.extend_from_slice(target.as_bytes());
        into.extend_from_slice(
            b" HTTP/1.1\r\nHost: load.test\r\nUser-Agent: overhead/0.1\r\nAccept: */*\r\n",
        );
        if method != "GET" {
            into.extend_from_slice(b"Content-Length: 0\r\n");
        }
        into.extend_from_slice(b"\r\n");
    }
}

/// Different paths and statuses of [`Asked::Variety`].
pub(crate) const ROUTES: u64 = 100;
const STATUSES: u64 = 200;

/// A number in letters, which no heuristic takes for an identifier.
pub(crate) fn letters(number: u64) -> String {
    let letter = |digit: u64| char::from(b'g' + u8::try_from(digit % 20).unwrap_or(0));
    [letter(number / 400), letter(number / 20), letter(number)]
        .iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variety_has_as_many_requests_as_series() {
        let asked = Asked::Variety { series: 100_000 };
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200_000 {
            let mut bytes = Vec::new();
            asked.write(number, &mut bytes);
            seen.insert(bytes);
        }
        assert_eq!(seen.len(), 100_000);
    }
}
