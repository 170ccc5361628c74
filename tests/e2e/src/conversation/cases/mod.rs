//! The cases: what is played, by whom, and what the agent must make of it.

mod endings;
mod foreign;
mod framing;
mod handover;
mod informational;
mod joined;
mod load;
mod pieces;
mod pipelining;
mod syscalls;
mod timing;

use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};

pub(super) use load::SECRETS;

use super::Scale;
use super::peer::Peer;
use super::plan::Plan;
use super::stream::Transport;

/// Who acts.
#[derive(Debug)]
pub(super) enum Act {
    /// A server and a client follow the same script.
    Plan(fn(&Scale) -> Plan),
    /// Each process has its own part; the first two can tell each other to go on.
    Peers(Vec<(&'static str, Part)>),
}

/// What one process does.
pub(super) type Part = fn(&mut Peer) -> Result<()>;

/// When a case is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Together with the others.
    Beside,
    /// By itself, with the ledger read before and after.
    Alone,
    /// It begins before the agent starts.
    BeforeTheAgent,
    /// Only as a part of a check.
    ByCheck,
}

/// What the ledger must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ledgers {
    /// Every exchange tallied.
    AllTallied,
    /// At least one of these grew.
    Names(&'static [&'static str]),
    /// Nothing beyond closing.
    Closes,
}

/// One case.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own"
)]
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) transports: &'static [Transport],
    pub(super) act: Act,
    pub(super) when: When,
    pub(super) ledgers: Ledgers,
    /// It mostly waits, so it is played beside all others.
    pub(super) slow: bool,
    /// The two sides do not see the same.
    pub(super) asymmetric: bool,
    /// The end is a close, which not every back end sees at once on Unix sockets.
    pub(super) ended_by_close: bool,
    /// The Host header lies beyond what is kept of a head: the peer's address stands in.
    pub(super) host_cut_off: bool,
    /// Sides that end by a signal.
    pub(super) dies: &'static [&'static str],
    /// A named blind spot: what is not exported here is not seen by design.
    pub(super) blind: Option<&'static str>,
    /// The back ends that do not see a server's first request here, and why.
    pub(super) first_unseen_on: Option<(&'static [&'static str], &'static str)>,
}

impl Case {
    fn new(name: &'static str, act: Act) -> Self {
        Self {
            name,
            transports: Transport::ALL,
            act,
            when: When::Beside,
            ledgers: Ledgers::AllTallied,
            slow: false,
            asymmetric: false,
            ended_by_close: false,
            host_cut_off: false,
            dies: &[],
            blind: None,
            first_unseen_on: None,
        }
    }

    fn plan(name: &'static str, plan: fn(&Scale) -> Plan) -> Self {
        Self::new(name, Act::Plan(plan))
    }

    fn peers(name: &'static str, server: Part, client: Part) -> Self {
        Self::new(
            name,
            Act::Peers(vec![("server", server), ("client", client)]),
        )
    }

    fn with(mut self, side: &'static str, part: Part) -> Self {
        if let Act::Peers(peers) = &mut self.act {
            peers.push((side, part));
        }
        self
    }

    fn on(mut self, transports: &'static [Transport]) -> Self {
        self.transports = transports;
        self
    }

    fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    fn ledger(mut self, ledgers: Ledgers) -> Self {
        self.when = When::Alone;
        self.ledgers = ledgers;
        self
    }

    fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    fn asymmetric(mut self) -> Self {
        self.asymmetric = true;
        self
    }

    fn ended_by_close(mut self) -> Self {
        self.ended_by_close = true;
        self
    }

    fn host_cut_off(mut self) -> Self {
        self.host_cut_off = true;
        self
    }

    fn dies(mut self, sides: &'static [&'static str]) -> Self {
        self.dies = sides;
        self
    }

    fn blind(mut self, reason: &'static str) -> Self {
        self.blind = Some(reason);
        self
    }

    fn first_unseen_on(mut self, backends: &'static [&'static str], reason: &'static str) -> Self {
        self.first_unseen_on = Some((backends, reason));
        self
    }

    /// Plays one side.
    pub(super) fn play(&self, peer: &mut Peer) -> Result<()> {
        match &self.act {
            Act::Plan(plan) => match peer.side.as_str() {
                "server" => plan(&peer.scale).play_server(peer),
                "client" => plan(&peer.scale).play_client(peer),
                side => bail!("a script has no side {side}"),
            },
            Act::Peers(peers) => {
                let part = peers.iter().find(|(side, _)| *side == peer.side);
                part.with_context(|| format!("no side {} here", peer.side))?
                    .1(peer)
            }
        }
    }
}

/// All cases, in the order in which they are played.
static EVERY: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let groups = [
        pieces::cases(),
        pipelining::cases(),
        framing::cases(),
        informational::cases(),
        timing::cases(),
        endings::cases(),
        syscalls::cases(),
        handover::cases(),
        joined::cases(),
        foreign::cases(),
        load::cases(),
    ];
    groups.into_iter().flatten().collect()
});

/// Those that stand for themselves.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    EVERY.iter().filter(|case| case.when != When::ByCheck)
}

pub(super) fn find(name: &str) -> Option<&'static Case> {
    EVERY.iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_service_name() {
        let mut names = HashSet::new();
        for case in EVERY.iter() {
            assert!(names.insert(case.name), "{} stands twice", case.name);
            assert!(
                case.name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
        }
    }
}
