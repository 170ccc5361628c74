//! What the BPF programs cost by the kernel's own statistics, and what is laid on system calls that have nothing to
//! do with sockets.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::run::{self, SERVER_CORE, Watched};
use super::{Extent, Found, Watcher, real};
use crate::figure::{Figure, targets};
use crate::programs::{self, Held};
use crate::spread::Values;
use crate::subject::Subject;

const SUITE: &str = "kernel";
/// Calls in one batch: about 10 ms.
const CALLS: u32 = 100_000;
const BATCHES: usize = 20;

/// Measures each back end that this kernel takes.
pub(crate) fn measure(extent: &Extent) -> Result<Found> {
    let mut found = Found::default();
    let (usable, refused) = backends(extent)?;
    for name in refused {
        found
            .notes
            .push(format!("this kernel refuses the back end {name}"));
    }
    ensure!(!usable.is_empty(), "this kernel takes no back end");
    for backend in usable {
        println!("\n{backend}");
        programs_of(extent, &backend, &mut found)?;
        unrelated(extent, &backend, &mut found)?;
    }
    Ok(found)
}

/// Back ends that the agent can use here, and those that it cannot.
pub(crate) fn backends(extent: &Extent) -> Result<(Vec<String>, Vec<String>)> {
    let output = std::process::Command::new(&extent.agent)
        .args(["check", "-o", "json"])
        .output()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut names = (Vec::new(), Vec::new());
    for backend in answer["backends"].as_array().into_iter().flatten() {
        let name = backend["name"].as_str().unwrap_or_default().to_owned();
        if backend["usable"] == true {
            names.0.push(name);
        } else {
            names.1.push(name);
        }
    }
    Ok(names)
}

fn programs_of(extent: &Extent, backend: &str, found: &mut Found) -> Result<()> {
    let server = Subject::NginxTiny.start(SERVER_CORE)?;
    let include = Watched::Server.include(&server);
    let watcher = Watcher::start(extent, &[include], Some(backend))?;
    let pid = watcher.agent.pid();
    let plan = server.plan(None, extent.run_millis);
    let was_on = programs::statistics(true)?;
    let before = Held::by(pid)?;
    let run = run::run(&server, &plan);
    let after = Held::by(pid);
    programs::statistics(was_on)?;
    // The load's own side runs the hooks too, and is told to go.
    let exchanges = real(run?.report.sent);
    let mut all = 0.0;
    for program in after?.since(&before) {
        let (runs, nanos) = (real(program.runs), real(program.nanos));
        all += nanos / exchanges;
        let name = |what: &str| format!("{backend}, {}: {what}", program.name);
        found.figures.extend([
            Figure::new(SUITE, name("runs"), "per exchange", runs / exchanges),
            Figure::new(SUITE, name("one run"), "ns", nanos / runs),
        ]);
    }
    let name = format!("{backend}: all programs, the load's side and the statistics included");
    found
        .figures
        .push(Figure::new(SUITE, name, "ns/exchange", all));
    Ok(())
}

/// A call that does nothing in the kernel, without and with the agent.
fn unrelated(extent: &Extent, backend: &str, found: &mut Found) -> Result<()> {
    let mut pairs = Vec::new();
    for _ in 0..extent.pairs.min(5) {
        let (other, off) = (call_nanos(), call_nanos());
        let watcher = Watcher::start(extent, &[], Some(backend))?;
        let on = call_nanos();
        pairs.push((other, off, on));
        drop(watcher);
    }
    let added = Values::new(pairs.iter().map(|(_, off, on)| on - off));
    let same = Values::new(pairs.iter().map(|(other, off, _)| other - off));
    let name = format!("{backend}: added to a system call without a socket");
    let figure = Figure::new(SUITE, name, "ns", added.median()).range(added.range());
    found.figures.push(figure.spread(same.spread_around(0.0)));
    let watcher = Watcher::start(extent, &[], Some(backend))?;
    let hooks = on_every_call(watcher.agent.pid())?;
    let name = format!("{backend}: hooks on every system call");
    found
        .figures
        .push(Figure::new(SUITE, name, "hooks", hooks).against(targets::UNRELATED_HOOKS));
    Ok(())
}

/// Nanoseconds of one call in the fastest batch, which others on the machine disturb the least.
fn call_nanos() -> f64 {
    let batches = (0..BATCHES).map(|_| {
        let begun = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(rustix::process::getppid());
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    });
    batches.fold(f64::MAX, f64::min)
}

/// Links to the tracepoints that every system call passes.
fn on_every_call(pid: u32) -> Result<f64> {
    let mut hooks = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("tp_name:"));
        hooks += u64::from(name.is_some_and(|name| name.trim().starts_with("sys_")));
    }
    Ok(real(hooks))
}
