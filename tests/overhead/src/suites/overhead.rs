//! Servers at saturation, and at 70 % of it, with the agent off and on in turn.

use anyhow::Result;

use super::rounds::{Round, Rounds, rounds};
use super::run::{Cost, Run, SERVER_CORE, Watched, run_watched};
use super::{Extent, Found};
use crate::figure::{Figure, Target, targets};
use crate::spread::Values;
use crate::subject::{Running, Subject};

const SUITE: &str = "overhead";
/// Share of its saturated rate at which latencies are compared.
const PART_LOAD: f64 = 0.7;
/// Above this the load itself may have been what was saturated.
const LOAD_BUSY: f64 = 0.95;
/// Share of the requests that were due which a server that keeps up answers in time.
const KEPT_UP: f64 = 0.98;
/// Agents that are asked what they hold.
const COSTS: usize = 3;

/// One amount of a run.
type Amount = fn(&Run) -> f64;

/// Latencies, each with its name.
const QUANTILES: [(&str, Amount); 3] = [
    ("p50", |run| super::real(run.report.median)),
    ("p99", |run| super::real(run.report.p99)),
    ("p99.9", |run| super::real(run.report.p999)),
];

/// Measures every server that can be started here.
pub(crate) fn measure(extent: &Extent) -> Found {
    let mut found = Found::default();
    for subject in Subject::ALL {
        println!("\n{}", subject.name());
        if let Err(error) = of(extent, subject, &mut found) {
            println!("  not measured: {error:#}");
            found
                .notes
                .push(format!("{} not measured: {error:#}", subject.name()));
        }
    }
    found
        .notes
        .push("http2, tls and grpc are not built, so not measured".to_owned());
    found
}

fn of(extent: &Extent, subject: Subject, found: &mut Found) -> Result<()> {
    let server = subject.start(SERVER_CORE)?;
    let plan = server.plan(None, extent.slice_millis);
    let held = subject == Subject::NginxTiny;
    let name = |what: &str| format!("{}: {what}", subject.name());
    let Rounds {
        rounds: saturated,
        note,
    } = rounds(extent, &server, &plan, Watched::Server)?;
    found.notes.extend(note.as_deref().map(name));
    of_saturation(&saturated, held, &name, found);
    costs(extent, &server, Watched::Server, held, &name, found)?;
    part_load(extent, &server, &saturated, held, &name, found)?;
    if held {
        println!("  the load watched too:");
        let watched = rounds(extent, &server, &plan, Watched::Both)?;
        let name = |what: &str| format!("{}, the load watched too: {what}", subject.name());
        found.notes.extend(watched.note.as_deref().map(name));
        of_saturation(&watched.rounds, false, &name, found);
        costs(extent, &server, Watched::Both, false, &name, found)?;
    }
    Ok(())
}

fn of_saturation(rounds: &[Round], held: bool, name: &dyn Fn(&str) -> String, found: &mut Found) {
    let against =
        |figure: Figure, target: Target| if held { figure.against(target) } else { figure };
    let throughput = ratio(rounds, name("throughput, on/off"), Run::rate);
    let by_processor = ratio(
        rounds,
        name("requests by processor time of server and agent, on/off"),
        Run::for_processor_second,
    );
    let added = added(
        rounds,
        name("processor time added to the server"),
        Run::server_micros,
    );
    let whole = self::added(
        rounds,
        name("processor time added to the machine"),
        Run::whole_micros,
    );
    let agent = median(rounds, |round| round.on.agent_micros());
    let agent = Figure::new(
        SUITE,
        name("processor time of the agent"),
        "us/request",
        agent,
    );
    found.figures.extend([
        against(throughput, targets::THROUGHPUT),
        by_processor,
        against(added, targets::SERVER_MICROS),
        whole,
        against(agent, targets::AGENT_MICROS),
    ]);
    for (quantile, of) in QUANTILES {
        let name = name(&format!("{quantile} when saturated, on/off"));
        found.figures.push(ratio(rounds, name, of));
    }
    errors(rounds, "", name, found);
    busy(rounds, name, found);
}

/// What the load did not get an answer to, in all runs of either kind: the watched server's own errors.
fn errors(rounds: &[Round], when: &str, name: &dyn Fn(&str) -> String, found: &mut Found) {
    let all = |of: fn(&Round) -> u64| rounds.iter().map(of).sum();
    let kinds: [(&str, u64); 2] = [
        (
            "without an agent",
            all(|round| round.off.report.errors + round.other.report.errors),
        ),
        ("with the agent", all(|round| round.on.report.errors)),
    ];
    for (which, errors) in kinds {
        let name = name(&format!("requests without an answer{when}, {which}"));
        let figure = Figure::new(SUITE, name, "requests", super::real(errors));
        found.figures.push(figure);
    }
}

