//! Real programs that measurements go to: an OpenTelemetry Collector and a Prometheus, each on free ports of
//! loopback and gone when dropped.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::servers::free_address;

/// How long a program may take to listen.
const START: Duration = Duration::from_secs(30);

/// A program that is killed when it is dropped.
#[derive(Debug)]
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A collector that writes what it is sent.
#[derive(Debug)]
pub struct Collector {
    /// Where it takes OTLP over gRPC.
    pub grpc: String,
    /// Where it takes OTLP over HTTP.
    pub http: String,
    /// What it was sent, in the OTLP file format.
    pub received: PathBuf,
    _program: Program,
}

impl Collector {
    /// Starts one in a directory of its own.
    pub fn start(program: &Path, directory: &Path) -> Result<Self> {
        let (grpc, http) = (free_address()?, free_address()?);
        let received = directory.join("received.json");
        let configuration = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{grpc}\"}}, http: {{endpoint: \"{http}\"}}}}}}}}\n\
             exporters: {{file: {{path: {}}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n\
             \x20 pipelines: {{metrics: {{receivers: [otlp], exporters: [file]}}}}\n",
            received.display()
        );
        let file = directory.join("collector.yaml");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        let program = start(&mut command, directory, &[&grpc, &http])?;
        Ok(Self {
            grpc,
            http,
            received,
            _program: program,
        })
    }
}

/// A Prometheus with its OTLP receiver on.
#[derive(Debug)]
pub struct Prometheus {
    /// Its HTTP address.
    pub address: String,
    _program: Program,
}

impl Prometheus {
    /// Starts one in a directory of its own, with this configuration.
    pub fn start(program: &Path, directory: &Path, configuration: &str) -> Result<Self> {
        let address = free_address()?;
        let file = directory.join("prometheus.yaml");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
            ]);
        let program = start(&mut command, directory, &[&address])?;
        let prometheus = Self {
            address,
            _program: program,
        };
        let deadline = Instant::now() + START;
        while get(&prometheus.address, "/-/ready").is_err() {
            ensure!(
                Instant::now() < deadline,
                "Prometheus is not ready: {}",
                log(directory)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }

    /// Labels and value of each series that an expression gives at this moment.
    pub fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let found = self.ask("/api/v1/query", &[("query", expression)])?;
        let series = found["result"].as_array().context("no result")?;
        series
            .iter()
            .map(|one| {
                let text = one["value"][1].as_str().context("no value")?;
                Ok((one["metric"].clone(), text.parse()?))
            })
            .collect()
    }

    /// The exemplars of the last ten minutes on the series of a selector.
    pub fn exemplars(&self, selector: &str) -> Result<Vec<Value>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let (start, end) = (now.as_secs() - 600, now.as_secs() + 60);
        let found = self.ask(
            "/api/v1/query_exemplars",
            &[
                ("query", selector),
                ("start", &start.to_string()),
                ("end", &end.to_string()),
            ],
        )?;
        let series = found.as_array().map_or(&[][..], Vec::as_slice);
        let exemplars = series
            .iter()
            .flat_map(|series| series["exemplars"].as_array().cloned().unwrap_or_default());
        Ok(exemplars.collect())
    }

    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let pairs: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let body = get(&self.address, &format!("{path}?{}", pairs.join("&")))?;
        let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].clone())
    }
}

fn start(command: &mut Command, directory: &Path, listens: &[&str]) -> Result<Program> {
    let file = File::create(directory.join("far_end.log"))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let program = Program(child);
    let deadline = Instant::now() + START;
    for address in listens {
        while TcpStream::connect(address).is_err() {
            ensure!(
                Instant::now() < deadline,
                "nothing listens on {address}: {}",
                log(directory)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(program)
}

fn log(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("far_end.log")).unwrap_or_default()
}

/// The body of a good answer.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    ensure!(
        head.split(' ').nth(1) == Some("200"),
        "{path}: {}: {body}",
        head.lines().next().unwrap_or_default()
    );
    Ok(body.to_owned())
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let parts = text.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    parts.collect()
}
