//! The export file on a disk that is full: counted by name, nothing half written, and the agent goes on.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::mix;
use kerntally_e2e::rig::{Rig, send_from_process, skip};
use kerntally_e2e::servers;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

/// Small enough to be filled at once, large enough for the lines of this test.
const DISK: &str = "size=1m";
const DISK_BYTES: usize = 1024 * 1024;

/// A disk in memory; unmounted when dropped.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&at)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(&at)
            .status()
            .context("starting mount")?;
        ensure!(status.success(), "mount ended with {status}");
        Ok(Self(at))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no room at all.
    fn fill(&self) {
        // A write past the end takes what there is and fails.
        std::fs::write(self.filler(), vec![0; 2 * DISK_BYTES]).ok();
    }

    fn clear(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("clearing the disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn the_agent_counts_what_it_could_not_write_and_goes_on() {
    let name = "the_agent_counts_what_it_could_not_write_and_goes_on";
    let directory = tempfile::tempdir().unwrap();
    let disk = match Disk::mount(directory.path().join("disk")) {
        Ok(disk) => disk,
        Err(error) => return skip(name, &format!("{error:#}")),
    };
    goes_on(&disk).unwrap();
}

fn goes_on(disk: &Disk) -> Result<()> {
    let file = disk.0.join("export.json");
    let mut rig = Rig::start_with(|options| {
        // The agent's own directory is elsewhere: only the export file is on the small disk.
        std::fs::create_dir_all(&options.directory).unwrap();
        std::os::unix::fs::symlink(&file, options.directory.join("export.json")).unwrap();
    })?;
    let mut server = servers::python(&rig.directory("server")?)?;
    let round = || {
        send_from_process(
            Path::new(PROGRAM),
            "full-disk-client",
            &server.address,
            &server.mix,
            1,
        )
    };
    let mut sent = round()?;
    wait(|| Ok(lines(&file)? > 0)).context("the first line")?;
    disk.fill();
    wait(|| is_failing(&rig)).context("the agent notices")?;
    sent.extend(round()?);
    let status = status(&rig)?;
    let error = status["export"]["file"]["last_error"]
        .as_str()
        .unwrap_or_default();
    ensure!(error.contains("No space left"), "{status}");
    ensure!(
        status["export"]["file"]["dropped"].as_u64() > Some(0),
        "{status}"
    );
    disk.clear()?;
    wait(|| Ok(!is_failing(&rig)?)).context("the agent recovers")?;
    // Every line is whole, and the totals are right: cumulative points heal.
    let truth = mix::client_truth(&server.mix, &sent);
    rig.counts_equal(&BTreeMap::from([("full-disk-client".to_owned(), truth)]))?;
    for line in std::fs::read_to_string(&file)?.lines() {
        serde_json::from_str::<serde_json::Value>(line).context("a line that is not whole")?;
    }
    server.stop();
    let ended = rig.agent.terminate()?;
    ensure!(ended.success(), "the agent ended with {ended}");
    Ok(())
}

fn is_failing(rig: &Rig) -> Result<bool> {
    let status = status(rig)?;
    let degraded = status["degraded"].as_array();
    Ok(degraded.is_some_and(|reasons| reasons.iter().any(|reason| reason == "file_failing")))
}

fn status(rig: &Rig) -> Result<serde_json::Value> {
    let output = rig.agent.command(["status", "-o", "json"])?;
    serde_json::from_slice(&output.stdout).context("status in JSON")
}

fn lines(file: &Path) -> Result<usize> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn wait(mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within 15 s");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
