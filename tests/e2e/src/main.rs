//! `kerntally-conversations`: plays scripted HTTP conversations beside an agent and says which were counted right.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use kerntally_e2e::conversation::{self, RunOptions, Scale};
use kerntally_e2e::load;
use kerntally_e2e::mix::{self, Kind};
use kerntally_e2e::truth::Tolerance;

/// Plays scripted HTTP conversations beside an agent; prints one line a case and the verdict last.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[command(name = "kerntally-conversations", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Internal>,
    /// The kerntally binary.
    #[arg(long, env = "KERNTALLY_BIN")]
    agent: Option<PathBuf>,
    /// hooks.backend of the agent.
    #[arg(long, env = "KERNTALLY_E2E_BACKEND")]
    backend: Option<String>,
    /// Only cases whose name contains this; may be given more than once.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// Of what is played over IPv4 too, only keep-alive over IPv6.
    #[arg(long)]
    spare_ipv6: bool,
    /// Print the names of all cases and end.
    #[arg(long)]
    list: bool,
    /// Shorter pauses and smaller bodies.
    #[arg(long)]
    quick: bool,
    /// Without an agent: both sides of each conversation must have counted the same.
    #[arg(long)]
    dry_run: bool,
    /// Size in bytes of the upload that the agent joins.
    #[arg(long)]
    upload_bytes: Option<usize>,
    /// Connections in the cases that reuse sockets.
    #[arg(long)]
    connections: Option<usize>,
    /// Disable and enable cycles.
    #[arg(long)]
    cycles: Option<usize>,
    /// Microseconds that a duration may be off, for each exchange.
    #[arg(long, default_value_t = 300)]
    tolerance_us: u64,
    /// Seconds that the export may take to show what happened.
    #[arg(long, default_value_t = 8)]
    settle: u64,
    /// The Go client and server to play too.
    #[arg(long)]
    pairs: Option<PathBuf>,
    /// Requests between these two.
    #[arg(long, default_value_t = 100_000)]
    pair_requests: u64,
    /// Keep everything written in this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// One side of one case; started by this program itself.
    #[command(hide = true)]
    Peer {
        case: String,
        side: String,
        transport: String,
        directory: PathBuf,
        scale: String,
    },
    /// Sends the mix on standard input and prints what was sent; used by the tests with real servers.
    #[command(hide = true)]
    Send {
        address: String,
        rounds: usize,
        connections: usize,
    },
    /// Serves numbered requests until it is killed.
    #[command(hide = true)]
    LoadServer { port: u16 },
    /// Sends numbered requests as the shape says, until standard input ends.
    #[command(hide = true)]
    LoadClient { port: u16, shape: String },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error),
    }
}

#[expect(clippy::print_stderr, reason = "a binary's last word")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(arguments: Arguments) -> Result<bool> {
    if let Some(internal) = arguments.command {
        return run_internal(internal);
    }
    if arguments.list {
        print_names();
        return Ok(true);
    }
    let temporary = tempfile::tempdir().context("creating a directory")?;
    let directory = arguments
        .keep
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let agent = if arguments.dry_run {
        None
    } else {
        Some(
            arguments
                .agent
                .clone()
                .map_or_else(kerntally_e2e::agent::binary, Ok)?,
        )
    };
    let verdict = conversation::run(&RunOptions {
        agent,
        backend: arguments.backend.clone(),
        filters: arguments.filter.clone(),
        spare_ipv6: arguments.spare_ipv6,
        scale: scale(&arguments),
        directory,
        tolerance: Tolerance {
            per_exchange: Duration::from_micros(arguments.tolerance_us),
            // Groups here have few exchanges: one preempted peer would outweigh their tolerance.
            once: Duration::from_millis(5),
            ..Tolerance::PROMISED
        },
        settle: Duration::from_secs(arguments.settle),
        pairs: arguments
            .pairs
            .map(|program| (program, arguments.pair_requests)),
    })?;
    Ok(verdict.failed == 0 && verdict.passed > 0)
}

fn run_internal(command: Internal) -> Result<bool> {
    match command {
        Internal::Peer {
            case,
            side,
            transport,
            directory,
            scale,
        } => {
            let scale = serde_json::from_str(&scale).context("the scale is no JSON")?;
            conversation::play(&case, &side, &transport, &directory, scale)?;
        }
        Internal::Send {
            address,
            rounds,
            connections,
        } => {
            let mix: Vec<Kind> = serde_json::from_reader(std::io::stdin()).context("the mix")?;
            let sent = mix::send(&address, &mix, rounds, connections)?;
            serde_json::to_writer(std::io::stdout(), &sent)?;
        }
        Internal::LoadServer { port } => load::serve(port)?,
        Internal::LoadClient { port, shape } => {
            let shape = serde_json::from_str(&shape).context("the shape is no JSON")?;
            load::print(&load::request(port, &shape)?)?;
        }
    }
    Ok(true)
}

fn scale(arguments: &Arguments) -> Scale {
    let mut scale = if arguments.quick {
        Scale::quick()
    } else {
        Scale::full()
    };
    scale.upload_bytes = arguments.upload_bytes.unwrap_or(scale.upload_bytes);
    scale.short_connections = arguments.connections.unwrap_or(scale.short_connections);
    scale.cycles = arguments.cycles.unwrap_or(scale.cycles);
    scale
}

#[expect(clippy::print_stdout, reason = "what --list is for")]
fn print_names() {
    for name in conversation::list() {
        println!("{name}");
    }
}
