//! The ledger: every exchange the hooks have seen, with what became of it.
//!
//! `open` is what was seen less what has an outcome. It can never come out negative: the outcomes the
//! agent knows are taken first, the kernel's counters after them (its outcomes before what it has seen), and
//! each exchange is counted as seen before it can have an outcome.

use std::collections::BTreeMap;

use kerntally_abi::Counter;
use kerntally_model::Role;
use kerntally_pipeline::{Ledger as PipelineLedger, Outcome, ROLES};
use serde_json::{Value, json};

/// A source of the kernel's counters.
pub(crate) trait Counters {
    /// Total of one counter.
    fn total(&self, counter: Counter) -> u64;
}

impl Counters for kerntally_probes::CounterValues {
    fn total(&self, counter: Counter) -> u64 {
        self.value(counter)
    }
}

/// Exchanges of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) seen: u64,
    pub(crate) open: u64,
    /// The kernel's own count of open exchanges; `None` if it could not be asked.
    pub(crate) open_kernel: Option<u64>,
    /// Every outcome, zeros included, in the order of their ids.
    pub(crate) outcomes: Vec<(&'static str, u64)>,
}

/// Both roles, and what cannot be counted in exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// In the order of [`ROLES`].
    pub(crate) roles: [Account; 2],
    pub(crate) blind: BTreeMap<&'static str, u64>,
}

/// What an answer is made of, in the order in which it has to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a, C> {
    /// Outcomes that stages 3 to 6 wrote: taken first.
    pub(crate) pipeline: &'a PipelineLedger,
    /// The kernel's counters.
    pub(crate) kernel: &'a C,
    /// The kernel's open exchanges.
    pub(crate) open_kernel: Option<(u64, u64)>,
    /// Once the agent stops: `probe_was_off` of both roles before its last detaching.
    pub(crate) off_before_stop: Option<[u64; 2]>,
}

/// Kernel counters that are outcomes of one role.
const SERVER: [(Counter, Outcome); 8] = [
    (Counter::RingFullServer, Outcome::RingFull),
    (Counter::BufferUnreadableServer, Outcome::BufferUnreadable),
    (Counter::UnseparatedServer, Outcome::PipelinedUnseparated),
    (Counter::JoinedServer, Outcome::JoinedMidstream),
    (Counter::TableFullServer, Outcome::TableFull),
    (Counter::HeadTooLongServer, Outcome::HeadTooLong),
    (Counter::ExcludedServer, Outcome::Excluded),
    (Counter::ProbeOffServer, Outcome::ProbeWasOff),
];

const CLIENT: [(Counter, Outcome); 8] = [
    (Counter::RingFullClient, Outcome::RingFull),
    (Counter::BufferUnreadableClient, Outcome::BufferUnreadable),
    (Counter::UnseparatedClient, Outcome::PipelinedUnseparated),
    (Counter::JoinedClient, Outcome::JoinedMidstream),
    (Counter::TableFullClient, Outcome::TableFull),
    (Counter::HeadTooLongClient, Outcome::HeadTooLong),
    (Counter::ExcludedClient, Outcome::Excluded),
    (Counter::ProbeOffClient, Outcome::ProbeWasOff),
];

/// Counters that stand for something other than exchanges. `HeadNotKept` is not among them: those exchanges
/// are `tallied_degraded`.
const BLIND: [Counter; 17] = [
    Counter::BufferUnreadable,
    Counter::NotHttp,
    Counter::ProtocolNotBuilt,
    Counter::ExcludedSockets,
    Counter::UnseenBytes,
    Counter::Desynchronised,
    Counter::UnsolicitedResponse,
    Counter::ProcessRecordLost,
    Counter::KernelReadFailed,
    Counter::Upgraded,
    Counter::StepBudget,
    Counter::SegmentsCut,
    Counter::MessagesCut,
    Counter::CompatCalls,
    Counter::MissedReturns,
    Counter::CallsNotKept,
    Counter::SkippedRuns,
];

