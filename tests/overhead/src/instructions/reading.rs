//! Reads the guests' lines back and sets them side by side: instructions an exchange, off and on, and the spread
//! of repeated measurements.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::guest::{Arrangement, Line};
use crate::figure::Figure;
use crate::suites::Found;

/// All that was counted, by kernel and back end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) backends: Vec<Backend>,
}

/// One back end on one kernel; all figures are instructions for one exchange.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Backend {
    pub(crate) kernel: String,
    pub(crate) name: String,
    /// Server, client and agent together, without an agent.
    pub(crate) off: f64,
    /// Largest difference between two measurements without an agent, as a share.
    pub(crate) off_spread: f64,
    /// With the server watched.
    pub(crate) on: f64,
    /// Of two measurements with the server watched, as a share.
    pub(crate) on_spread: f64,
    /// Added to everything, to the server's process; taken by the agent itself.
    pub(crate) added: f64,
    pub(crate) added_to_server: f64,
    pub(crate) agent: f64,
    /// Added to everything with both sides watched.
    pub(crate) added_both: Option<f64>,
    pub(crate) programs: Vec<ProgramCount>,
    /// Walked by the verifier at load, by program.
    pub(crate) verified: Vec<(String, u64)>,
    pub(crate) map_bytes: u64,
}

/// What one BPF program did for one exchange.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProgramCount {
    pub(crate) name: String,
    pub(crate) runs: f64,
    /// Of one run, the kernel's bookkeeping around it included.
    pub(crate) instructions: f64,
}

impl Counts {
    /// Reads lines, each the JSON of one measurement.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let lines: Vec<Line> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a count: {line}")))
            .collect::<Result<_>>()?;
        let mut kernels: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in &lines {
            kernels.entry(&line.kernel).or_default().push(line);
        }
        let mut backends = Vec::new();
        for (kernel, lines) in kernels {
            let mut names: Vec<&str> = lines
                .iter()
                .filter_map(|line| line.backend.as_deref())
                .collect();
            names.dedup();
            for name in names {
                backends.push(Backend::of(kernel, name, &lines)?);
            }
        }
        ensure!(
            !backends.is_empty(),
            "no guest counted anything with an agent"
        );
        Ok(Self { backends })
    }

    /// As figures of a suite.
    pub(crate) fn found(&self) -> Found {
        let mut found = Found::default();
        for backend in &self.backends {
            backend.figures(&mut found);
        }
        found.notes.extend(
            [
                "instructions of server, client and agent together, for one exchange; the client is excluded unless said",
                "instructions are no time: caches, branches and translation are not in them",
            ]
            .map(str::to_owned),
        );
        found
    }
}

impl Line {
    /// Of the three processes. The rest of the machine is left out: it has work of its own after a boot.
    fn taken(&self) -> u64 {
        self.server + self.client + self.agent
    }
}

impl Backend {
    fn of(kernel: &str, name: &str, lines: &[&Line]) -> Result<Self> {
        let of = |arrangement, backend: Option<&str>| -> Vec<&Line> {
            let wanted = lines.iter().filter(|line| line.arrangement == arrangement);
            wanted
                .filter(|line| line.backend.as_deref() == backend)
                .copied()
                .collect()
        };
        let off = of(Arrangement::Off, None);
        let on = of(Arrangement::Server, Some(name));
        let both = of(Arrangement::Both, Some(name));
        ensure!(
            !off.is_empty() && !on.is_empty(),
            "{kernel}, {name}: a measurement is missing"
        );
        let all = Line::taken;
        let statistics = of(Arrangement::Statistics, Some(name));
        Ok(Self {
            kernel: kernel.to_owned(),
            name: name.to_owned(),
            off: least(&off, all),
            off_spread: spread(&off),
            on: least(&on, all),
            on_spread: spread(&on),
            added: least(&on, all) - least(&off, all),
            added_to_server: least(&on, |line| line.server) - least(&off, |line| line.server),
            agent: least(&on, |line| line.agent),
            added_both: (!both.is_empty()).then(|| least(&both, all) - least(&off, all)),
            programs: statistics
                .first()
                .map(|line| programs(line))
                .unwrap_or_default(),
            verified: on[0].verified.clone(),
            map_bytes: on[0].map_bytes,
        })
    }

