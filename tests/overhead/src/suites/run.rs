//! One run of load against one server, with or without an agent, and rounds of them in turn.

use anyhow::{Result, ensure};

use super::{Extent, MIB, Watcher, real};
use crate::clock::nanos_of;
use crate::load::{Plan, Report};
use crate::programs::Held;
use crate::ring;
use crate::subject::Running;
use crate::system::{self, Busy};

/// Cores: the load has one, the server the other; the agent runs where it likes.
pub(crate) const LOAD_CORE: usize = 0;
pub(crate) const SERVER_CORE: usize = 1;

/// Whom the agent watches; what else goes on on the machine is not in any count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Server,
    /// The load generator too.
    Both,
}

/// What one run gave.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) report: Report,
    server: u64,
    agent: u64,
    whole: u64,
    server_core: u64,
    load_core: u64,
}

/// What an agent cost beside a run.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) resident_mib: f64,
    pub(crate) maps_mib: f64,
    /// The most the ring held, as a share.
    pub(crate) ring: f64,
    /// Exchanges of the server's side that were not counted, or counted without detail.
    pub(crate) lost: u64,
    pub(crate) degraded: u64,
}

/// Two runs without an agent and one with it, the middle one next to it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) other: Run,
    pub(crate) off: Run,
    pub(crate) on: Run,
    pub(crate) cost: Cost,
}

impl Watched {
    /// The rule for the agent.
    pub(crate) fn include(self, server: &Running) -> String {
        let mut items: Vec<String> = server
            .pids
            .iter()
            .map(|pid| format!("{{pid: {pid}}}"))
            .collect();
        if self == Self::Both {
            items.push("{exe: \"*/kerntally-overhead\"}".to_owned());
        }
        format!("discovery.include=[{}]", items.join(", "))
    }
}

impl Run {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        real(self.report.requests) * 1e9 / real(self.report.elapsed)
    }

    fn micros(&self, nanos: u64) -> f64 {
        real(nanos) / 1e3 / real(self.report.requests)
    }

    /// Processor time for a request: of the server, of the agent, of the whole machine.
    pub(crate) fn server_micros(&self) -> f64 {
        self.micros(self.server)
    }

    pub(crate) fn agent_micros(&self) -> f64 {
        self.micros(self.agent)
    }

    pub(crate) fn whole_micros(&self) -> f64 {
        self.micros(self.whole)
    }

    /// Shares of the time that the server's core, the load's core and the load itself were busy.
    pub(crate) fn busy(&self) -> [f64; 3] {
        let share = |nanos| real(nanos) / real(self.report.elapsed);
        [
            share(self.server_core),
            share(self.load_core),
            share(self.report.processor),
        ]
    }
}

/// Clocks at one moment.
struct Clocks {
    server: u64,
    agent: u64,
    busy: Busy,
}

/// Plays a plan against a server.
pub(crate) fn run(server: &Running, plan: &Plan, agent: Option<u32>) -> Result<Run> {
    let clocks = || {
        Ok(Clocks {
            server: system::processor_nanos(&server.pids)?,
            agent: agent.map_or(Ok(0), nanos_of)?,
            busy: Busy::now()?,
        })
    };
    let (report, before, after) = plan.play(LOAD_CORE, clocks)?;
    Ok(Run {
        report,
        server: after.server - before.server,
        agent: after.agent - before.agent,
        whole: after.busy.since(&before.busy),
        server_core: after.busy.core_since(SERVER_CORE, &before.busy),
        load_core: after.busy.core_since(LOAD_CORE, &before.busy),
    })
}

/// The same with an agent that is started for it.
pub(crate) fn run_watched(
    extent: &Extent,
    server: &Running,
    plan: &Plan,
    watched: Watched,
) -> Result<(Run, Cost)> {
    let running = Watcher::start(extent, &[watched.include(server)], None)?;
    let agent = &running.agent;
    let before = agent.ledger()?;
    let ring = ring::Watch::start(agent.pid())?;
    let run = run(server, plan, Some(agent.pid()))?;
    let most = ring.most();
    // A sweep ends what is open within about a second.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let ledger = agent.ledger()?;
    let counted = |role: &str| ledger.counted_of(role) - before.counted_of(role);
    // The load's own side, where it is watched, is beside what the server has.
    let of_load = run.report.sent * u64::from(watched == Watched::Both);
    let expected = run.report.sent * server.exchanges + of_load;
    let degraded = ["tallied_degraded", "tallied_without_service"].map(|name| ledger.outcome(name));
    let cost = Cost {
        resident_mib: real(agent.resident_bytes()?) / MIB,
        maps_mib: real(Held::by(agent.pid())?.map_bytes) / MIB,
        ring: most,
        lost: expected.abs_diff(counted("server") + counted("client")),
        degraded: degraded.iter().sum(),
    };
    Ok((run, cost))
}

/// As many rounds as pairs are wanted, each the other way round than the one before.
pub(crate) fn rounds(
    extent: &Extent,
    server: &Running,
    plan: &Plan,
    watched: Watched,
) -> Result<Vec<Round>> {
    ensure!(
        system::cores() > SERVER_CORE,
        "load and server need a core each"
    );
    let mut rounds = Vec::new();
    for number in 0..extent.pairs {
        let round = if number % 2 == 0 {
            let other = run(server, plan, None)?;
            let off = run(server, plan, None)?;
            let (on, cost) = run_watched(extent, server, plan, watched)?;
            Round {
                other,
                off,
                on,
                cost,
            }
        } else {
            let (on, cost) = run_watched(extent, server, plan, watched)?;
            let off = run(server, plan, None)?;
            let other = run(server, plan, None)?;
            Round {
                other,
                off,
                on,
                cost,
            }
        };
        println!(
            "  {}: {:.0} requests/s off, {:.0} off, {:.0} on",
            number + 1,
            round.other.rate(),
            round.off.rate(),
            round.on.rate()
        );
        rounds.push(round);
    }
    Ok(rounds)
}
