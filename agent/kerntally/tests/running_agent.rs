//! Commands that ask a running agent, asked of one that answers by rote.

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::process::{Command, Output, Stdio};

    use serde_json::{Value, json};

    /// Answers each command with the same document, on a thread that ends with the test's process.
    struct FakeAgent {
        socket: PathBuf,
        _dir: tempfile::TempDir,
    }

    impl FakeAgent {
        fn new(answers: &[(&str, Value)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("control.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let answers: HashMap<String, Value> = answers
                .iter()
                .map(|(command, answer)| ((*command).to_owned(), answer.clone()))
                .collect();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    converse(&stream, &answers);
                }
            });
            Self { socket, _dir: dir }
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kerntally"));
            command
                .args(arguments)
                .arg("--socket")
                .arg(&self.socket)
                .env_clear()
                .stdin(Stdio::null());
            command
        }

        fn run(&self, arguments: &[&str]) -> (i32, String, String) {
            let Output {
                status,
                stdout,
                stderr,
            } = self.command(arguments).output().unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (status.code().unwrap(), text(stdout), text(stderr))
        }

        fn json(&self, arguments: &[&str]) -> Value {
            let (code, out, err) = self.run(&[arguments, &["-o", "json"]].concat());
            assert_eq!(code, 0, "{arguments:?}: {err}");
            let document: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(document["schema"], "kerntally/v1", "{arguments:?}");
            document
        }
    }

    fn converse(mut stream: &UnixStream, answers: &HashMap<String, Value>) {
        let mut line = String::new();
        if BufReader::new(stream).read_line(&mut line).is_err() {
            return;
        }
        let request: Value = serde_json::from_str(&line).unwrap_or_default();
        let answer = answers
            .get(request["command"].as_str().unwrap_or_default())
            .cloned()
            .unwrap_or_else(|| json!({ "refused": format!("unknown request {line}") }));
        // The command may have gone away.
        drop(stream.write_all(format!("{answer}\n").as_bytes()));
    }

    fn ok(document: Value) -> Value {
        let mut document = document;
        document["schema"] = json!("kerntally/v1");
        json!({ "ok": document })
    }

    fn snapshot(route: &str) -> Value {
        let text =
            |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let point = json!({
            "attributes": [
                text("http.request.method", "GET"), text("url.scheme", "http"), text("http.route", route),
                { "key": "http.response.status_code", "value": { "intValue": "200" } },
            ],
            "startTimeUnixNano": "1700000000000000000", "timeUnixNano": "1700000015000000000",
            "count": "1", "sum": 0.05, "min": 0.05, "max": 0.05, "scale": 0, "zeroCount": "0",
            "positive": { "offset": -5, "bucketCounts": ["1"] },
        });
        ok(json!({
            "interval_seconds": 10.0,
            "declared": { "attributes": {}, "patterns": [], "methods": [] },
            "limits": { "per_service": 3, "total": 10 },
            "requests": [{ "resourceMetrics": [{
                "resource": { "attributes": [text("service.name", "api"), text("service.instance.id", "1")] },
                "scopeMetrics": [{
                    "scope": { "name": "kerntally/http" },
                    "schemaUrl": "https://opentelemetry.io/schemas/1.44.0",
                    "metrics": [{ "name": "http.server.request.duration", "unit": "s",
                        "exponentialHistogram": { "aggregationTemporality": 2, "dataPoints": [point] } }],
                }],
            }] }],
        }))
    }

    #[test]
    fn lint_judges_what_would_be_pushed() {
        let clean = FakeAgent::new(&[("snapshot", snapshot("/users/{id}"))]);
        let (code, out, err) = clean.run(&["lint"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("1 points, 0 exemplars: 0 violations"), "{out}");
        let raw = FakeAgent::new(&[("snapshot", snapshot("/users/123"))]);
        let (code, out, _) = raw.run(&["lint", "-o", "json"]);
        assert_eq!(code, 4, "{out}");
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document["violations"], 1);
        let finding = &document["findings"][0];
        assert_eq!(finding["rule"], "route.raw");
        assert_eq!(finding["where"]["service"], "api");
        assert_eq!(finding["found"], "`/users/123`");
        let (code, out, _) = clean.run(&["lint", "--require-exemplars"]);
        assert_eq!(code, 4);
        assert!(
            out.contains("exemplar.required api http.server.request.duration"),
            "{out}"
        );
    }

    #[test]
    fn cost_reckons_with_the_agents_interval_and_limits() {
        let agent = FakeAgent::new(&[("snapshot", snapshot("/"))]);
        let document = agent.json(&[
            "cost",
            "--nodes",
            "10",
            "--price",
            "8/1000",
            "--what-if",
            "attr=region:5",
            "--what-if",
            "interval=60s",
        ]);
        assert_eq!(document["now"]["series"], 1);
        assert_eq!(document["now"]["points_per_minute"], 6.0);
        assert_eq!(document["now"]["total_cost"], 0.08);
        assert_eq!(document["what_if"][0]["series"], 3);
        assert_eq!(document["what_if"][0]["capped_services"], json!(["api"]));
        assert_eq!(document["what_if"][1]["points_per_minute"], 1.0);
        let (code, out, _) = agent.run(&["cost"]);
        assert_eq!(code, 0);
        assert!(
            out.contains("every 10 s") && out.contains("http.server.request.duration"),
            "{out}"
        );
    }

    #[test]
    fn lists_are_shown_as_they_are_answered() {
        let routes = ok(
            json!({ "routes": [{ "service": "api", "namespace": null, "role": "server",
            "template": "/users/{id}", "source": "learnt", "exchanges": 5 }] }),
        );
        let series = ok(json!({ "total": { "live": 3, "limit": 9 }, "services": [
            { "name": "api", "namespace": null, "live": 3, "limit": 5, "overflowed": 2, "attributes": [] }] }));
        let services = ok(json!({ "services": [], "excluded": [
            { "pid": 7, "port": 0, "role": "server", "reason": "discovery.default_exclude" }] }));
        let agent = FakeAgent::new(&[
            ("routes", routes),
            ("series", series),
            ("services", services),
        ]);
        assert_eq!(
            agent.json(&["routes"])["routes"][0]["template"],
            "/users/{id}"
        );
        assert_eq!(agent.json(&["series"])["total"]["limit"], 9);
        assert_eq!(
            agent.json(&["routes", "suggest"])["patterns"][0]["pattern"],
            "/users/{id}"
        );
        assert!(
            agent
                .run(&["routes", "suggest"])
                .1
                .contains("    - \"/users/{id}\"")
        );
        assert!(agent.json(&["services"])["excluded"].is_null());
        assert_eq!(agent.json(&["services", "--all"])["excluded"][0]["pid"], 7);
        assert!(!agent.run(&["services"]).1.contains("left out"));
        assert!(
            agent
                .run(&["services", "--all"])
                .1
                .contains("pid 7 as server left out")
        );
    }

    #[test]
    fn answers_of_refusal_and_failure_have_their_statuses() {
        let agent = FakeAgent::new(&[
            (
                "reload",
                json!({ "refused": "k.yaml:5: exporrt: unknown key" }),
            ),
            ("series", json!({ "failed": "the agent is stopping" })),
            ("ledger", json!({ "nonsense": 1 })),
        ]);
        let (code, _, err) = agent.run(&["config", "reload"]);
        assert_eq!(
            (code, err.trim_end()),
            (2, "kerntally: k.yaml:5: exporrt: unknown key")
        );
        let (code, _, err) = agent.run(&["series"]);
        assert_eq!(
            (code, err.trim_end()),
            (1, "kerntally: the agent is stopping")
        );
        assert_eq!(agent.run(&["ledger"]).0, 1);
        assert_eq!(agent.run(&["explain"]).0, 2);
        assert_eq!(agent.run(&["explain", "--pid", "1", "--port", "2"]).0, 2);
    }

    #[test]
    fn processes_are_explained_by_number_and_by_port() {
        let verdicts = ok(
            json!({ "verdicts": [{ "role": "server", "port": 1, "watched": false,
            "reason": "discovery.default_exclude" }] }),
        );
        let agent = FakeAgent::new(&[("explain", verdicts)]);
        let own = std::process::id().to_string();
        let document = agent.json(&["explain", "--pid", &own]);
        assert_eq!(document["processes"][0]["pid"], std::process::id());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let (code, out, err) = agent.run(&["explain", "--port", &port]);
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with(&format!("pid {own} ")), "{out}");
        assert!(
            out.contains("as server on port 1: not watched: discovery.default_exclude"),
            "{out}"
        );
        let (code, _, err) = agent.run(&["explain", "--pid", "4194305"]);
        assert_eq!((code, err.trim_end()), (1, "kerntally: no process 4194305"));
        drop(listener);
        assert_eq!(agent.run(&["explain", "--port", &port]).0, 1);
        assert_eq!(agent.run(&["explain", "--pod", "api-0"]).0, 2);
        let (code, _, err) = agent.run(&["explain", "--pod", "shop/kerntally-no-such-0"]);
        assert_eq!(code, 1);
        assert!(err.contains("var/log/pods"), "{err}");
    }

    #[test]
    fn a_stream_ends_quietly_when_nobody_reads_it() {
        let traffic = ok(
            json!({ "traffic": [{ "service": "api", "role": "server", "route": "/",
            "exchanges": 1, "errors": 0, "rate": 1.0, "p50_seconds": 0.1, "p95_seconds": 0.1,
            "p99_seconds": 0.1 }] }),
        );
        let agent = FakeAgent::new(&[("traffic", traffic)]);
        assert_eq!(
            agent.json(&["top", "--once"])["traffic"][0]["service"],
            "api"
        );
        let mut child = agent
            .command(&["top", "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with('{') && line.ends_with("}\n"), "{line}");
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), b"".as_slice())
        );
    }
}
