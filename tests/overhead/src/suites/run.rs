//! One run of load against one server, with or without an agent.

use anyhow::Result;

use super::{Extent, MIB, Watcher, real};
use crate::clock::nanos_of;
use crate::load::{Plan, Report, Session};
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
    /// Of everybody else, and taken away from the machine.
    others: u64,
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

    /// Requests for a second of the server's and the agent's processor time: what each of them costs, whoever else had
    /// the processors meanwhile.
    pub(crate) fn for_processor_second(&self) -> f64 {
        1e6 / self.micros(self.server + self.agent)
    }

    /// Share of the machine that was taken by others than server, load and agent.
    pub(crate) fn others(&self) -> f64 {
        real(self.others) / real(self.report.elapsed) / real(system::cores() as u64)
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

/// Has a slice of a load measured. The plan's clocks are the server's processes and, where there is one, the agent's.
pub(crate) fn slice(server: &Running, session: &mut Session) -> Result<Run> {
    let mut snapshot = || Ok((nanos_of(std::process::id())?, Busy::now()?));
    let (report, (own_before, before), (own_after, after)) = session.slice(&mut snapshot)?;
    let sum = |clocks: &[u64]| clocks.iter().sum::<u64>();
    let (of_server, of_agent) = report.clocks.split_at(server.pids.len());
    let (of_server, of_agent) = (sum(of_server), sum(of_agent));
    let whole = after.since(&before);
    let known = of_server + of_agent + (own_after - own_before) + report.processor;
    let taken = whole + after.stolen_since(&before);
    Ok(Run {
        others: taken.saturating_sub(known),
        report,
        server: of_server,
        agent: of_agent,
        whole,
        server_core: after.core_since(SERVER_CORE, &before),
        load_core: after.core_since(LOAD_CORE, &before),
    })
}

/// Plays a plan against a server.
pub(crate) fn run(server: &Running, plan: &Plan) -> Result<Run> {
    let mut session = Session::start(plan, LOAD_CORE)?;
    let run = slice(server, &mut session)?;
    let report = session.end(run.report)?;
    Ok(Run { report, ..run })
}

/// The same with an agent that is started for it and sees the whole load.
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
    let run = run(server, &plan.clone().with_clock(agent.pid()))?;
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
