//! The scripted conversations on this machine's kernel, with the back end that the agent chooses here.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::process::Command;

use kerntally_e2e::rig::{runs_everything, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

/// The peers are only worth anything if both sides of each conversation count the same.
#[test]
fn peers_agree_among_themselves() {
    if !runs_everything() {
        return skip(
            "peers_agree_among_themselves",
            "only with KERNTALLY_E2E_ALL=1",
        );
    }
    let status = Command::new(PROGRAM)
        .args(["--dry-run", "--quick"])
        .status()
        .unwrap();
    assert!(
        status.success(),
        "the conversations disagree without any agent"
    );
}

#[test]
fn every_conversation_is_counted_right() {
    let agent = kerntally_e2e::agent::binary().unwrap();
    let status = Command::new(PROGRAM)
        .arg("--agent")
        .arg(agent)
        .status()
        .unwrap();
    assert!(status.success(), "see the lines `case ... fail` above");
}
