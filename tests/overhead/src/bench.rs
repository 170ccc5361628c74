//! Runs the chosen suites one after another and reports them together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::instructions::Counts;
use crate::report::{Machine, Results, sections, table};
use crate::suites::{Extent, Found, idle, kernel, overhead, pipeline, scale};

/// What to run, and where to leave it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// Suites that load an agent on this machine
    #[arg(long, value_delimiter = ',')]
    suites: Vec<Suite>,
    /// The kerntally binary
    #[arg(long)]
    agent: PathBuf,
    #[arg(long)]
    pairs: Option<usize>,
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long)]
    quick: bool,
    /// What guests counted
    #[arg(long)]
    counts: Option<PathBuf>,
    /// What the benchmarks of stages 4 to 6, and of stage 7, printed
    #[arg(long, requires = "encode")]
    floor: Option<PathBuf>,
    #[arg(long)]
    encode: Option<PathBuf>,
    /// Directory for JSON and plots
    #[arg(long)]
    out: PathBuf,
    /// Document to put the newest run into
    #[arg(long)]
    document: Option<PathBuf>,
    /// Also write everything to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    Overhead,
    Kernel,
    Scale,
    Idle,
}

/// Runs, prints, writes.
pub(crate) fn run(choice: &Choice) -> Result<()> {
    let mut results = Results {
        schema: "kerntally-bench/v1",
        machine: Machine::here(choice.quick),
        suites: elsewhere(choice)?,
    };
    let extent = extent(choice);
    for suite in &choice.suites {
        let (name, found) = suite.measure(&extent);
        results.suites.insert(name, found);
    }
    print!("{}", table(&results));
    results.write(&choice.out)?;
    println!("written to {}", choice.out.display());
    if let Some(file) = &choice.json {
        results.write_json(file)?;
    }
    if let Some(document) = &choice.document {
        let text = read(document)?;
        fs::write(document, sections(&text, &results))?;
    }
    let empty = results
        .suites
        .iter()
        .find(|(_, found)| found.figures.is_empty());
    ensure!(
        empty.is_none(),
        "suite {} measured nothing",
        empty.map_or("", |(name, _)| name)
    );
    Ok(())
}

fn extent(choice: &Choice) -> Extent {
    let (pairs, seconds) = if choice.quick { (2, 0.3) } else { (60, 0.4) };
    Extent {
        agent: choice.agent.clone(),
        pairs: choice.pairs.unwrap_or(pairs).max(1),
        slice_millis: whole_millis(choice.seconds.unwrap_or(seconds)),
        run_millis: if choice.quick { 1000 } else { 1500 },
        quick: choice.quick,
    }
}

/// At least a tenth of a second: in what is shorter the kernel's ticks say nothing of others.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded"
)]
fn whole_millis(seconds: f64) -> u64 {
    (seconds.clamp(0.1, 3600.0) * 1e3).round() as u64
}

/// Suites that were measured before this program was started.
fn elsewhere(choice: &Choice) -> Result<BTreeMap<&'static str, Found>> {
    let mut suites = BTreeMap::new();
    if let Some(counts) = &choice.counts {
        suites.insert("instructions", Counts::parse(&read(counts)?)?.found());
    }
    if let (Some(floor), Some(encode)) = (&choice.floor, &choice.encode) {
        suites.insert("pipeline", pipeline::read(&read(floor)?, &read(encode)?)?);
    }
    Ok(suites)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

impl Suite {
    /// One suite that fails leaves the others their say.
    fn measure(self, extent: &Extent) -> (&'static str, Found) {
        let (name, found) = match self {
            Self::Overhead => ("overhead", Ok(overhead::measure(extent))),
            Self::Kernel => ("kernel", kernel::measure(extent)),
            Self::Scale => ("scale", Ok(scale::measure(extent))),
            Self::Idle => ("idle", idle::measure(extent)),
        };
        let failed = |error: anyhow::Error| Found {
            notes: vec![format!("not measured: {error:#}")],
            ..Found::default()
        };
        (name, found.unwrap_or_else(failed))
    }
}