    fn figures(&self, found: &mut Found) {
        const SUITE: &str = "instructions";
        const UNIT: &str = "instructions";
        let name = |what: &str| format!("{}, {}: {what}", self.kernel, self.name);
        let figure = |what: &str, value| Figure::new(SUITE, name(what), UNIT, value);
        let spread = self.off_spread.max(self.on_spread);
        found.figures.extend([
            figure("without an agent", self.off).spread(self.off_spread * self.off),
            figure("added", self.added).spread(spread * self.on),
            figure("of it in the server's process", self.added_to_server),
            figure("of it by the agent", self.agent),
            Figure::new(SUITE, name("on/off"), "ratio", self.on / self.off).spread(spread),
        ]);
        found.figures.extend(
            self.added_both
                .map(|both| figure("with the client watched, added", both)),
        );
        for program in &self.programs {
            let each = format!("{}: one run", program.name);
            found.figures.push(figure(&each, program.instructions));
            let runs = name(&format!("{}: runs", program.name));
            found
                .figures
                .push(Figure::new(SUITE, runs, "per exchange", program.runs));
        }
    }
}

fn programs(line: &Line) -> Vec<ProgramCount> {
    let exchanges = real(line.exchanges);
    let counts = line
        .programs
        .iter()
        .map(|(name, runs, nanos)| ProgramCount {
            name: name.clone(),
            runs: real(*runs) / exchanges,
            instructions: real(*nanos) / real(*runs),
        });
    counts.collect()
}

/// The smallest of the repeats: what an agent does beside its exchanges, once in so many seconds, only adds.
fn least(lines: &[&Line], figure: impl Fn(&Line) -> u64) -> f64 {
    let shares = lines
        .iter()
        .map(|line| real(figure(line)) / real(line.exchanges));
    shares.fold(f64::MAX, f64::min)
}

/// Largest over smallest, less one.
fn spread(lines: &[&Line]) -> f64 {
    let each = lines
        .iter()
        .map(|line| real(line.taken()) / real(line.exchanges));
    let (least, most) = each.fold((f64::MAX, 0.0), |(least, most): (f64, f64), value| {
        (least.min(value), most.max(value))
    });
    most / least - 1.0
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(backend: Option<&str>, arrangement: Arrangement, all: u64) -> String {
        let line = Line {
            kernel: "6.12".to_owned(),
            backend: backend.map(str::to_owned),
            arrangement,
            exchanges: 10,
            elapsed: all,
            server: all / 2,
            client: all / 2,
            agent: 0,
            programs: vec![("hook".to_owned(), 40, 4000)],
            verified: vec![("hook".to_owned(), 7)],
            map_bytes: 1,
        };
        serde_json::to_string(&line).unwrap()
    }

    #[test]
    fn what_is_added_is_on_less_off() {
        let text = [
            line(None, Arrangement::Off, 1000),
            line(None, Arrangement::Off, 1100),
            line(Some("fexit"), Arrangement::Server, 1250),
            line(Some("fexit"), Arrangement::Statistics, 1300),
            line(Some("fexit"), Arrangement::Both, 1450),
        ]
        .join("\n");
        let counts = Counts::parse(&text).unwrap();
        let [fexit] = counts.backends.as_slice() else {
            panic!("{counts:?}");
        };
        assert!((fexit.added - 25.0).abs() < 1e-9 && (fexit.off_spread - 0.1).abs() < 1e-9);
        assert!((fexit.added_both.unwrap() - 45.0).abs() < 1e-9);
        assert!((fexit.programs[0].instructions - 100.0).abs() < 1e-9);
        assert!(counts.found().figures[1].name.contains("fexit"));
    }

    #[test]
    fn a_back_end_without_its_pair_is_an_error() {
        assert!(Counts::parse(&line(Some("fexit"), Arrangement::Server, 1)).is_err());
        assert!(Counts::parse("").is_err());
        assert!(Counts::parse("{").is_err());
    }
}