impl Accounts {
    /// Draws the balance.
    pub(crate) fn of<C: Counters>(sources: &Sources<'_, C>) -> Self {
        let blind = BLIND
            .iter()
            .map(|counter| (counter.name(), sources.kernel.total(*counter)))
            .collect();
        Self {
            roles: ROLES.map(|role| account(sources, role)),
            blind,
        }
    }

    /// The document that `kerntally ledger -o json` prints.
    pub(crate) fn to_json(&self) -> Value {
        let roles: serde_json::Map<_, _> = ROLES
            .iter()
            .zip(&self.roles)
            .map(|(role, account)| (role_name(*role).to_owned(), account.to_json()))
            .collect();
        json!({ "roles": roles, "blind": self.blind })
    }
}

impl Account {
    /// Exchanges that were seen and not tallied for want of room.
    pub(crate) fn lost(&self) -> u64 {
        let lost = [Outcome::RingFull.name(), Outcome::TableFull.name()];
        let of_want = self.outcomes.iter().filter(|(name, _)| lost.contains(name));
        of_want.map(|(_, count)| *count).sum()
    }

    fn to_json(&self) -> Value {
        let outcomes: serde_json::Map<_, _> = self
            .outcomes
            .iter()
            .map(|(name, count)| ((*name).to_owned(), (*count).into()))
            .collect();
        json!({
            "seen": self.seen,
            "open": self.open,
            "open_kernel": self.open_kernel,
            "outcomes": outcomes,
        })
    }
}

/// `server` or `client`.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
    }
}

fn account<C: Counters>(sources: &Sources<'_, C>, role: Role) -> Account {
    let (of_kernel, seen, open_kernel, row) = match role {
        Role::Server => (
            SERVER,
            Counter::SeenServer,
            sources.open_kernel.map(|open| open.0),
            0,
        ),
        Role::Client => (
            CLIENT,
            Counter::SeenClient,
            sources.open_kernel.map(|open| open.1),
            1,
        ),
    };
    let mut ledger = sources.pipeline.clone();
    for (counter, outcome) in of_kernel {
        ledger.add(role, outcome, sources.kernel.total(counter));
    }
    let mut outcomes: Vec<(Outcome, u64)> = ledger.outcomes(role).collect();
    if let Some(before) = sources.off_before_stop {
        split_in_flight(&mut outcomes, before[row]);
    }
    let seen = sources.kernel.total(seen);
    let accounted: u64 = outcomes.iter().map(|(_, count)| *count).sum();
    Account {
        seen,
        open: seen.saturating_sub(accounted),
        open_kernel,
        outcomes: outcomes
            .into_iter()
            .map(|(outcome, count)| (outcome.name(), count))
            .collect(),
    }
}

/// The last detaching is the agent's own stop: what it found open was in flight, nobody switched a probe.
fn split_in_flight(outcomes: &mut [(Outcome, u64)], off_before: u64) {
    let mut moved = 0;
    for (outcome, count) in outcomes.iter_mut() {
        if *outcome == Outcome::ProbeWasOff {
            moved = count.saturating_sub(off_before);
            *count -= moved;
        }
    }
    for (outcome, count) in outcomes.iter_mut() {
        if *outcome == Outcome::InFlightAtStop {
            *count += moved;
        }
    }
}

/// The account for people.
pub(crate) fn render(document: &Value) -> String {
    let mut lines = Vec::new();
    for role in ["server", "client"] {
        let account = &document["roles"][role];
        lines.push(row(role, &account["seen"]) + " seen");
        lines.extend(nonzero(&account["outcomes"]));
        lines.push(row("  open", &account["open"]));
        lines.push(row("  open in the kernel", &account["open_kernel"]));
    }
    let blind = nonzero(&document["blind"]);
    if !blind.is_empty() {
        lines.push("not countable in exchanges".to_owned());
        lines.extend(blind);
    }
    lines.join("\n")
}

