//! The agent's ledger as `kerntally ledger -o json` prints it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the agent saw and what became of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ledger {
    /// Per role (`server`, `client`).
    pub roles: BTreeMap<String, Account>,
    /// What cannot be counted in exchanges.
    #[serde(default)]
    pub blind: BTreeMap<String, u64>,
}

/// One role's side of the ledger.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Account {
    /// Exchanges seen.
    pub seen: u64,
    /// Of these, without an outcome yet.
    pub open: u64,
    /// Outcomes with their counts.
    pub outcomes: BTreeMap<String, u64>,
}

impl Ledger {
    /// Each role for which seen is not the sum of outcomes and open.
    pub fn imbalances(&self) -> Vec<String> {
        self.roles
            .iter()
            .filter_map(|(role, account)| {
                let outcomes: u64 = account.outcomes.values().sum();
                (account.seen != outcomes + account.open).then(|| {
                    format!(
                        "ledger of role {role} does not close: {} seen, {outcomes} with an outcome, {} open",
                        account.seen, account.open
                    )
                })
            })
            .collect()
    }

    /// Exchanges of both roles with an outcome.
    pub fn outcome(&self, name: &str) -> u64 {
        self.roles
            .values()
            .filter_map(|account| account.outcomes.get(name))
            .sum()
    }

    /// Exchanges of one role with an outcome.
    pub fn outcome_of(&self, role: &str, name: &str) -> u64 {
        self.roles
            .get(role)
            .and_then(|account| account.outcomes.get(name))
            .copied()
            .unwrap_or(0)
    }

    /// Exchanges of one role that stand in a series, with all their detail or less.
    pub fn counted_of(&self, role: &str) -> u64 {
        let counted = ["tallied", "tallied_degraded", "tallied_without_service"];
        counted
            .into_iter()
            .map(|name| self.outcome_of(role, name))
            .sum()
    }

    /// What keeps this from saying: this many exchanges took place on both sides, and all of them are counted.
    pub fn differences_from(&self, sent: u64) -> Vec<String> {
        let mut differences = self.imbalances();
        for (role, account) in &self.roles {
            let counted = self.counted_of(role);
            if counted != sent || account.open != 0 {
                differences.push(format!(
                    "{role}: {sent} sent, {counted} counted, {} open, outcomes {:?}",
                    account.open, account.outcomes
                ));
            }
        }
        differences
    }

    /// Exchanges without an outcome yet.
    pub fn open(&self) -> u64 {
        self.roles.values().map(|account| account.open).sum()
    }

    /// Exchanges of both roles.
    pub fn seen(&self) -> u64 {
        self.roles.values().map(|account| account.seen).sum()
    }

    /// What could not be counted in exchanges, for any reason.
    pub fn blind_total(&self) -> u64 {
        self.blind.values().sum()
    }

    /// The same with its outcomes and blind reasons less those of an earlier answer.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        for (role, account) in &mut later.roles {
            for (outcome, count) in &mut account.outcomes {
                *count = count.saturating_sub(earlier.outcome_of(role, outcome));
            }
        }
        for (reason, count) in &mut later.blind {
            *count = count.saturating_sub(earlier.blind.get(reason).copied().unwrap_or(0));
        }
        later
    }

    /// Outcomes and blind reasons that grew since an earlier answer, as text.
    pub fn growth_since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let later = self.since(earlier);
        let outcomes = later.roles.iter().flat_map(|(role, account)| {
            let named =
                move |(outcome, count): (&String, &u64)| (format!("{role} {outcome}"), *count);
            account.outcomes.iter().map(named)
        });
        let blind = later.blind.iter();
        outcomes
            .chain(blind.map(|(reason, count)| (format!("blind {reason}"), *count)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_role_that_does_not_close() {
        let ledger: Ledger = serde_json::from_str(
            r#"{"schema":"kerntally/v1","roles":{"server":{"seen":5,"open":1,"outcomes":{"tallied":4}},
               "client":{"seen":5,"open":1,"outcomes":{"tallied":3}}},"blind":{"not_http":2}}"#,
        )
        .unwrap();
        let imbalances = ledger.imbalances();
        assert_eq!(imbalances.len(), 1);
        assert!(imbalances[0].contains("client"));
        assert_eq!(ledger.outcome("tallied"), 7);
        assert_eq!(ledger.blind_total(), 2);
    }
}
