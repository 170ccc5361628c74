//! What the machine, the kernel and its neighbours may do to the agent: each time the services miss nothing,
//! and what the agent missed has a name.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use kerntally_e2e::agent::{self, Agent, AgentOptions};
use kerntally_e2e::install::on_path;
use kerntally_e2e::kernel_objects::{KernelObjects, pinned};
use kerntally_e2e::load::{Client, Report, Server, Shape};
use kerntally_e2e::rig::{Rig, runs_everything, say, skip, watch_only};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

fn program() -> &'static Path {
    Path::new(PROGRAM)
}

/// More of everything when there is time.
fn full(short: u64, long: u64) -> u64 {
    if runs_everything() { long } else { short }
}

fn rig() -> Rig {
    Rig::start_with(|options| watch_only(options, program())).unwrap()
}

fn served(service: &str) -> Server {
    Server::start(program(), &format!("{service}-server")).unwrap()
}

fn client(server: &Server, service: &str, shape: &Shape) -> Client {
    let service = format!("{service}-client");
    Client::start(program(), &service, server.port, shape).unwrap()
}

/// Nobody was harmed, and all of it is counted.
fn counted(rig: &Rig, report: &Report) {
    report.unharmed().unwrap();
    rig.accounts_for(report.answered).unwrap();
}

#[test]
fn killed_under_load_again_and_again() {
    let server = served("killed");
    let shape = Shape {
        per_connection: 50,
        ..Shape::default()
    };
    let load = client(&server, "killed", &shape);
    let pins = pinned();
    let rounds = full(5, 100);
    for round in 0..rounds {
        let mut rig = rig();
        std::thread::sleep(Duration::from_millis(200));
        assert!(rig.agent.ledger().unwrap().seen() > 0, "round {round}");
        let objects = KernelObjects::of_process(rig.agent.pid()).unwrap();
        rig.agent.signal(Signal::KILL).unwrap();
        rig.agent.wait_end(Duration::from_secs(10)).unwrap();
        gone(&objects);
    }
    assert_eq!(pins, pinned());
    let report = load.stop().unwrap();
    report.unharmed().unwrap();
    say(&format!(
        "killed {rounds} times under {} exchanges: none failed",
        report.answered
    ));
}

