//! Holds what was played against the export and the ledger.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cases::{Case, Ledgers, When};
use super::driver::{Judge, Outcome, RunOptions, say};
use super::running::{Played, Running};
use super::stream::Transport;
use crate::agent::Agent;
use crate::export::Series;
use crate::ledger::Ledger;
use crate::truth::{Role, Tally, Tolerance};

/// The back end's own promise, and the agent's way to it.
const UNIX_END_FOUND_WITHIN: Duration = Duration::from_millis(2100);

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
    let series = settled(options, agent, &done)?;
    let mut truth = Tally::default();
    for tally in done.iter().flat_map(|one| one.sides.values()) {
        truth.absorb(tally);
    }
    let mut judged: Vec<(&Played, Outcome)> = done
        .iter()
        .map(|one| (one, judge_one(options, one, &series)))
        .collect();
    let all_counted = judged
        .iter()
        .all(|(_, outcome)| matches!(outcome, Outcome::Passed | Outcome::Late(_)));
    let after = agent.ledger()?;
    let any_failed = judged
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    if any_failed {
        say(&format!("ledger: {:?}", after.growth_since(before)));
    }
    let ledger = ledger_of_all(&after, before, &truth, all_counted);
    play_late_again(options, agent, &mut judged)?;
    for (one, outcome) in judged {
        judge(&one.name(), &outcome);
    }
    if !done.is_empty() {
        judge("ledger", &ledger);
    }
    Ok(())
}

/// A busy machine can take the processor from a peer between the kernel's stamp and its own: a case whose
/// durations are off is played again, twice at most, and must keep the tolerance once.
fn play_late_again(
    options: &RunOptions,
    agent: &Agent,
    judged: &mut [(&Played, Outcome)],
) -> Result<()> {
    for attempt in 1..=2 {
        let mut late: Vec<_> = judged
            .iter_mut()
            .filter(|(one, outcome)| {
                matches!(outcome, Outcome::Late(_)) && one.case.when != When::BeforeTheAgent
            })
            .collect();
        let mut again = Vec::new();
        for (one, _) in &late {
            again.push(Running::start(options, one.case, one.transport, attempt)?.finish()?);
        }
        if again.is_empty() {
            break;
        }
        let series = settled(options, agent, &again)?;
        for ((_, outcome), again) in late.iter_mut().zip(&again) {
            *outcome = judge_one(options, again, &series);
        }
    }
    Ok(())
}

/// The export once it shows what is waited for, or when it had time enough; looked at again a little later, so
/// that what is counted twice is seen.
fn settled(options: &RunOptions, agent: &Agent, played: &[Played]) -> Result<Vec<Series>> {
    if played.iter().all(|one| one.case.blind.is_some()) {
        // What is waited for may never come; what comes does within the sweep and one push.
        sleep(options.settle / 2);
        return agent.series();
    }
    let complete = |series: &[Series]| {
        played
            .iter()
            .all(|one| one.count_differences(series).is_empty())
    };
    let deadline = Instant::now() + options.settle;
    while Instant::now() < deadline && !complete(&agent.series()?) {
        agent.wait_for_push();
    }
    sleep(options.settle / 6);
    agent.series()
}

fn judge_one(options: &RunOptions, one: &Played, series: &[Series]) -> Outcome {
    let differences = one.count_differences(series);
    if !differences.is_empty() {
        let unseen = differences.iter().all(|what| what.contains(" 0 exported"));
        let blind = one.case.blind.filter(|_| unseen);
        return match blind.or_else(|| first_unseen(options, one, series)) {
            Some(blind) => Outcome::Blind(blind.to_owned()),
            None => Outcome::Failed(differences.join("; ")),
        };
    }
    let strange = one.compare(series, |_, found| {
        found
            .iter()
            .filter_map(|series| strange(one.case, series))
            .collect()
    });
    if !strange.is_empty() {
        return Outcome::Failed(strange.join("; "));
    }
    let tolerance = tolerance(options, one);
    let late = one.compare(series, |truth, found| {
        truth.duration_differences(found, tolerance)
    });
    if late.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Late(late.join("; "))
    }
}

/// The reason, if this back end is known not to see the server's first request, and nothing else is missing.
fn first_unseen(options: &RunOptions, one: &Played, series: &[Series]) -> Option<&'static str> {
    let (backends, reason) = one.case.first_unseen_on?;
    let backend = options.backend.as_deref()?;
    let (server, client) = (one.missing("server", series), one.missing("client", series));
    (backends.contains(&backend) && server == 1 && client == 0).then_some(reason)
}

