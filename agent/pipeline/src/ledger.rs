//! The ledger's outcomes: every exchange that was seen ends as exactly one of them.

use kerntally_model::Role;

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $text:literal;)+) => {
        /// What became of one exchange. Ids are append-only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $name = $id,)+
        }

        impl Outcome {
            /// All outcomes, in the order of their ids.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Name in the ledger and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it means, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

outcomes! {
    /// Counted in a series with all its detail.
    Tallied = 0, "tallied";
    /// Counted without route and server address: its head was not kept.
    TalliedDegraded = 1, "tallied_degraded";
    /// Counted under `service.name=_other`: its process is unknown, or no further service had room.
    TalliedWithoutService = 2, "tallied_without_service";
    /// Left out by `routes.ignore`.
    IgnoredRoute = 3, "ignored_route";
    /// Seen before a rule that excludes it applied to its socket.
    Excluded = 4, "excluded";
    /// An unknown method with a request line longer than what is kept.
    HeadTooLong = 5, "head_too_long";
    /// Its bytes could not be read.
    BufferUnreadable = 6, "buffer_unreadable";
    /// It could not be told apart from its neighbours on the connection.
    PipelinedUnseparated = 7, "pipelined_unseparated";
    /// Its request was sent before the agent looked.
    JoinedMidstream = 8, "joined_midstream";
    /// The connection table had no room.
    TableFull = 9, "table_full";
    /// It was open when the probe was switched off.
    ProbeWasOff = 10, "probe_was_off";
    /// It was open when the agent stopped.
    InFlightAtStop = 11, "in_flight_at_stop";
    /// The ring had no room for its record.
    RingFull = 12, "ring_full";
    /// Its record could not be understood.
    RecordInvalid = 13, "record_invalid";
    /// A view drops its instrument.
    DroppedByView = 14, "dropped_by_view";
    /// Its process had ended before what `discovery.include` asks for was known of it.
    Unidentified = 15, "unidentified";
}

/// Number of outcomes.
const OUTCOMES: usize = Outcome::ALL.len();

/// Both roles, in the order of the ledger's rows.
pub const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// Number of exchanges per role and outcome; counts only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    counts: [[u64; OUTCOMES]; ROLES.len()],
}

impl Ledger {
    /// Adds exchanges to an outcome.
    pub fn add(&mut self, role: Role, outcome: Outcome, exchanges: u64) {
        let count = &mut self.counts[row(role)][outcome as usize];
        *count = count.saturating_add(exchanges);
    }

    /// Exchanges of one outcome.
    pub fn count(&self, role: Role, outcome: Outcome) -> u64 {
        self.counts[row(role)][outcome as usize]
    }

    /// Exchanges of all outcomes.
    pub fn total(&self, role: Role) -> u64 {
        self.counts[row(role)].iter().sum()
    }

    /// Every outcome of a role with its count, zeros included.
    pub fn outcomes(&self, role: Role) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL
            .iter()
            .map(move |outcome| (*outcome, self.count(role, *outcome)))
    }
}

/// Position of a role in tables by role.
pub(crate) fn row(role: Role) -> usize {
    match role {
        Role::Server => 0,
        Role::Client => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions() {
        for (position, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, position);
        }
    }

    #[test]
    fn total_is_the_sum_of_the_outcomes() {
        let mut ledger = Ledger::default();
        ledger.add(Role::Server, Outcome::Tallied, 3);
        ledger.add(Role::Server, Outcome::RingFull, 2);
        ledger.add(Role::Client, Outcome::Tallied, 7);
        assert_eq!(ledger.total(Role::Server), 5);
        assert_eq!(
            ledger
                .outcomes(Role::Server)
                .map(|(_, count)| count)
                .sum::<u64>(),
            5
        );
        assert_eq!(ledger.count(Role::Client, Outcome::Tallied), 7);
    }
}
