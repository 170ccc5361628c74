//! `kerntally-overhead`: measures what the agent costs; `cargo xtask bench` builds and starts it.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks to its user by printing"
)]

mod bench;
mod clock;
mod figure;
mod gate;
mod instructions;
mod load;
mod origin;
mod programs;
mod report;
mod ring;
mod spread;
mod subject;
mod suites;
mod system;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "kerntally-overhead", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run suites on this machine, and report them with what was measured elsewhere
    Bench(bench::Choice),
    /// Hold what is repeatable against its budgets
    Gate(gate::Choice),
    /// Count instructions inside a guest; started by the guest's init
    Guest(instructions::guest::Choice),
    /// Answer tiny requests; started by `guest`
    #[command(hide = true)]
    Serve,
    /// Answer what is asked for; started by the suites
    #[command(hide = true)]
    Origin,
    /// Play a plan on one core; started by the suites
    #[command(hide = true)]
    Load { plan: String, core: usize },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Bench(choice) => bench::run(&choice)?,
        Task::Gate(choice) => return gate::run(&choice),
        Task::Guest(choice) => instructions::guest::run(&choice)?,
        Task::Serve => instructions::pair::serve()?,
        Task::Origin => origin::serve()?,
        Task::Load { plan, core } => {
            let plan = serde_json::from_str(&plan).context("the plan is no JSON")?;
            load::drive(&plan, core)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