/// Five kinds of connections older than the agent, three transports, both sides.
const MOST_JOINED: u64 = 30;

/// Attributes that nobody promised, or that do not say what was sent.
fn strange(case: &Case, series: &Series) -> Option<String> {
    if !series.unexpected.is_empty() {
        return Some(format!(
            "attributes nobody promised: {}",
            series.unexpected.join(", ")
        ));
    }
    let right = match series.role {
        Role::Server => series.scheme.as_deref() == Some("http"),
        Role::Client if case.host_cut_off => series.server_address.is_some(),
        Role::Client => {
            series.server_port == Some(80)
                && series
                    .server_address
                    .as_deref()
                    .is_some_and(|host| HOSTS.contains(&host))
        }
    };
    (!right).then(|| {
        format!(
            "scheme {:?}, server {:?} port {:?}",
            series.scheme, series.server_address, series.server_port
        )
    })
}

/// What the requests have in their Host headers.
const HOSTS: [&str; 3] = ["peer.test", "elsewhere.test", "inner.test"];

/// Back ends with a hook on the release of Unix sockets see their end at once; else it is found.
fn tolerance(options: &RunOptions, one: &Played) -> Tolerance {
    let mut tolerance = options.tolerance;
    let at_once = matches!(options.backend.as_deref(), Some("fexit" | "kprobe"));
    if one.case.ended_by_close && one.transport == Transport::Unix && !at_once {
        tolerance.per_exchange += UNIX_END_FOUND_WITHIN;
    }
    tolerance
}

/// Blind spots that conversations of a few hundred processes must not reach.
const NEVER_MISSED: [&str; 2] = ["blind missed_returns", "blind calls_not_kept"];

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
        .filter(|(what, _)| {
            // Other programs on this machine are excluded, and their number is not ours to know. Responses to
            // requests of the time before the agent are joined in midstream.
            !what.ends_with(" tallied")
                && !what.ends_with(" excluded")
                && !what.ends_with(" joined_midstream")
                && (!what.starts_with("blind ") || NEVER_MISSED.contains(&what.as_str()))
        })
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    if all_counted && !strange.is_empty() {
        wrong.push(format!(
            "outcomes nothing here should have: {}",
            strange.join(", ")
        ));
    }
    let joined = ledger.outcome("joined_midstream") - before.outcome("joined_midstream");
    if all_counted && joined > MOST_JOINED {
        wrong.push(format!(
            "{joined} joined_midstream, at most {MOST_JOINED} expected"
        ));
    }
    if wrong.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(wrong.join("; "))
    }
}

/// Plays a case over each of the transports at once, with nothing beside it, so that what the ledger says is its doing.
pub(super) fn judge_alone(
    options: &RunOptions,
    agent: &Agent,
    case: &'static Case,
    transports: &[Transport],
) -> Result<Vec<Outcome>> {
    let before = agent.ledger()?;
    let running: Vec<_> = transports
        .iter()
        .map(|transport| Running::start(options, case, *transport, 0))
        .collect::<Result<_>>()?;
    let played: Vec<_> = running
        .into_iter()
        .map(Running::finish)
        .collect::<Result<_>>()?;
    let series = settled(options, agent, &played)?;
    let ledger = agent.ledger()?;
    if let Some(imbalance) = ledger.imbalances().first() {
        return Ok(vec![Outcome::Failed(imbalance.clone()); played.len()]);
    }
    let objection = objection(case.ledgers, &ledger, &before, played.len());
    let judged = played.iter().map(|one| judge_one(options, one, &series));
    Ok(judged
        .map(|outcome| match (outcome, &objection) {
            (Outcome::Passed, Some(objection)) => Outcome::Failed(objection.clone()),
            (outcome, _) => outcome,
        })
        .collect())
}

/// What the ledger does not name after a case was played `times` times.
fn objection(expected: Ledgers, ledger: &Ledger, before: &Ledger, times: usize) -> Option<String> {
    let Ledgers::Names(reasons) = expected else {
        return None;
    };
    let grown = ledger.growth_since(before);
    let named: u64 = grown
        .iter()
        .filter(|(what, _)| reasons.iter().any(|reason| what.ends_with(reason)))
        .map(|(_, count)| count)
        .sum();
    (named < times as u64).then(|| {
        format!(
            "played {times} times, the ledger names {reasons:?} less often; it grew by {grown:?}"
        )
    })
}
