//! The project's own commands, `cargo xtask ...`: set-up, build, run, the gate, guest kernels, the image.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool speaks to its user by printing"
)]

mod bench;
mod build;
mod command;
mod docs;
mod fuzz;
mod gate;
mod image;
mod linker;
mod mounts;
mod packages;
mod progress;
mod run;
mod setup;
mod side_by_side;
mod style;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests kerntally")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the build lacks, after saying what
    Setup,
    /// Leave the release binary, with its BPF programs inside, at target/release/kerntally
    Build,
    /// Set up, build, mount tracefs and bpffs, and start the agent
    Run {
        /// Arguments for `kerntally run`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the gate: everything that fits thirty minutes on two cores
    Test {
        /// Run everything there is, the whole guest kernel matrix included
        #[arg(long)]
        all: bool,
    },
    /// Keep everything changing around an agent, and hold it against its start
    Soak {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Run the conversations on guest kernels
    Vm(vm::Choice),
    /// Measure what the agent costs
    Bench(bench::Choice),
    /// Fuzz every parser of bytes that others wrote
    Fuzz(fuzz::Choice),
    /// Check the dependency rule, sizes and wording
    CheckStyle,
    /// Write the documentation that follows from declarations in the code: docs/metrics.md
    Docs,
    /// Write a container image as an OCI archive, without a container engine
    Image(image::Choice),
}

fn main() -> ExitCode {
    match perform(&Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Setup => setup::ensure(&workspace).map(|_| ExitCode::SUCCESS),
        Task::Build => build::build(&workspace).map(|_| ExitCode::SUCCESS),
        Task::Run { arguments } => run::run(&workspace, arguments),
        Task::Test { all } => Ok(gate::run(&workspace, *all)),
        Task::Soak { minutes } => gate::soak(&workspace, *minutes),
        Task::Vm(choice) => vm::run(&workspace, choice),
        Task::Bench(choice) => bench::run(&workspace, choice),
        Task::Fuzz(choice) => fuzz::run(&workspace, choice),
        Task::CheckStyle => style::run(&workspace),
        Task::Docs => docs::write(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Image(choice) => image::run(&workspace, choice).map(|()| ExitCode::SUCCESS),
    }
}
