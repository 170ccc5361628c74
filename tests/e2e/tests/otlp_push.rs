//! What the agent pushes, received by gRPC, by HTTP and by a real collector, holds the same counts.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of an integration test is a test"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kerntally_e2e::agent::AgentOptions;
use kerntally_e2e::export::{Series, last_push, parse_request};
use kerntally_e2e::rig::{Rig, send_from_process, skip};
use kerntally_e2e::servers::{self, free_address};
use kerntally_e2e::truth::Tally;
use kerntally_e2e::{install, mix};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use tonic::codec::CompressionEncoding;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kerntally-conversations");

/// The series of the last push that had any, and how many pushes there were.
#[derive(Clone, Debug, Default)]
struct Inbox(Arc<Mutex<(Vec<Series>, usize)>>);

impl Inbox {
    fn put(&self, request: &ExportMetricsServiceRequest) {
        let value = serde_json::to_value(request).unwrap();
        let series = parse_request(&value).unwrap();
        let mut inbox = self.0.lock().unwrap();
        inbox.1 += 1;
        if !series.is_empty() {
            inbox.0 = series;
        }
    }

    fn series(&self) -> Vec<Series> {
        self.0.lock().unwrap().0.clone()
    }

    fn pushes(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[tonic::async_trait]
impl MetricsService for Inbox {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.put(request.get_ref());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[test]
fn by_grpc() {
    let inbox = Inbox::default();
    let address = free_address().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let service = MetricsServiceServer::new(inbox.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = tonic::transport::Server::builder().add_service(service);
    runtime.spawn(server.serve(address.parse().unwrap()));
    let endpoint = format!("http://{address}");
    pushed(&|options| set_endpoint(options, &endpoint, "grpc"), &|| {
        Ok(inbox.series())
    })
    .unwrap();
    assert!(inbox.pushes() >= 2, "{} pushes", inbox.pushes());
}

/// Takes every window, and answers only every other time: what it was silent about comes again, byte for byte.
#[derive(Clone, Debug, Default)]
struct Windows(Arc<Mutex<Vec<ExportMetricsServiceRequest>>>);

impl Windows {
    /// The series of all windows, those that came again once.
    fn series(&self) -> Vec<Series> {
        let mut windows: Vec<ExportMetricsServiceRequest> = Vec::new();
        for request in self.0.lock().unwrap().iter() {
            if !windows.contains(request) {
                windows.push(request.clone());
            }
        }
        let series = windows.iter().flat_map(|window| {
            let value = serde_json::to_value(window).unwrap();
            parse_request(&value).unwrap()
        });
        series.collect()
    }

    fn repeats(&self) -> usize {
        let requests = self.0.lock().unwrap();
        let pairs = requests.windows(2);
        pairs.filter(|pair| pair[0] == pair[1]).count()
    }
}

#[tonic::async_trait]
impl MetricsService for Windows {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let request = request.into_inner();
        let value = serde_json::to_value(&request).unwrap();
        if parse_request(&value).unwrap().is_empty() {
            // The agent's own, which are pushed by themselves.
            return Ok(tonic::Response::new(ExportMetricsServiceResponse::default()));
        }
        let is_silent = {
            let mut windows = self.0.lock().unwrap();
            let is_known = windows.contains(&request);
            windows.push(request);
            !is_known
        };
        if is_silent {
            // Longer than a push may take.
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[test]
fn in_deltas_that_are_each_answered_late() {
    let windows = Windows::default();
    let address = free_address().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let service =
        MetricsServiceServer::new(windows.clone()).accept_compressed(CompressionEncoding::Gzip);
    let server = tonic::transport::Server::builder().add_service(service);
    runtime.spawn(server.serve(address.parse().unwrap()));
    let endpoint = format!("http://{address}");
    let change = |options: &mut AgentOptions| {
        set_endpoint(options, &endpoint, "grpc");
        let sets = ["export.temporality=delta", "export.otlp.timeout=300ms"];
        options.sets.extend(sets.map(str::to_owned));
    };
    pushed(&change, &|| Ok(windows.series())).unwrap();
    assert!(windows.repeats() >= 1, "{} repeats", windows.repeats());
}

#[test]
fn by_http() {
    let inbox = Inbox::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let receiver = inbox.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let receiver = receiver.clone();
            std::thread::spawn(move || receive(stream.unwrap(), &receiver).unwrap());
        }
    });
    pushed(
        &|options| set_endpoint(options, &endpoint, "http/protobuf"),
        &|| Ok(inbox.series()),
    )
    .unwrap();
    assert!(inbox.pushes() >= 2, "{} pushes", inbox.pushes());
}

/// Answers each POST to /v1/metrics on one connection.
fn receive(stream: TcpStream, inbox: &Inbox) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        ensure!(
            line.starts_with("POST /v1/metrics HTTP/1.1"),
            "unexpected request {line:?}"
        );
        let headers = headers(&mut reader)?;
        ensure!(
            headers
                .get("content-type")
                .is_some_and(|v| v == "application/x-protobuf")
        );
        ensure!(headers.get("content-encoding").is_some_and(|v| v == "gzip"));
        let length = headers
            .get("content-length")
            .context("no content length")?
            .parse()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
        inbox.put(&ExportMetricsServiceRequest::decode(&plain[..])?);
        reader.get_mut().write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )?;
    }
}