/// Programs, maps and links go with the process, after a grace period.
fn gone(objects: &KernelObjects) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = objects.left().unwrap();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left in the kernel: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn clients_that_live_for_one_request() {
    // Who is gone before it can be looked up cannot be told from others by a filter: all is watched.
    let rig = Rig::start().unwrap();
    let server = served("brief");
    let before = rig.agent.ledger().unwrap();
    let shape = Shape {
        connections: 1,
        requests: 1,
        ..Shape::default()
    };
    let processes = full(200, 3000);
    let begun = Instant::now();
    for _ in 0..processes / 10 {
        let clients: Vec<_> = (0..10).map(|_| client(&server, "brief", &shape)).collect();
        for client in clients {
            client.finish().unwrap().unharmed().unwrap();
        }
    }
    let rate = processes * 1000 / u64::try_from(begun.elapsed().as_millis()).unwrap().max(1);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let ledger = rig.agent.ledger().unwrap();
        assert!(ledger.imbalances().is_empty(), "{:?}", ledger.imbalances());
        let counted = |role: &str| ledger.counted_of(role) - before.counted_of(role);
        // Others on this machine may speak HTTP meanwhile: less would be a loss.
        if counted("server") >= processes && counted("client") >= processes && ledger.open() == 0 {
            let unnamed = ledger.outcome("tallied_without_service");
            say(&format!(
                "{processes} processes at {rate} a second, one request each: all counted, {unnamed} unnamed"
            ));
            return;
        }
        assert!(Instant::now() < deadline, "{processes} sent: {ledger:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn processes_that_come_and_go() {
    let rig = rig();
    let server = served("churn");
    let load = client(&server, "churn", &Shape::default());
    let stop = Arc::new(AtomicBool::new(false));
    let started = Arc::new(AtomicUsize::new(0));
    let spawners: Vec<_> = (0..2)
        .map(|_| {
            let (stop, started) = (Arc::clone(&stop), Arc::clone(&started));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let status = Command::new("/bin/true").status().unwrap();
                    assert!(status.success());
                    started.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let seconds = full(3, 20);
    std::thread::sleep(Duration::from_secs(seconds));
    stop.store(true, Ordering::Relaxed);
    for spawner in spawners {
        spawner.join().unwrap();
    }
    let report = load.stop().unwrap();
    counted(&rig, &report);
    let rate = started.load(Ordering::Relaxed) as u64 / seconds;
    say(&format!(
        "{rate} processes a second started and ended, {} exchanges counted meanwhile",
        report.answered
    ));
}

#[test]
fn tens_of_thousands_of_connections() {
    let rig = rig();
    // Several pairs, as one process may not be allowed so many descriptors.
    let pairs = full(1, 4);
    let connections = full(5000, 12_500);
    let shape = Shape {
        connections: usize::try_from(connections).unwrap(),
        requests: 3 * connections,
        pause: Duration::from_millis(full(100, 5000)),
        ..Shape::default()
    };
    let running: Vec<_> = (0..pairs)
        .map(|_| {
            let server = served("many");
            let client = client(&server, "many", &shape);
            (server, client)
        })
        .collect();
    let mut exchanges = 0;
    for (_server, client) in running {
        let report = client.finish().unwrap();
        report.unharmed().unwrap();
        assert!(report.connections >= connections, "{report:?}");
        exchanges += report.answered;
    }
    rig.accounts_for(exchanges).unwrap();
    say(&format!(
        "{} connections at one time, {exchanges} exchanges counted; {} KiB resident",
        pairs * connections,
        rig.agent.resident_bytes().unwrap() / 1024
    ));
}

fn limit_descriptors(agent: &Agent, most: u64) -> Result<Rlimit> {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most.max(4096)),
    };
    Ok(prlimit(pid, Resource::Nofile, limit)?)
}

#[test]
fn out_of_file_descriptors() {
    // A filter could not match who cannot be looked up: all is watched.
    let rig = Rig::start().unwrap();
    let seen = rig.agent.ledger().unwrap();
    // Below what it has open already: nothing more can be opened, no process looked up, no command answered.
    limit_descriptors(&rig.agent, 3).unwrap();
    let server = served("descriptors");
    let shape = Shape {
        requests: 2000,
        ..Shape::default()
    };
    let report = client(&server, "descriptors", &shape).finish().unwrap();
    report.unharmed().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    limit_descriptors(&rig.agent, 4096).unwrap();
    let before = wait_closed(&rig);
    for role in ["server", "client"] {
        let counted = before.counted_of(role) - seen.counted_of(role);
        // Others on this machine may speak HTTP meanwhile.
        assert!(counted >= report.answered, "{role}: {before:?}");
    }
    say(&format!(
        "without descriptors {} exchanges counted, {} without a service",
        before.counted_of("server") + before.counted_of("client"),
        before.outcome("tallied_without_service")
    ));
    // And afterwards as ever.
    let server = served("descriptors-after");
    let report = client(&server, "descriptors-after", &shape)
        .finish()
        .unwrap();
    report.unharmed().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let series = rig.agent.series_of("descriptors-after-server").unwrap();
        let found: u64 = series.iter().map(|one| one.count).sum();
        if found == report.answered {
            return;
        }
        assert!(Instant::now() < deadline, "{found} named afterwards");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The ledger once nothing is open.
fn wait_closed(rig: &Rig) -> kerntally_e2e::ledger::Ledger {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        // A command may find the agent unable to answer yet.
        if let Ok(ledger) = rig.agent.ledger()
            && ledger.open() == 0
        {
            assert!(ledger.imbalances().is_empty(), "{:?}", ledger.imbalances());
            return ledger;
        }
        assert!(Instant::now() < deadline, "{:?}", rig.agent.ledger());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// An agent whose binary is a script that prepares its surroundings first.
fn rig_in(test: &str, script: &str) -> Option<(Rig, tempfile::TempDir)> {
    let Some(unshare) = on_path("unshare") else {
        skip(test, "unshare is not installed");
        return None;
    };
    let directory = tempfile::tempdir().unwrap();
    let wrapper = directory.path().join("kerntally-in");
    let real = agent::binary().unwrap().canonicalize().unwrap();
    let wrapping = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec {real} \"$@\"\nexec {unshare} --mount sh -ec '{script}\nexec {real} \"$@\"' sh \"$@\"\n",
        real = real.display(),
        unshare = unshare.display(),
        script = script.replace("DIRECTORY", &directory.path().display().to_string()),
    );
    std::fs::write(&wrapper, wrapping).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut options = AgentOptions::new(&wrapper, &directory.path().join("agent"));
    std::fs::create_dir_all(&options.directory).unwrap();
    watch_only(&mut options, program());
    let rig = Rig::of(Agent::start(&options).unwrap()).unwrap();
    Some((rig, directory))
}

#[test]
fn a_root_that_cannot_be_written() {
    let script = "mount --bind DIRECTORY/agent DIRECTORY/agent\nmount -o remount,bind,ro /";
    let Some((rig, _directory)) = rig_in("a_root_that_cannot_be_written", script) else {
        return;
    };
    let server = served("read-only");
    let shape = Shape {
        requests: 2000,
        ..Shape::default()
    };
    counted(
        &rig,
        &client(&server, "read-only", &shape).finish().unwrap(),
    );
}

#[test]
fn a_disk_that_is_full() {
    // The export file lies on 64 KiB, which a few pushes fill; the socket does not.
    let script = "mount -t tmpfs -o size=64k none DIRECTORY/agent/small";
    let Some((rig, directory)) = small_disk(script) else {
        return;
    };
    let server = served("full-disk");
    let shape = Shape {
        requests: 20_000,
        routes: 90,
        pause: Duration::from_millis(3),
        ..Shape::default()
    };
    counted(
        &rig,
        &client(&server, "full-disk", &shape).finish().unwrap(),
    );
    let inside = format!(
        "/proc/{}/root{}/agent/small/export.json",
        rig.agent.pid(),
        directory.path().display()
    );
    let written = std::fs::metadata(&inside).unwrap().len();
    say(&format!(
        "{written} bytes of the export file fit; the agent said: {}",
        rig.agent.log_tail()
    ));
    assert!(written > 0 && written <= 64 * 1024);
    // Room again: what is pushed next is whole.
    File::create(&inside).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let mut text = String::new();
    File::open(&inside)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.lines().any(|line| line.contains("full-disk-server")),
        "nothing is written once there is room: {} bytes, {}",
        text.len(),
        rig.agent.log_tail()
    );
}

fn small_disk(script: &str) -> Option<(Rig, tempfile::TempDir)> {
    let test = "a_disk_that_is_full";
    let script = format!(
        "mkdir -p DIRECTORY/agent/small\n{script}\nln -sf small/export.json DIRECTORY/agent/export.json"
    );
    rig_in(test, &script)
}

#[test]
fn a_process_namespace_of_its_own() {
    let test = "a_process_namespace_of_its_own";
    let Some(unshare) = on_path("unshare") else {
        return skip(test, "unshare is not installed");
    };
    let rig = rig();
    let server = served("namespace");
    let mut inside = Command::new(unshare);
    inside.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    inside.arg(PROGRAM);
    let shape = Shape {
        requests: 5000,
        pause: Duration::from_millis(1),
        ..Shape::default()
    };
    let load = Client::start_by(inside, "namespace-client", server.port, &shape).unwrap();
    let report = load.finish().unwrap();
    counted(&rig, &report);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let series = rig.agent.series_of("namespace-client").unwrap();
        let found: u64 = series.iter().map(|one| one.count).sum();
        if found == report.answered {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found} of {} under the name that the process has there",
            report.answered
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_memory_limit() {
    let test = "a_memory_limit";
    let Some(group) = memory_group() else {
        return skip(
            test,
            "no memory controller of control groups can be written",
        );
    };
    let rig = rig();
    let resident = rig.agent.resident_bytes().unwrap();
    let limit = (resident + 24 * 1024 * 1024).to_string();
    std::fs::write(group.join(limit_file(&group)), limit).unwrap();
    std::fs::write(group.join("cgroup.procs"), rig.agent.pid().to_string()).unwrap();
    let server = served("memory");
    let shape = Shape {
        connections: 2000,
        requests: full(100_000, 2_000_000),
        routes: 200,
        ..Shape::default()
    };
    let report = client(&server, "memory", &shape).finish().unwrap();
    counted(&rig, &report);
    say(&format!(
        "{resident} bytes resident before, {} after {} exchanges, 24 MiB allowed on top",
        rig.agent.resident_bytes().unwrap(),
        report.answered
    ));
    drop(rig);
    std::fs::remove_dir(&group).ok();
}

fn memory_group() -> Option<std::path::PathBuf> {
    let name = format!("kerntally-e2e-{}", std::process::id());
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .iter()
        .map(|root| Path::new(root).join(&name))
        .find(|group| {
            std::fs::create_dir(group).is_ok() && group.join(limit_file(group)).exists() || {
                std::fs::remove_dir(group).ok();
                false
            }
        })
}

fn limit_file(group: &Path) -> &'static str {
    if group.join("memory.limit_in_bytes").exists() {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    }
}

#[test]
fn a_second_agent_waits_and_names_the_first() {
    let test = "a_second_agent_waits_and_names_the_first";
    if !runs_everything() {
        return skip(test, "takes its thirty seconds; only with everything");
    }
    let exclusive = |options: &mut AgentOptions| {
        options.sets.push("hooks.exclusive=true".to_owned());
    };
    let first = match Rig::start_with(exclusive) {
        Ok(first) => first,
        Err(error) if error.to_string().contains("another agent is running") => {
            return skip(
                test,
                "an agent that is not of this test runs on this machine",
            );
        }
        Err(error) => panic!("{error:#}"),
    };
    let begun = Instant::now();
    let output = Command::new(agent::binary().unwrap())
        .args(["run", "--export", "none", "--set", "self.listen=null"])
        .arg("--socket")
        .arg(first.directory("second").unwrap().join("control.sock"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains(&format!("pid {}", first.agent.pid())),
        "{said}"
    );
    assert!(begun.elapsed() >= Duration::from_secs(29));
    assert!(first.agent.ledger().is_ok());
}

#[test]
fn a_collector_that_stands_still() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Taken by the kernel, never answered: as a stopped collector does.
    let rig = Rig::start_with(|options| {
        watch_only(options, program());
        "otlp".clone_into(&mut options.export);
        options.environment.extend([
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                format!("http://{address}"),
            ),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(),
                "http/protobuf".to_owned(),
            ),
        ]);
    })
    .unwrap();
    let server = served("collector");
    let load = client(&server, "collector", &Shape::default());
    let mut slowest = Duration::ZERO;
    for _ in 0..full(30, 300) {
        let asked = Instant::now();
        rig.agent.ledger().unwrap();
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = load.stop().unwrap();
    counted(&rig, &report);
    say(&format!(
        "beside a collector that does not answer: {} exchanges counted, slowest command {slowest:?}",
        report.answered
    ));
    drop(listener);
}
