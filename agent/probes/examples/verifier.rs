//! Loads each back end this kernel takes and prints what its verifier walked; with a number of seconds as
//! argument it attaches the first one for that long, and prints what a run of each program cost
//! (`kernel.bpf_stats_enabled` must be 1).
#![allow(clippy::print_stdout, reason = "a tool's answer")]

use std::time::{Duration, Instant};

use kerntally_abi::COUNTERS;
use kerntally_probes::{Backend, BackendChoice, LoadError, Options, Session};

fn main() -> Result<(), LoadError> {
    let seconds = std::env::args().nth(1).and_then(|word| word.parse().ok());
    for backend in Backend::ALL {
        let options = Options {
            backend: BackendChoice::Only(backend),
            ..Options::default()
        };
        match (Session::load(&options), seconds) {
            (Ok(session), None) => walked(&session),
            (Ok(session), Some(seconds)) => return watch(session, Duration::from_secs(seconds)),
            (Err(error), _) => println!("{} refused: {error}", backend.name()),
        }
    }
    Ok(())
}

fn walked(session: &Session) {
    let name = session.backend().name();
    for program in session.program_stats() {
        if program.verified_insns > 0 {
            println!("{name} {} {}", program.name, program.verified_insns);
        }
    }
    println!("{name} maps {} bytes", session.map_bytes());
}

fn watch(mut session: Session, time: Duration) -> Result<(), LoadError> {
    session.attach()?;
    println!("attached");
    let end = Instant::now() + time;
    let mut records = 0;
    while Instant::now() < end {
        records += session.drain(|_record| ());
        std::thread::sleep(Duration::from_millis(20));
    }
    for program in session.program_stats() {
        if let Some(each) = program.run_time_ns.checked_div(program.run_count) {
            println!(
                "{} {} runs, {each} ns each",
                program.name, program.run_count
            );
        }
    }
    let counters = session.counters();
    for counter in COUNTERS {
        let value = counters.value(*counter);
        if value > 0 {
            println!("{} {value}", counter.name());
        }
    }
    println!("records {records}");
    Ok(())
}
