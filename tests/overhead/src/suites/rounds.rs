//! Rounds of slices with the agent's hooks off, off and on, cut from one load that runs all the time: what else goes on on
//! a machine changes within seconds, and is the same in the whole of a round that takes one. Off is an agent all of whose
//! probes are disabled: it rests, and no link of its is left.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::run::{LOAD_CORE, Run, SERVER_CORE, Watched, slice};
use super::{Extent, Watcher};
use crate::load::{Plan, Session};
use crate::subject::Running;
use crate::system;

/// Share of the machine that others may take during a slice. The kernel counts by its tick, so less is not told from
/// none in a short slice.
const QUIET: f64 = 0.05;

/// How many times as many rounds as are wanted are played to find enough quiet ones.
const TRIES: usize = 2;

/// After a switch nothing is measured for so long.
const SETTLE: Duration = Duration::from_millis(100);

/// Within that time of a switch there is no link left.
const OFF_WITHIN: Duration = Duration::from_secs(2);

/// Two slices without hooks and one with them, the middle one next to it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) other: Run,
    pub(crate) off: Run,
    pub(crate) on: Run,
}

/// Rounds, and what to know of them.
#[derive(Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: Vec<Round>,
    pub(crate) note: Option<String>,
}

impl Round {
    /// The most that others took of any of its slices.
    fn others(&self) -> f64 {
        let slices = [&self.other, &self.off, &self.on];
        slices.map(Run::others).into_iter().fold(0.0, f64::max)
    }
}

/// A load, and the agent beside it.
struct Stand<'server> {
    server: &'server Running,
    watcher: Watcher,
    session: Session,
    is_on: bool,
    /// Answers in slices with hooks.
    seen: u64,
}

impl<'server> Stand<'server> {
    fn start(
        extent: &Extent,
        server: &'server Running,
        plan: &Plan,
        whom: Watched,
    ) -> Result<Self> {
        let include = whom.include(server);
        let watcher = Watcher::start(extent, &[include], None)?;
        let plan = plan.clone().with_clock(watcher.agent.pid());
        Ok(Self {
            server,
            session: Session::start(&plan, LOAD_CORE)?,
            watcher,
            is_on: true,
            seen: 0,
        })
    }

    fn slice(&mut self, on: bool) -> Result<Run> {
        self.switch(on)?;
        let run = slice(self.server, &mut self.session)?;
        self.seen += run.report.requests * u64::from(on);
        Ok(run)
    }

    fn switch(&mut self, on: bool) -> Result<()> {
        if self.is_on == on {
            return Ok(());
        }
        let agent = &self.watcher.agent;
        let order = if on { "enable" } else { "disable" };
        agent.probes(&[order, "--all"])?;
        if !on {
            agent.wait_unlinked(OFF_WITHIN)?;
        }
        self.is_on = on;
        sleep(SETTLE);
        Ok(())
    }

    /// Each the other way round than the one before, so that a switch comes once a round.
    fn round(&mut self, number: usize) -> Result<Round> {
        if number.is_multiple_of(2) {
            let (other, off) = (self.slice(false)?, self.slice(false)?);
            let on = self.slice(true)?;
            Ok(Round { other, off, on })
        } else {
            let on = self.slice(true)?;
            let (off, other) = (self.slice(false)?, self.slice(false)?);
            Ok(Round { other, off, on })
        }
    }

    /// Slices with hooks were really counted.
    fn check(&self) -> Result<()> {
        let counted = self.watcher.agent.ledger()?.counted_of("server");
        let expected = self.seen * self.server.exchanges.min(2);
        ensure!(
            counted >= expected,
            "the agent counted {counted} of {expected} exchanges"
        );
        Ok(())
    }
}

/// As many rounds as pairs are wanted. Those that others disturbed are played again; where too few are quiet, the least
/// disturbed are taken, whatever they say.
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
    let mut stand = Stand::start(extent, server, plan, watched)?;
    let mut rounds = Vec::new();
    let is_quiet = |round: &Round| round.others() <= QUIET;
    for number in 0..extent.pairs * TRIES {
        let round = stand.round(number)?;
        print_round(number, &round);
        rounds.push(round);
        if rounds.iter().filter(|round| is_quiet(round)).count() == extent.pairs {
            break;
        }
    }
    stand.check()?;
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

fn print_round(number: usize, round: &Round) {
    println!(
        "  {}: {:.0} requests/s off, {:.0} off, {:.0} on; {:.2} us of the server, {:.2}, {:.2}; others took at most {:.1} %",
        number + 1,
        round.other.rate(),
        round.off.rate(),
        round.on.rate(),
        round.other.server_micros(),
        round.off.server_micros(),
        round.on.server_micros(),
        100.0 * round.others(),
    );
}