fn nonzero(counts: &Value) -> Vec<String> {
    let counts = counts.as_object().into_iter().flatten();
    counts
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| row(&format!("  {name}"), count))
        .collect()
}

fn row(name: &str, count: &Value) -> String {
    let count = count
        .as_u64()
        .map_or_else(|| "-".to_owned(), |count| count.to_string());
    format!("{name:<30} {count:>14}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Default)]
    struct Fixed(HashMap<u32, u64>);

    impl Fixed {
        fn with(counts: &[(Counter, u64)]) -> Self {
            Self(
                counts
                    .iter()
                    .map(|(counter, count)| (*counter as u32, *count))
                    .collect(),
            )
        }
    }

    impl Counters for Fixed {
        fn total(&self, counter: Counter) -> u64 {
            self.0.get(&(counter as u32)).copied().unwrap_or(0)
        }
    }

    fn sources<'a>(pipeline: &'a PipelineLedger, kernel: &'a Fixed) -> Sources<'a, Fixed> {
        Sources {
            pipeline,
            kernel,
            open_kernel: Some((1, 0)),
            off_before_stop: None,
        }
    }

    fn outcome(account: &Account, name: &str) -> u64 {
        account
            .outcomes
            .iter()
            .find(|(outcome, _)| *outcome == name)
            .unwrap()
            .1
    }

    fn closes(account: &Account) -> bool {
        account.seen == account.open + account.outcomes.iter().map(|(_, count)| count).sum::<u64>()
    }

    #[test]
    fn seen_is_outcomes_and_open() {
        let mut pipeline = PipelineLedger::default();
        pipeline.add(Role::Server, Outcome::Tallied, 90);
        pipeline.add(Role::Server, Outcome::Excluded, 2);
        pipeline.add(Role::Client, Outcome::Tallied, 5);
        let counts = Fixed::with(&[
            (Counter::SeenServer, 100),
            (Counter::SeenClient, 5),
            (Counter::RingFullServer, 3),
            (Counter::ExcludedServer, 1),
            (Counter::NotHttp, 7),
        ]);
        let accounts = Accounts::of(&sources(&pipeline, &counts));
        let [server, client] = &accounts.roles;
        assert_eq!(
            (server.seen, server.open, server.open_kernel),
            (100, 4, Some(1))
        );
        assert_eq!(outcome(server, "ring_full"), 3);
        assert_eq!(outcome(server, "excluded"), 3);
        assert_eq!((client.seen, client.open), (5, 0));
        assert!(closes(server) && closes(client));
        assert_eq!(accounts.blind["not_http"], 7);
    }

    #[test]
    fn what_the_stop_cut_off_was_in_flight() {
        let pipeline = PipelineLedger::default();
        let counts = Fixed::with(&[(Counter::SeenServer, 9), (Counter::ProbeOffServer, 9)]);
        let mut sources = sources(&pipeline, &counts);
        sources.off_before_stop = Some([4, 0]);
        let server = &Accounts::of(&sources).roles[0];
        assert_eq!(outcome(server, "probe_was_off"), 4);
        assert_eq!(outcome(server, "in_flight_at_stop"), 5);
        assert!(closes(server));
    }

    #[test]
    fn every_kernel_counter_has_a_place() {
        for counter in kerntally_abi::COUNTERS {
            let of_role = SERVER
                .iter()
                .chain(&CLIENT)
                .any(|(known, _)| known == counter);
            let elsewhere = matches!(
                counter,
                Counter::SeenServer
                    | Counter::SeenClient
                    | Counter::EmittedServer
                    | Counter::EmittedClient
                    | Counter::HeadNotKept
                    // Stage 6 counts them when it folds them in.
                    | Counter::FallbackServer
                    | Counter::FallbackClient
                    // Nothing is missing: such responses are paired all the same.
                    | Counter::HeldResponses
            );
            assert!(
                of_role || elsewhere || BLIND.contains(counter),
                "{}",
                counter.name()
            );
        }
    }
}
