//! Holds what was played against the export and the ledger.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cases::{Case, Ledgers, When};
use super::driver::{Judge, Outcome, RunOptions};
use super::running::{Played, Running};
use super::stream::Transport;
use crate::agent::Agent;
use crate::export::Series;
use crate::ledger::Ledger;
use crate::truth::{Role, Tally};

pub(super) fn judge_together(
    options: &RunOptions,
    agent: &Agent,
    before: &Ledger,
    played: Vec<(String, Result<Played>)>,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let (done, broken): (Vec<_>, Vec<_>) = played.into_iter().partition(|(_, one)| one.is_ok());
    for (name, error) in broken {
        if let Err(error) = error {
            judge(&name, &Outcome::Failed(format!("{error:#}")));
        }
    }
    let done: Vec<Played> = done.into_iter().filter_map(|(_, one)| one.ok()).collect();
    let series = settled(options, agent, |series| {
        done.iter()
            .all(|one| one.count_differences(series).is_empty())
    })?;
    let mut all_counted = true;
    let mut truth = Tally::default();
    for one in &done {
        for tally in one.sides.values() {
            truth.absorb(tally);
        }
        let outcome = judge_one(options, agent, one, &series)
            .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        all_counted &=
            matches!(outcome, Outcome::Passed) && one.case.ledgers == Ledgers::AllTallied;
        judge(&one.name(), &outcome);
    }
    if options.filters.is_empty() || all_counted {
        judge(
            "ledger",
            &ledger_of_all(&agent.ledger()?, before, &truth, all_counted),
        );
    }
    Ok(())
}

/// The export once it shows what is waited for, or when it had time enough; looked at again a little later, so
/// that what is counted twice is seen.
fn settled(
    options: &RunOptions,
    agent: &Agent,
    complete: impl Fn(&[Series]) -> bool,
) -> Result<Vec<Series>> {
    let deadline = Instant::now() + options.settle;
    while Instant::now() < deadline && !complete(&agent.series()?) {
        sleep(Duration::from_millis(200));
    }
    sleep(Duration::from_millis(2200));
    agent.series()
}

fn judge_one(
    options: &RunOptions,
    agent: &Agent,
    one: &Played,
    series: &[Series],
) -> Result<Outcome> {
    let differences = one.count_differences(series);
    if !differences.is_empty() {
        let reason = differences.join("; ");
        let blind = one
            .case
            .blind
            .filter(|_| differences.iter().all(|what| what.contains(" 0 exported")));
        return Ok(blind.map_or(Outcome::Failed(reason), |blind| {
            Outcome::Blind(blind.to_owned())
        }));
    }
    let unexpected = one.compare(series, |_, found| {
        found
            .iter()
            .flat_map(|series| series.unexpected.clone())
            .collect()
    });
    if !unexpected.is_empty() {
        return Ok(Outcome::Failed(format!(
            "attributes nobody promised: {}",
            unexpected.join(", ")
        )));
    }
    judge_durations(options, agent, one, series)
}

/// A busy machine can take the processor from a peer between the kernel's stamp and its own: a case whose
/// durations are off is played again, twice at most, and must keep the tolerance once.
fn judge_durations(
    options: &RunOptions,
    agent: &Agent,
    one: &Played,
    series: &[Series],
) -> Result<Outcome> {
    let off = |one: &Played, series: &[Series]| {
        one.compare(series, |truth, found| {
            truth.duration_differences(found, options.tolerance)
        })
    };
    let mut differences = off(one, series);
    if !one.case.durations || differences.is_empty() {
        return Ok(Outcome::Passed);
    }
    if one.case.when != When::BeforeTheAgent {
        for attempt in 1..=2 {
            let again = Running::start(options, one.case, one.transport, attempt)?.finish()?;
            let series = settled(options, agent, |s| again.count_differences(s).is_empty())?;
            let counts = again.count_differences(&series);
            if !counts.is_empty() {
                return Ok(Outcome::Failed(format!(
                    "played again: {}",
                    counts.join("; ")
                )));
            }
            differences = off(&again, &series);
            if differences.is_empty() {
                return Ok(Outcome::Passed);
            }
        }
    }
    Ok(Outcome::Failed(format!(
        "durations: {}",
        differences.join("; ")
    )))
}

fn ledger_of_all(ledger: &Ledger, before: &Ledger, truth: &Tally, all_counted: bool) -> Outcome {
    let mut wrong = ledger.imbalances();
    for (role, name) in [(Role::Server, "server"), (Role::Client, "client")] {
        let tallied = ["tallied", "tallied_degraded"]
            .iter()
            .map(|outcome| ledger.outcome_of(name, outcome) - before.outcome_of(name, outcome))
            .sum::<u64>();
        // Cases played again for their durations are in the ledger and not in the truth.
        if all_counted && tallied < truth.of_role(role) {
            wrong.push(format!(
                "{name}: {} exchanges, {tallied} tallied",
                truth.of_role(role)
            ));
        }
    }
    let strange: Vec<_> = ledger
        .growth_since(before)
        .into_iter()
        .filter(|(what, _)| !what.ends_with(" tallied") && !what.starts_with("blind "))
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    if all_counted && !strange.is_empty() {
        wrong.push(format!(
            "outcomes nothing here should have: {}",
            strange.join(", ")
        ));
    }
    if wrong.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(wrong.join("; "))
    }
}

pub(super) fn judge_alone(
    options: &RunOptions,
    agent: &Agent,
    case: &'static Case,
    transport: Transport,
) -> Result<Outcome> {
    let before = agent.ledger()?;
    let one = Running::start(options, case, transport, 0)?.finish()?;
    let series = settled(options, agent, |series| {
        one.count_differences(series).is_empty()
    })?;
    let outcome = judge_one(options, agent, &one, &series)?;
    let ledger = agent.ledger()?;
    if let Some(imbalance) = ledger.imbalances().first() {
        return Ok(Outcome::Failed(imbalance.clone()));
    }
    let grown = ledger.growth_since(&before);
    match (outcome, case.ledgers) {
        (Outcome::Passed, Ledgers::Names(reasons))
            if !grown
                .keys()
                .any(|what| reasons.iter().any(|reason| what.ends_with(reason))) =>
        {
            Ok(Outcome::Failed(format!(
                "the ledger names none of {reasons:?}; it grew by {grown:?}"
            )))
        }
        (outcome, _) => Ok(outcome),
    }
}
