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

    /// Options that every command takes.
    const GLOBAL: [&str; 9] = [
        "--config <FILE>",
        "--output <OUTPUT>",
        "--socket <PATH>",
        "--verbose",
        "--quiet",
        "--color <WHEN>",
        "--unknown-keys <WHAT>",
        "--help",
        "--version",
    ];

    /// What every command takes is shown once; an option may go on over lines.
    fn without_global_options(help: &str) -> String {
        let mut kept = String::new();
        let mut is_global = false;
        for line in help.lines() {
            let is_option = line.trim_start().starts_with('-');
            let goes_on = !is_option && line.starts_with("          ");
            is_global = if goes_on {
                is_global
            } else {
                is_option && GLOBAL.iter().any(|option| line.contains(option))
            };
            if !is_global {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        kept
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
            ["series", "-v"],
            ["routes", "suggest"],
            ["top", "--once"],
            ["explain", "--pid=1"],
            ["cost", "-v"],
            ["lint", "-v"],
            ["config", "reload"],
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
            vec!["run", "--export", "none,prometheus"],
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
                "--pid",
                "1",
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
    fn the_help_of_every_command_is_as_documented() {
        let commands: [&[&str]; 26] = [
            &[],
            &["run"],
            &["check"],
            &["status"],
            &["probes"],
            &["probes", "list"],
            &["probes", "enable"],
            &["probes", "disable"],
            &["top"],
            &["services"],
            &["explain"],
            &["routes"],
            &["routes", "suggest"],
            &["series"],
            &["ledger"],
            &["cost"],
            &["lint"],
            &["views"],
            &["views", "suggest"],
            &["config"],
            &["config", "print"],
            &["config", "validate"],
            &["config", "reload"],
            &["config", "schema"],
            &["completions"],
            &["version"],
        ];
        let mut all = String::new();
        for command in commands {
            let (code, out, _) = output(&[command, &["-h"]].concat());
            assert_eq!(code, 0, "{command:?}");
            let shown = if command.is_empty() {
                out
            } else {
                without_global_options(&out)
            };
            all.extend([
                &format!("$ kerntally {}\n", command.join(" ")),
                &shown,
                "\n",
            ]);
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn completions_are_written_for_every_shell() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let (code, out, _) = output(&["completions", shell]);
            assert_eq!(code, 0);
            assert!(out.contains("kerntally") && out.contains("lint"), "{shell}");
            assert!(!out.contains("a command that does not exist"), "{shell}");
        }
        assert_eq!(output(&["completions", "tcsh"]).0, 2);
    }

    #[test]
    fn lint_ends_with_what_it_found() {
        let dir = tempfile::tempdir().unwrap();
        let lint = |text: &str, more: &[&str]| {
            let path = file(dir.path(), text);
            output(&[&["lint", "--file", &path], more].concat())
        };
        let clean = r#"{"resourceMetrics":[]}"#;
        assert_eq!(lint(clean, &[]).0, 0);
        let broken = r#"{"resourceMetrics":[{"scopeMetrics":[]}]}"#;
        let (code, out, err) = lint(broken, &["-o", "json"]);
        assert_eq!((code, err.as_str()), (4, ""));
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["findings"][0]["rule"], "resource.service_name");
        for unreadable in ["", "hello\n", "{\"a\":1}\n", "{\"resourceLogs\":[]}\n"] {
            let (code, _, err) = lint(unreadable, &[]);
            assert_eq!(code, 2, "{unreadable}");
            assert!(err.contains("k.yaml"), "{err}");
        }
        assert_eq!(output(&["lint", "--file", "/nonexistent/f"]).0, 2);
        // Both are said: what is wrong, and what could not be read.
        let (code, out, err) = lint(&format!("{broken}\nhello\n"), &[]);
        assert_eq!(code, 2);
        assert!(
            out.contains("resource.service_name") && err.contains("k.yaml:2"),
            "{out}{err}"
        );
    }

    #[test]
    fn lint_reads_standard_input() {
        use std::io::Write;
        let mut child = kerntally(&["lint", "--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"{\"resourceMetrics\":[]}\n").unwrap();
        drop(stdin);
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    }

    #[test]
    fn lint_audits_configurations_without_an_agent() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = |processors: &str| {
            format!(
                "receivers: {{otlp: }}\nprocessors: {{cumulativetodelta: }}\nexporters: {{prometheusremotewrite: }}\n\
                 service: {{pipelines: {{metrics: {{receivers: [otlp], processors: [{processors}], exporters: [prometheusremotewrite]}}}}}}\n"
            )
        };
        let path = file(dir.path(), &pipeline(""));
        assert_eq!(output(&["lint", "--config", &path]).0, 0);
        let path = file(dir.path(), &pipeline("cumulativetodelta"));
        let (code, out, _) = output(&["lint", "-c", &path, "-o", "json"]);
        assert_eq!(code, 4);
        assert!(out.contains("config.delta_to_cumulative_only"), "{out}");
        let path = file(dir.path(), "export: {interval: 15s}\n");
        assert_eq!(output(&["lint", "--config", &path]).0, 0);
        let path = file(dir.path(), "exporrt: {}\n");
        assert_eq!(output(&["lint", "--config", &path]).0, 2);
        // What runs nowhere is refused, and told apart from what cannot be read.
        let path = file(
            dir.path(),
            "export: {temporality: delta, prometheus: {listen: \"127.0.0.1:9470\"}}\n",
        );
        let (code, out, _) = output(&["lint", "--config", &path]);
        assert_eq!(code, 4);
        assert!(out.contains("config.pull_of_delta"), "{out}");
        let (code, _, err) = output(&["config", "validate", &path]);
        assert_eq!(code, 2);
        assert!(err.contains("export.prometheus.listen"), "{err}");
        // Named by the variable it is the agent's own, and the agent is asked.
        let mut command = kerntally(&["lint", "--socket", "/nonexistent/s"]);
        command.env("KERNTALLY_CONFIG", file(dir.path(), ""));
        assert_eq!(command.output().unwrap().status.code(), Some(1));
    }

    #[test]
    fn a_process_is_inspected_without_an_agent() {
        let own = std::process::id().to_string();
        let (code, out, err) = output(&["check", "--pid", &own, "-o", "json"]);
        assert_eq!(code, 0, "{err}");
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["process"]["pid"], std::process::id());
        assert_eq!(document["process"]["verdicts"][0]["watched"], true);
        let (code, _, err) = output(&["check", "--pid", "4194305"]);
        assert_eq!(code, 1);
        assert!(err.contains("no process 4194305"), "{err}");
    }

    #[test]
    fn views_are_suggested_from_legacy_names() {
        let (code, out, _) = output(&["views", "suggest", "--from", "http_request_duration_ms"]);
        assert_eq!(code, 0);
        assert!(
            out.contains("name: http_request_duration_ms") && out.contains("unit: ms"),
            "{out}"
        );
        assert_eq!(
            output(&["views", "suggest", "--from", "go_goroutines"]).0,
            2
        );
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