fn headers(reader: &mut impl std::io::BufRead) -> Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(headers);
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
    }
}

/// The real thing takes minutes to build: only where it is asked for.
#[test]
fn by_a_real_collector() {
    if std::env::var("KERNTALLY_E2E_COLLECTOR").is_err() {
        return skip("by_a_real_collector", "KERNTALLY_E2E_COLLECTOR is not set");
    }
    let program = match install::collector() {
        Ok(program) => program,
        Err(error) => return skip("by_a_real_collector", &format!("{error:#}")),
    };
    for protocol in ["grpc", "http/protobuf"] {
        let directory = tempfile::tempdir().unwrap();
        let (endpoint, collector) = collector(&program, directory.path(), protocol).unwrap();
        let received = directory.path().join("received.json");
        pushed(
            &|options| set_endpoint(options, &endpoint, protocol),
            &|| last_push(&received),
        )
        .unwrap();
        drop(collector);
    }
}

#[derive(Debug)]
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn collector(program: &Path, directory: &Path, protocol: &str) -> Result<(String, Collector)> {
    let (grpc, http) = (free_address()?, free_address()?);
    let configuration = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{grpc}\"}}, http: {{endpoint: \"{http}\"}}}}}}}}\n\
         exporters: {{file: {{path: {}/received.json}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n\
         \x20 pipelines: {{metrics: {{receivers: [otlp], exporters: [file]}}}}\n",
        directory.display()
    );
    let file = directory.join("collector.yaml");
    std::fs::write(&file, configuration)?;
    let log = std::fs::File::create(directory.join("collector.log"))?;
    let child = Command::new(program)
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the collector")?;
    let collector = Collector(child);
    let address = if protocol == "grpc" { grpc } else { http };
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(&address).is_err() {
        let log = std::fs::read_to_string(directory.join("collector.log")).unwrap_or_default();
        ensure!(
            Instant::now() < deadline,
            "the collector does not listen: {log}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((format!("http://{address}"), collector))
}

fn set_endpoint(options: &mut AgentOptions, endpoint: &str, protocol: &str) {
    "otlp".clone_into(&mut options.export);
    options
        .sets
        .push(format!("export.otlp.endpoint={endpoint}"));
    options
        .sets
        .push(format!("export.otlp.protocol={protocol}"));
}

/// Sends a mix and compares what arrived; then the agent ends, and its last push must still hold everything.
fn pushed(
    change: &dyn Fn(&mut AgentOptions),
    arrived: &dyn Fn() -> Result<Vec<Series>>,
) -> Result<()> {
    let mut rig = Rig::start_with(change)?;
    let mut server = servers::python(&rig.directory("server")?)?;
    let sent = send_from_process(
        Path::new(PROGRAM),
        "pushing-client",
        &server.address,
        &server.mix,
        3,
    )?;
    let truths = BTreeMap::from([
        (
            "pushing-client".to_owned(),
            mix::client_truth(&server.mix, &sent),
        ),
        (
            server.service.to_owned(),
            mix::server_truth(&server.mix, &sent),
        ),
    ]);
    wait_equal(&truths, arrived)?;
    // What happens right before the end is in the last push.
    let more = send_from_process(
        Path::new(PROGRAM),
        "last-client",
        &server.address,
        &server.mix,
        1,
    )?;
    let status = rig.agent.terminate()?;
    ensure!(status.success(), "the agent ended with {status}");
    server.stop();
    let last = BTreeMap::from([
        (
            "pushing-client".to_owned(),
            mix::client_truth(&server.mix, &sent),
        ),
        (
            "last-client".to_owned(),
            mix::client_truth(&server.mix, &more),
        ),
    ]);
    wait_equal(&last, arrived)
}

fn wait_equal(
    truths: &BTreeMap<String, Tally>,
    arrived: &dyn Fn() -> Result<Vec<Series>>,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(12);
    loop {
        let series = arrived()?;
        let mut differences = Vec::new();
        for (service, truth) in truths {
            let found: Vec<_> = series
                .iter()
                .filter(|series| series.service == *service)
                .cloned()
                .collect();
            differences.extend(truth.count_differences(&found));
        }
        if differences.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}", differences.join("; "));
        std::thread::sleep(Duration::from_millis(200));
    }
}
