//! The command line as users and scripts meet it: exit statuses, messages, forms of output.

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use serde_json::Value;

    fn kerntally(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kerntally"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command
    }

    fn output(arguments: &[&str]) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = kerntally(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn file(dir: &Path, text: &str) -> String {
        let path = dir.join("k.yaml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn without_an_agent_commands_fail_in_the_promised_words() {
        for command in [
            ["status", "-v"],
            ["ledger", "-v"],
            ["services", "-v"],
            ["probes", "list"],
        ] {
            let arguments = [command.as_slice(), &["--socket", "/nonexistent/s"]].concat();
            let (code, out, err) = output(&arguments);
            assert_eq!((code, out.as_str()), (1, ""), "{command:?}");
            let expected = "no agent at /nonexistent/s; start one with: sudo kerntally run";
            assert!(err.contains(expected), "{err}");
        }
    }

    #[test]
    fn waiting_for_an_agent_ends() {
        let arguments = ["status", "--wait", "300ms", "--socket", "/nonexistent/s"];
        assert_eq!(output(&arguments).0, 1);
    }

    #[test]
    fn the_socket_comes_from_the_variable_too() {
        let mut command = kerntally(&["ledger"]);
        command.env("KERNTALLY_CONTROL_SOCKET", "/nonexistent/v");
        let err = String::from_utf8(command.output().unwrap().stderr).unwrap();
        assert!(err.contains("no agent at /nonexistent/v"), "{err}");
    }

    #[test]
    fn a_wrong_configuration_is_named_and_ends_with_2() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "export:\n  intervall: 15s\n");
        for arguments in [
            ["config", "validate", &path],
            ["run", "-c", &path],
            ["check", "-c", &path],
        ] {
            let (code, _, err) = output(&arguments);
            assert_eq!(code, 2, "{arguments:?}: {err}");
            assert!(
                err.contains(&format!("{path}:2: export.intervall: unknown key")),
                "{err}"
            );
        }
        let (code, _, err) = output(&["config", "validate", "/nonexistent/k.yaml"]);
        assert_eq!(code, 2);
        assert!(err.contains("/nonexistent/k.yaml"), "{err}");
    }

    #[test]
    fn unknown_keys_can_be_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "new_key: 1\n");
        let (code, out, err) = output(&["config", "validate", &path, "--unknown-keys", "warn"]);
        assert_eq!(code, 0, "{err}");
        assert!(
            out.contains("valid") && err.contains("k.yaml:1: new_key: unknown key"),
            "{out}{err}"
        );
    }

    #[test]
    fn bad_usage_ends_with_2() {
        for arguments in [
            vec!["explode"],
            vec!["run", "--export", "kafka"],
            vec!["run", "--export", "none,otlp"],
            vec!["run", "--export", "prometheus"],
            vec!["run", "--interval", "often"],
            vec!["run", "--set", "hooks.backend=magic"],
            vec!["probes", "enable"],
            vec!["probes", "enable", "http2", "--socket", "/nonexistent/s"],
            vec!["probes", "disable", "http9", "--socket", "/nonexistent/s"],
            vec![
                "probes",
                "disable",
                "--all",
                "--persist",
                "--socket",
                "/nonexistent/s",
            ],
        ] {
            let (code, _, err) = output(&arguments);
            assert_eq!(code, 2, "{arguments:?}: {err}");
            assert!(!err.is_empty());
        }
    }

    #[test]
    fn help_and_version_succeed() {
        for arguments in [
            &["--help"][..],
            &["run", "--help"],
            &["version"],
            &["--version"],
        ] {
            let (code, out, _) = output(arguments);
            assert_eq!(code, 0, "{arguments:?}");
            assert!(!out.is_empty());
        }
        let (_, out, _) = output(&["version", "-o", "json"]);
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["schema"], "kerntally/v1");
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_effective_configuration_is_valid_and_shows_no_credentials() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(
            dir.path(),
            "export: {otlp: {headers: {authorization: hunter2}}}\n",
        );
        let set = "export.interval=9s";
        let (code, out, _) = output(&["config", "print", "--effective", "-c", &path, "--set", set]);
        assert_eq!(code, 0);
        assert!(
            out.contains("interval: 9s") && !out.contains("hunter2"),
            "{out}"
        );
        let printed = file(dir.path(), &out);
        let (code, _, err) = output(&["config", "validate", &printed]);
        assert_eq!(code, 0, "{err}");
    }

    #[test]
    fn the_schema_knows_every_section() {
        let (code, out, _) = output(&["config", "schema"]);
        assert_eq!(code, 0);
        let schema: Value = serde_json::from_str(&out).unwrap();
        for section in ["discovery", "hooks", "export", "self", "control"] {
            assert!(schema["properties"][section].is_object(), "{section}");
        }
    }

    #[test]
    fn a_closed_pipe_ends_a_command_quietly() {
        let mut child = kerntally(&["config", "schema"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
    }
}
