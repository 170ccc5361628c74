//! What the agent costs a saturated nginx, as paired ratios: run by hand or with everything else, in a release
//! build (`cargo test -p kerntally-e2e --test overhead -- --ignored --nocapture`).
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::install;
use kerntally_e2e::kernel_objects::KernelObjects;
use kerntally_e2e::rig::{Rig, say, skip};
use kerntally_e2e::servers;
use serde_json::Value;

/// Pairs of one run without and one with the agent, in turn.
const PAIRS: usize = 5;
const SECONDS: u64 = 5;
/// What the contract allows for all maps.
const MOST_MAP_BYTES: u64 = 16 * 1024 * 1024;

#[test]
#[ignore = "takes minutes and wants an idle machine"]
fn saturated_nginx_with_and_without_the_agent() {
    let Some(wrk) = install::on_path("wrk") else {
        return skip(
            "saturated_nginx_with_and_without_the_agent",
            "wrk is not installed",
        );
    };
    let directory = tempfile::tempdir().unwrap();
    let server = match servers::nginx_with(directory.path(), "access_log off;", 2) {
        Ok(server) => server,
        Err(error) => {
            return skip(
                "saturated_nginx_with_and_without_the_agent",
                &format!("{error:#}"),
            );
        }
    };
    let url = format!("http://{}/ok", server.address);
    let load = |seconds| requests_per_second(&wrk, &url, seconds);
    load(2).unwrap();
    let mut ratios = Vec::new();
    let mut last = None;
    for pair in 0..PAIRS {
        let off = load(SECONDS).unwrap();
        let rig = Rig::start_with(|options| "15s".clone_into(&mut options.interval)).unwrap();
        let before = cpu_seconds(rig.agent.pid()).unwrap();
        let on = load(SECONDS).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let cost = Cost::of(&rig, cpu_seconds(rig.agent.pid()).unwrap() - before).unwrap();
        say(&format!(
            "pair {pair}: {off:.0} requests/s off, {on:.0} on, ratio {:.3}",
            on / off
        ));
        ratios.push(on / off);
        last = Some(cost);
    }
    ratios.sort_by(f64::total_cmp);
    let cost = last.unwrap();
    say(&format!(
        "median ratio {:.3} (from {:.3} to {:.3}); agent {:.2} us of CPU an exchange, {:.1} MiB resident, {:.1} MiB of maps",
        ratios[PAIRS / 2],
        ratios[0],
        ratios[PAIRS - 1],
        cost.cpu_us_per_exchange,
        cost.resident_mib,
        mib(cost.map_bytes)
    ));
    for line in &cost.programs {
        say(line);
    }
    assert!(
        cost.map_bytes <= MOST_MAP_BYTES,
        "{} bytes of maps",
        cost.map_bytes
    );
}

struct Cost {
    cpu_us_per_exchange: f64,
    resident_mib: f64,
    map_bytes: u64,
    programs: Vec<String>,
}

impl Cost {
    fn of(rig: &Rig, cpu_seconds: f64) -> Result<Self> {
        let exchanges = rig.agent.ledger()?.seen();
        ensure!(exchanges > 0, "the agent saw nothing of the load");
        let objects = KernelObjects::of_process(rig.agent.pid())?;
        let listed = |kind: &str| -> Result<Vec<Value>> {
            let output = Command::new("bpftool")
                .args(["-j", kind, "list"])
                .output()?;
            serde_json::from_slice(&output.stdout).context("bpftool printed no JSON")
        };
        let own = |kind: &'static str, object: &Value| {
            object["id"]
                .as_u64()
                .is_some_and(|id| objects.contains(kind, id))
        };
        let map_bytes = listed("map")?
            .iter()
            .filter(|map| own("map", map))
            .filter_map(|map| map["bytes_memlock"].as_u64())
            .sum();
        let programs = listed("prog")?
            .iter()
            .filter(|program| own("prog", program))
            .filter_map(per_run)
            .collect();
        Ok(Self {
            cpu_us_per_exchange: cpu_seconds * 1e6 / small(exchanges),
            resident_mib: mib(rig.agent.resident_bytes()?),
            map_bytes,
            programs,
        })
    }
}

/// Present where the kernel keeps statistics (`sysctl kernel.bpf_stats_enabled=1`).
fn per_run(program: &Value) -> Option<String> {
    let (nanos, runs) = (
        program["run_time_ns"].as_u64()?,
        program["run_cnt"].as_u64()?,
    );
    let name = program["name"].as_str().unwrap_or("?");
    Some(format!(
        "program {name}: {runs} runs, {:.0} ns each",
        small(nanos) / small(runs)
    ))
}

fn requests_per_second(wrk: &std::path::Path, url: &str, seconds: u64) -> Result<f64> {
    let duration = format!("-d{seconds}s");
    let output = Command::new(wrk)
        .args(["-t1", "-c16", &duration, url])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    line.with_context(|| format!("wrk said {text}"))?
        .trim()
        .parse()
        .context("requests a second")
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(small(ticks) / 100.0)
}

fn mib(bytes: u64) -> f64 {
    small(bytes) / 1024.0 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn small(value: u64) -> f64 {
    value as f64
}
