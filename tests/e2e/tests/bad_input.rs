//! Bad configuration, missing privileges, kernels without what is needed: the exit code and the words say so.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kerntally_e2e::agent;
use kerntally_e2e::install;
use kerntally_e2e::rig::skip;

fn kerntally(arguments: &[&str]) -> Output {
    run(Command::new(agent::binary().unwrap()).args(arguments))
}

/// An agent that should refuse to start and does not is stopped.
fn run(command: &mut Command) -> Output {
    let mut limited = Command::new("timeout");
    limited
        .arg("20")
        .arg(command.get_program())
        .args(command.get_args());
    limited.stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn written(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("kerntally.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Each bad file with the line and the words that the answer must have.
const BAD_FILES: [(&str, u32, &str); 7] = [
    ("sides: [server]\nhooks:\n  bakend: auto\n", 3, "bakend"),
    ("hooks:\n  backend: magic\n", 2, "hooks.backend"),
    ("hooks:\n  ring: 3 parsecs\n", 2, "hooks.ring"),
    ("export:\n  interval: soon\n", 2, "export.interval"),
    ("sides: [server, sideways]\n", 1, "sides"),
    (
        "attributes:\n  http.server.request.duration: [http.request.methud]\n",
        2,
        "http.request.methud",
    ),
    ("nonsense: true\n", 1, "nonsense"),
];

#[test]
fn bad_files_name_file_line_and_key() {
    for (text, line, key) in BAD_FILES {
        let directory = tempfile::tempdir().unwrap();
        let file = written(directory.path(), text);
        let name = file.display().to_string();
        for arguments in [vec!["config", "validate", &name], vec!["run", "-c", &name]] {
            let output = kerntally(&arguments);
            let said = said(&output);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{arguments:?} on {text:?}: {said}"
            );
            assert!(said.contains(&name), "{text:?}: no file in {said}");
            assert!(
                said.contains(&format!(":{line}")) || said.contains(&format!("line {line}")),
                "{text:?}: no line {line} in {said}"
            );
            assert!(said.contains(key), "{text:?}: no key {key} in {said}");
        }
    }
}

#[test]
fn a_good_file_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(
        directory.path(),
        "sides: [server]\nhooks: {backend: auto, ring: 1MiB}\n",
    );
    let output = kerntally(&["config", "validate", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory_name = directory.path().to_str().unwrap();
    for name in ["/nonexistent/kerntally.yaml", directory_name] {
        let output = kerntally(&["run", "-c", name]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(name), "{}", said(&output));
    }
    let binary = directory.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0, 1, 2]).unwrap();
    let output = kerntally(&["config", "validate", binary.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn bad_arguments_are_bad_usage() {
    for arguments in [
        vec!["run", "--set", "hooks.bakend=auto"],
        vec!["run", "--set", "hooks.backend=magic"],
        vec!["run", "--interval", "soon"],
        vec!["run", "--export", "pigeon"],
        vec!["frobnicate"],
        vec!["run", "--frobnicate"],
    ] {
        let output = kerntally(&arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(!said(&output).is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn without_an_agent_the_socket_is_named() {
    for command in [["ledger"].as_slice(), &["status"], &["probes", "list"]] {
        let socket = "/nonexistent/control.sock";
        let output = kerntally(&[command, &["--socket", socket]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let expected = format!("no agent at {socket}; start one with: sudo kerntally run");
        assert!(said(&output).contains(&expected), "{}", said(&output));
    }
}

#[test]
fn without_privileges_the_capabilities_are_named() {
    let Some(setpriv) = install::on_path("setpriv") else {
        return skip(
            "without_privileges_the_capabilities_are_named",
            "setpriv is not installed",
        );
    };
    let directory = tempfile::tempdir().unwrap();
    open(directory.path());
    let program = directory.path().join("kerntally");
    std::fs::copy(agent::binary().unwrap(), &program).unwrap();
    let socket = directory.path().join("control.sock");
    let output = run(Command::new(setpriv)
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--inh-caps",
            "-all",
        ])
        .arg(program)
        .args([
            "run",
            "--export",
            "none",
            "--set",
            "hooks.exclusive=false",
            "--set",
            "self.listen=null",
        ])
        .arg("--socket")
        .arg(socket));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for word in ["CAP_BPF", "CAP_PERFMON", "setcap"] {
        assert!(
            said.contains(word) || (word == "setcap" && said.contains("sudo")),
            "no {word} in {said}"
        );
    }
}

fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn without_type_information_it_says_what_is_missing() {
    let Some(unshare) = install::on_path("unshare") else {
        return skip(
            "without_type_information_it_says_what_is_missing",
            "unshare is not installed",
        );
    };
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs none /sys/kernel/btf && exec {} run --export none --socket {} \
         --set hooks.exclusive=false --set self.listen=null",
        agent::binary().unwrap().display(),
        directory.path().join("control.sock").display()
    );
    let output = run(Command::new(unshare).args(["--mount", "sh", "-c", &script]));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("BTF"), "{said}");
}

#[test]
fn a_back_end_that_the_kernel_refuses_is_explained() {
    // One of the two is refused wherever only one works; where both work there is nothing to explain.
    let refused = ["fexit", "sock-tracepoint"]
        .into_iter()
        .find_map(|backend| {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("control.sock");
            let backend_set = format!("hooks.backend={backend}");
            let arguments = [
                "run",
                "--export",
                "none",
                "--set",
                "hooks.exclusive=false",
                "--set",
                "self.listen=null",
                "--set",
                &backend_set,
                "--socket",
                socket.to_str().unwrap(),
            ];
            let output = kerntally(&arguments);
            (output.status.code() == Some(3)).then(|| (backend, said(&output)))
        });
    match refused {
        Some((backend, said)) => assert!(said.contains(backend), "{said}"),
        None => skip(
            "a_back_end_that_the_kernel_refuses_is_explained",
            "this kernel refuses none",
        ),
    }
}
