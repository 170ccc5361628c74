//! Load on one thread: as fast as answers come, or at a fixed rate whose latencies count from the time a request was
//! due, so that a server that stalls is not spared the requests that it kept from being sent.

mod connection;
mod drive;
mod session;

use std::net::SocketAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) use drive::drive;
pub(crate) use session::Session;

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Servers, in turn by connection.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Connections in all, each with one request under way at most.
    pub(crate) connections: usize,
    /// Requests a second; none for as fast as answers come.
    pub(crate) rate: Option<f64>,
    /// Milliseconds of load before the first slice that is measured, and of each slice.
    pub(crate) warm_millis: u64,
    pub(crate) millis: u64,
    pub(crate) asked: Asked,
    /// Processes whose processor time is read at both ends of a slice.
    pub(crate) clocks: Vec<u32>,
}

/// Which requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// The same path each time.
    Path(String),
    /// `routes` paths by `statuses` statuses by up to five methods, in turn: as many series.
    Variety { series: u64 },
}

/// What came of a slice; times in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Answers since the load began: in the end, what an agent must have counted.
    pub(crate) sent: u64,
    /// Answers in the slice to requests that were due in it.
    pub(crate) requests: u64,
    /// Requests that were not answered.
    pub(crate) errors: u64,
    pub(crate) elapsed: u64,
    /// Processor time in that time of the generator, and of the plan's processes.
    pub(crate) processor: u64,
    pub(crate) clocks: Vec<u64>,
    pub(crate) median: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) longest: u64,
}

impl Plan {
    /// With the processor time of one process more in its reports.
    pub(crate) fn with_clock(mut self, pid: u32) -> Self {
        self.clocks.push(pid);
        self
    }

    /// Plays one slice in a process of its own on one core. `snapshot` is called when it begins and when it is over, and
    /// its answers come back with the report, whose requests and errors are those of the whole load.
    pub(crate) fn play<T>(
        &self,
        core: usize,
        mut snapshot: impl FnMut() -> Result<T>,
    ) -> Result<(Report, T, T)> {
        let mut session = Session::start(self, core)?;
        let (report, before, after) = session.slice(&mut snapshot)?;
        Ok((session.end(report)?, before, after))
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