/// What an agent holds, and whether it counts every exchange: of agents that are started before a saturating load and
/// asked when it is over.
fn costs(
    extent: &Extent,
    server: &Running,
    watched: Watched,
    held: bool,
    name: &dyn Fn(&str) -> String,
    found: &mut Found,
) -> Result<()> {
    let plan = server.plan(None, extent.run_millis);
    let runs: Vec<Cost> = (0..COSTS)
        .map(|_| Ok(run_watched(extent, server, &plan, watched)?.1))
        .collect::<Result<_>>()?;
    let most = |of: &dyn Fn(&Cost) -> f64| Values::new(runs.iter().map(of)).range().1;
    let figure = |what: &str, unit, value| Figure::new(SUITE, name(what), unit, value);
    let lost = figure("lost", "exchanges", most(&|cost| super::real(cost.lost)));
    let maps = figure(
        "kernel memory of the maps",
        "MiB",
        most(&|cost| cost.maps_mib),
    );
    let degraded = most(&|cost| super::real(cost.degraded));
    found.figures.push(lost.against(targets::LOST));
    if held {
        found.figures.push(maps.against(targets::MAPS_MIB));
    }
    found.figures.extend([
        figure("counted without detail", "exchanges", degraded),
        figure("resident memory", "MiB", most(&|cost| cost.resident_mib)),
        figure(
            "most of the ring in use",
            "%",
            most(&|cost| 100.0 * cost.ring),
        ),
    ]);
    Ok(())
}

fn busy(rounds: &[Round], name: &dyn Fn(&str) -> String, found: &mut Found) {
    let of = |place: usize| median(rounds, |round| round.off.busy()[place]);
    let names = [
        "the server's core busy",
        "the load's core busy",
        "of it the load itself",
    ];
    for (place, what) in names.into_iter().enumerate() {
        found
            .figures
            .push(Figure::new(SUITE, name(what), "%", 100.0 * of(place)));
    }
    if of(2) > LOAD_BUSY {
        let note = "the load's own core was full: the server may not have been saturated";
        found.notes.push(name(note));
    }
}

fn part_load(
    extent: &Extent,
    server: &Running,
    saturated: &[Round],
    held: bool,
    name: &dyn Fn(&str) -> String,
    found: &mut Found,
) -> Result<()> {
    let rate = PART_LOAD * median(saturated, |round| round.off.rate());
    println!("  at {rate:.0} requests/s:");
    let plan = server.plan(Some(rate), extent.slice_millis);
    let Rounds { rounds, note } = rounds(extent, server, &plan, Watched::Server)?;
    let note = note.map(|note| format!("at 70 % load, {note}"));
    found.notes.extend(note.as_deref().map(name));
    kept_up(&rounds, rate, name, found);
    for (quantile, of) in QUANTILES {
        let figure = ratio(
            &rounds,
            name(&format!("{quantile} at 70 % load, on/off")),
            of,
        );
        let figure = if held && quantile == "p99" {
            figure.against(targets::P99)
        } else {
            figure
        };
        found.figures.push(figure);
    }
    let p99 = median(&rounds, |round| super::real(round.off.report.p99) / 1e3);
    found
        .figures
        .push(Figure::new(SUITE, name("p99 at 70 % load, off"), "us", p99));
    let plan = server.plan(Some(rate), extent.run_millis);
    let (_, cost) = run_watched(extent, server, &plan, Watched::Server)?;
    let lost = super::real(cost.lost);
    let lost = Figure::new(SUITE, name("lost at 70 % load"), "exchanges", lost);
    found.figures.push(lost.against(targets::LOST));
    errors(&rounds, " at 70 % load", name, found);
    let agent = median(&rounds, |round| round.on.agent_micros());
    let name = name("processor time of the agent at 70 % load");
    found
        .figures
        .push(Figure::new(SUITE, name, "us/request", agent));
    Ok(())
}

/// A latency that counts from when a request was due is the length of the queue where it only grows.
fn kept_up(rounds: &[Round], rate: f64, name: &dyn Fn(&str) -> String, found: &mut Found) {
    let behind = |run: &Run| run.rate() < KEPT_UP * rate;
    let off = rounds.iter().filter(|round| behind(&round.off)).count();
    let on = rounds.iter().filter(|round| behind(&round.on)).count();
    for (behind, which) in [(off, "without the agent"), (on, "with the agent")] {
        if behind > 0 {
            let note = format!(
                "at 70 % load, {behind} of {} slices {which} did not keep up: their latencies are those of a queue that grew until the end",
                rounds.len()
            );
            found.notes.push(name(&note));
        }
    }
}

/// The median of on over off, beside off over off.
fn ratio(rounds: &[Round], name: String, of: Amount) -> Figure {
    let on = Values::new(rounds.iter().map(|round| of(&round.on) / of(&round.off)));
    let same = Values::new(rounds.iter().map(|round| of(&round.other) / of(&round.off)));
    Figure::new(SUITE, name, "ratio", on.median())
        .range(on.range())
        .spread(same.spread_around(1.0).max(on.resolution()))
}

/// The median of on less off, beside off less off.
fn added(rounds: &[Round], name: String, of: Amount) -> Figure {
    let on = Values::new(rounds.iter().map(|round| of(&round.on) - of(&round.off)));
    let same = Values::new(rounds.iter().map(|round| of(&round.other) - of(&round.off)));
    Figure::new(SUITE, name, "us/request", on.median())
        .range(on.range())
        .spread(same.spread_around(0.0).max(on.resolution()))
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    Values::new(rounds.iter().map(of)).median()
}
