//! Go writes and reads on different goroutines and threads: over many exchanges no pairing may slip.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "all of an integration test is a test"
)]

use std::time::Duration;

use kerntally_e2e::rig::{Rig, runs_everything, skip};
use kerntally_e2e::{install, pairing};

#[test]
fn no_pairing_slips() {
    let programs = match install::go_programs() {
        Ok(programs) => programs,
        Err(error) => return skip("no_pairing_slips", &format!("{error:#}")),
    };
    let requests = if runs_everything() {
        10_000_000
    } else {
        300_000
    };
    let rig = Rig::start().unwrap();
    let settle = Duration::from_secs(15);
    pairing::play(&programs.join("pairs-go"), &rig.agent, requests, settle).unwrap();
}
