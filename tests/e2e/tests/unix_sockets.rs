//! Clients on Unix sockets: whom they asked is the socket's name where no `Host` says it.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kerntally_e2e::plain::{ask_unix, serve_unix};
use kerntally_e2e::rig::{Rig, watch_only};
use kerntally_e2e::truth::Role;

#[test]
fn a_client_without_a_host_names_the_socket() {
    names_the_socket().unwrap();
}

fn names_the_socket() -> Result<()> {
    let rig = Rig::start_with(|options| {
        watch_only(options, &std::env::current_exe().unwrap_or_default());
    })?;
    let directory = rig.directory("Sockets")?;
    let path = directory.join("App.sock").display().to_string();
    let long = directory.join("x".repeat(100 - directory.as_os_str().len()));
    let long = long.display().to_string();
    let hidden = format!("@kerntally-e2e-{}", std::process::id());
    let mut expected = BTreeMap::new();
    for name in [&path, &long, &hidden] {
        serve_unix(name)?;
        for _ in 0..20 {
            ensure!(ask_unix(name, "GET /a HTTP/1.0\r\n\r\n")? == 200);
        }
        expected.insert((Some(name.clone()), None), 20);
    }
    // With one, it says it, on whatever socket.
    ensure!(
        ask_unix(
            &path,
            "GET /a HTTP/1.1\r\nHost: app:81\r\nConnection: close\r\n\r\n"
        )? == 200
    );
    expected.insert((Some("app".to_owned()), Some(81)), 1);
    let deadline = Instant::now() + Duration::from_secs(12);
    loop {
        let mut found = BTreeMap::new();
        for series in rig.agent.series()? {
            if series.role == Role::Client {
                *found
                    .entry((series.server_address, series.server_port))
                    .or_insert(0) += series.count;
            }
        }
        if found == expected {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{found:?}, expected {expected:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let lint = rig.agent.command(["lint"])?;
    ensure!(
        lint.status.success(),
        "{}",
        String::from_utf8_lossy(&lint.stdout)
    );
    Ok(())
}
