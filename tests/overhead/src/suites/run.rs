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

/// Share of the machine that others may take during a run. The kernel counts by its tick, so less is not told from none
/// in a short run.
const QUIET: f64 = 0.05;

/// How many times as many rounds as are wanted are played to find enough quiet ones.
const TRIES: usize = 2;

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

/// Two runs without an agent and one with it, the middle one next to it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) other: Run,
    pub(crate) off: Run,
    pub(crate) on: Run,
    pub(crate) cost: Cost,
}

/// Rounds, and what to know of them.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Round>,
    pub(crate) note: Option<String>,
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
    fn others(&self) -> f64 {
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

impl Round {
    /// The most that others took of any of its runs.
    fn others(&self) -> f64 {
        let runs = [&self.other, &self.off, &self.on];
        runs.map(Run::others).into_iter().fold(0.0, f64::max)
    }
}

/// Clocks at one moment.
struct Clocks {
    own: u64,
    server: u64,
    agent: u64,
    busy: Busy,
}

/// Plays a plan against a server.
pub(crate) fn run(server: &Running, plan: &Plan, agent: Option<u32>) -> Result<Run> {
    let clocks = || {
        Ok(Clocks {
            own: nanos_of(std::process::id())?,
            server: system::processor_nanos(&server.pids)?,
            agent: agent.map_or(Ok(0), nanos_of)?,
            busy: Busy::now()?,
        })
    };
    let (report, before, after) = plan.play(LOAD_CORE, clocks)?;
    let (server, agent) = (after.server - before.server, after.agent - before.agent);
    let whole = after.busy.since(&before.busy);
    let known = server + agent + (after.own - before.own) + report.processor;
    let taken = whole + after.busy.stolen_since(&before.busy);
    Ok(Run {
        others: taken.saturating_sub(known),
        report,
        server,
        agent,
        whole,
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

/// As many rounds as pairs are wanted, each the other way round than the one before. Those that others disturbed are
/// played again; where too few are quiet, the least disturbed are taken, whatever they say.
pub(crate) fn rounds(
    extent: &Extent,
    server: &Running,
    plan: &Plan,
    watched: Watched,
) -> Result<Rounds> {
    ensure!(
        system::cores() > SERVER_CORE,
        "load and server need a core each"
    );
    let mut rounds = Vec::new();
    let is_quiet = |round: &Round| round.others() <= QUIET;
    for number in 0..extent.pairs * TRIES {
        rounds.push(round(extent, server, plan, watched, number)?);
        if rounds.iter().filter(|round| is_quiet(round)).count() == extent.pairs {
            break;
        }
    }
    let played = rounds.len();
    rounds.sort_by(|left, right| left.others().total_cmp(&right.others()));
    rounds.truncate(extent.pairs);
    let disturbed = rounds.iter().filter(|round| !is_quiet(round)).count();
    let note = (played > rounds.len() || disturbed > 0).then(|| {
        format!(
            "others took more than {:.0} % of the machine in some of {played} rounds: the {} with the least are in the figures, {disturbed} of them disturbed",
            100.0 * QUIET,
            rounds.len(),
        )
    });
    Ok(Rounds { rounds, note })
}

fn round(
    extent: &Extent,
    server: &Running,
    plan: &Plan,
    watched: Watched,
    number: usize,
) -> Result<Round> {
    let round = if number.is_multiple_of(2) {
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
        "  {}: {:.0} requests/s off, {:.0} off, {:.0} on; others took at most {:.1} %",
        number + 1,
        round.other.rate(),
        round.off.rate(),
        round.on.rate(),
        100.0 * round.others(),
    );
    Ok(round)
}
