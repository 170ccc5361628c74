mod faults;
mod outages;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Exporter, PushError, PushOutcome, SetupError};
use crate::{
    ExportMetricsServiceRequest,
    collector::{GrpcCollector, HttpCollector, answer},
    encode::{Batch, Encoder, MAX_REQUEST_BYTES, Payload},
    endpoint::{Compression, Endpoint, EndpointKind, Headers, OtlpSettings, Protocol},
    fixture::{snapshot, template},
};

pub(super) use outages::Script;

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

fn requests() -> Vec<ExportMetricsServiceRequest> {
    Encoder::new(template(), MAX_REQUEST_BYTES).encode(&snapshot())
}

fn payloads() -> Vec<Payload> {
    requests().iter().map(Payload::from).collect()
}

fn settings(address: SocketAddr, protocol: Protocol) -> OtlpSettings {
    let text = format!("http://{address}");
    OtlpSettings {
        endpoint: Endpoint::parse(&text, EndpointKind::Base, Some(protocol), false).unwrap(),
        headers: Headers::parse("x-tenant=shop,content-type=text/plain").unwrap(),
        timeout: Duration::from_secs(5),
        ..OtlpSettings::default()
    }
}

fn exporter(address: SocketAddr, protocol: Protocol) -> Exporter {
    Exporter::new(settings(address, protocol)).unwrap()
}

fn impatient(address: SocketAddr, protocol: Protocol) -> Exporter {
    let timeout = Duration::from_millis(300);
    Exporter::new(OtlpSettings {
        timeout,
        ..settings(address, protocol)
    })
    .unwrap()
}

/// Listens, and does with every connection what it is told.
async fn misbehave<F: Future<Output = ()> + Send>(
    with: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            with(stream).await;
        }
    });
    address
}

fn partial(rejected: i64, message: &str) -> ExportMetricsServiceResponse {
    ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess {
            rejected_data_points: rejected,
            error_message: message.to_owned(),
        }),
    }
}

fn grpc_script(answers: Vec<Result<ExportMetricsServiceResponse, Status>>) -> GrpcCollector {
    let collector = GrpcCollector::default();
    collector.script.lock().unwrap().extend(answers);
    collector
}

async fn push_http(collector: &HttpCollector) -> PushOutcome {
    let address = collector.serve().await;
    exporter(address, Protocol::HttpProtobuf)
        .push(payloads().into())
        .await
}

#[tokio::test]
async fn arrives_by_grpc_as_it_was_encoded() {
    let collector = GrpcCollector::default();
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    let outcome = exporter.push(payloads().into()).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert_eq!(outcome.points_sent, 4);
    assert_eq!(collector.requests(), requests());
    let metadata = collector.received.lock().unwrap()[0].0.clone();
    assert_eq!(metadata.get("x-tenant").unwrap(), "shop");
    assert_eq!(metadata.get("grpc-encoding").unwrap(), "gzip");
    let agent = metadata.get("user-agent").unwrap().to_str().unwrap();
    assert!(agent.starts_with(&super::user_agent()), "{agent}");
    let stats = exporter.stats();
    assert_eq!(
        (stats.pushes_ok, stats.pushes_failed, stats.points_sent),
        (1, 0, 4)
    );
    assert!(stats.last_success_unix_ns.is_some());
}

#[tokio::test]
async fn arrives_by_http_as_it_was_encoded() {
    for (protocol, compression, content_type) in [
        (
            Protocol::HttpProtobuf,
            Compression::Gzip,
            "application/x-protobuf",
        ),
        (
            Protocol::HttpProtobuf,
            Compression::None,
            "application/x-protobuf",
        ),
        (Protocol::HttpJson, Compression::Gzip, "application/json"),
        (Protocol::HttpJson, Compression::None, "application/json"),
    ] {
        let collector = HttpCollector::default();
        let settings = settings(collector.serve().await, protocol);
        let exporter = Exporter::new(OtlpSettings {
            compression,
            ..settings
        })
        .unwrap();
        let outcome = exporter.push(payloads().into()).await;
        assert!(outcome.accepted(), "{outcome:?}");
        assert_eq!(collector.received(), requests());
        let head = collector.heads.lock().unwrap()[0].clone();
        assert!(head.starts_with("post /v1/metrics http/1.1\r\n"), "{head}");
        assert!(
            head.contains(&format!("content-type: {content_type}\r\n")),
            "{head}"
        );
        assert!(head.contains("x-tenant: shop\r\n"), "{head}");
        assert!(head.contains("user-agent: kerntally/"), "{head}");
        assert_eq!(
            head.contains("content-encoding: gzip"),
            compression == Compression::Gzip
        );
    }
}

#[tokio::test]
async fn counts_what_the_collector_refused_and_takes_an_empty_remark_for_success() {
    let collector = grpc_script(vec![Ok(partial(3, "too old")), Ok(partial(0, ""))]);
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    let outcome = exporter.push(payloads().into()).await;
    assert!(outcome.accepted());
    assert_eq!((outcome.points_sent, outcome.points_rejected), (1, 3));
    assert_eq!(exporter.stats().last_remark.as_deref(), Some("too old"));
    let outcome = exporter.push(payloads().into()).await;
    assert_eq!((outcome.points_sent, outcome.points_rejected), (4, 0));
}

#[tokio::test]
async fn counts_what_the_collector_refused_by_http_in_either_encoding() {
    let collector = HttpCollector::default()
        .then(answer(
            "200 OK",
            PROTOBUF,
            &partial(1, "late").encode_to_vec(),
        ))
        .then(answer(
            "200 OK",
            "content-type: application/json; charset=utf-8\r\n",
            br#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"late"}}"#,
        ))
        .then(answer(
            "200 OK",
            "content-type: application/json\r\n",
            br#"{"partialSuccess":{}}"#,
        ));
    let exporter = exporter(collector.serve().await, Protocol::HttpProtobuf);
    for rejected in [1, 2, 0] {
        let outcome = exporter.push(payloads().into()).await;
        assert!(outcome.accepted(), "{outcome:?}");
        assert_eq!(outcome.points_rejected, rejected);
    }
}

#[tokio::test]
async fn tries_again_after_what_may_pass() {
    let collector = grpc_script(vec![Err(Status::unavailable("restarting"))]);
    let outcome = exporter(collector.serve().await, Protocol::Grpc)
        .push(payloads().into())
        .await;
    assert!(outcome.accepted());
    assert_eq!((outcome.retries, collector.requests().len()), (1, 2));

    let collector = HttpCollector::default().then(answer("503 Busy", "retry-after: 1\r\n", b""));
    let started = Instant::now();
    let outcome = push_http(&collector).await;
    assert!(outcome.accepted());
    assert_eq!((outcome.retries, collector.received().len()), (1, 2));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn never_repeats_what_the_collector_refused_for_good() {
    for code in [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::Unimplemented,
        Code::Internal,
        Code::Unknown,
        Code::ResourceExhausted,
    ] {
        let collector = grpc_script(vec![Err(Status::new(code, "no\nway"))]);
        let outcome = exporter(collector.serve().await, Protocol::Grpc)
            .push(payloads().into())
            .await;
        let error = PushError::Grpc {
            code: format!("{code:?}"),
            message: "no way".to_owned(),
        };
        assert_eq!(outcome.error, Some(error));
        assert_eq!((outcome.points_dropped, collector.requests().len()), (4, 1));
    }
    for status in [301, 400, 401, 404, 413, 500, 501] {
        let collector = HttpCollector::default().then(answer(&format!("{status} No"), "", b"why"));
        let outcome = push_http(&collector).await;
        assert_eq!(
            outcome.error,
            Some(PushError::Http {
                status,
                message: "why".to_owned()
            })
        );
        assert_eq!((outcome.points_dropped, collector.received().len()), (4, 1));
    }
}

#[tokio::test]
async fn one_refused_request_does_not_stop_the_next() {
    let parts = Encoder::new(template(), 800).encode(&snapshot());
    assert!(parts.len() > 1);
    let collector = grpc_script(vec![Err(Status::invalid_argument("bad"))]);
    let payloads: Vec<_> = parts.iter().map(Payload::from).collect();
    let outcome = exporter(collector.serve().await, Protocol::Grpc)
        .push(payloads.clone().into())
        .await;
    assert_eq!(collector.requests(), parts);
    assert_eq!(outcome.points_sent + outcome.points_dropped, 4);
    assert!(outcome.points_sent > 0 && outcome.points_dropped > 0);
    assert!(!outcome.accepted());
}

#[tokio::test]
async fn counts_what_was_never_encoded() {
    for hold in [None, Some(Duration::from_mins(1))] {
        let collector = GrpcCollector::default();
        let exporter = exporter(collector.serve().await, Protocol::Grpc);
        let batch = Batch::from(payloads()).of(9);
        let outcome = match hold {
            None => exporter.push(batch).await,
            Some(hold) => exporter.push_once(batch, hold).await,
        };
        assert_eq!(outcome.accepted(), hold.is_some(), "{outcome:?}");
        let stats = exporter.stats();
        assert_eq!((stats.points_sent, stats.points_dropped), (4, 5));
    }
}

#[tokio::test]
async fn leaves_the_collector_alone_as_long_as_it_wishes() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_hours(1)));
    let throttle = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
    let collector = grpc_script(vec![Err(throttle)]);
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    let outcome = exporter.push(payloads().into()).await;
    assert!(
        matches!(outcome.error, Some(PushError::Grpc { .. })),
        "{outcome:?}"
    );
    let outcome = exporter.push(payloads().into()).await;
    let Some(PushError::Throttled { left }) = outcome.error else {
        panic!("{outcome:?}")
    };
    assert!(left <= super::THROTTLE_MAX);
    assert_eq!((outcome.points_dropped, collector.requests().len()), (4, 1));
}

#[tokio::test]
async fn says_when_nobody_listens_and_heals_once_somebody_does() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = impatient(listener.local_addr().unwrap(), protocol);
        drop(listener);
        let outcome = exporter.push(payloads().into()).await;
        let Some(PushError::Connection { reason }) = &outcome.error else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains("refused"), "{reason}");
        assert_eq!(outcome.points_dropped, 4);
        let stats = exporter.stats();
        assert_eq!((stats.pushes_failed, stats.failing), (1, true));
        assert!(stats.last_error.unwrap().contains("refused"));
    }
    let collector = grpc_script(vec![Err(Status::invalid_argument("bad"))]);
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    assert!(!exporter.push(payloads().into()).await.accepted());
    assert!(exporter.push(payloads().into()).await.accepted());
    let stats = exporter.stats();
    assert_eq!(
        (stats.pushes_ok, stats.pushes_failed, stats.failing),
        (1, 1, false)
    );
}

#[tokio::test]
async fn a_collector_that_hangs_costs_the_timeout_once() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let address = misbehave(|stream| async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            drop(stream);
        });
        let exporter = impatient(address.await, protocol);
        let parts = Encoder::new(template(), 1).payloads(&snapshot());
        let started = Instant::now();
        let outcome = exporter.push(parts.into()).await;
        assert!(
            matches!(outcome.error, Some(PushError::Timeout { .. })),
            "{outcome:?}"
        );
        assert_eq!(outcome.points_dropped, 4);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn a_collector_that_cuts_or_answers_garbage_costs_bounded_time() {
    let answers: [&'static [u8]; 3] = [
        b"",
        b"\x00\xffgarbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
    ];
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        for bytes in answers {
            let address = misbehave(move |mut stream| async move {
                drop(stream.write_all(bytes).await);
            });
            let exporter = impatient(address.await, protocol);
            let started = Instant::now();
            let outcome = exporter.push(payloads().into()).await;
            assert!(!outcome.accepted(), "{outcome:?}");
            assert_eq!(outcome.points_dropped, 4);
            assert!(
                started.elapsed() < Duration::from_secs(2),
                "{:?}",
                started.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn refuses_an_endless_answer() {
    let endless = answer("200 OK", PROTOBUF, &vec![0; super::RESPONSE_BYTES + 1]);
    let outcome = push_http(&HttpCollector::default().then(endless)).await;
    assert_eq!(outcome.error, Some(PushError::ResponseTooLarge));
    let long = Ok(partial(0, &"x".repeat(super::RESPONSE_BYTES + 1)));
    let collector = grpc_script(vec![long]);
    let outcome = exporter(collector.serve().await, Protocol::Grpc)
        .push(payloads().into())
        .await;
    assert!(!outcome.accepted());
    assert_eq!(
        (outcome.retries, collector.requests().len()),
        (0, 1),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn tells_a_web_server_from_a_collector() {
    let html = answer(
        "200 OK",
        "content-type: text/html\r\n",
        b"<html>welcome</html>",
    );
    let outcome = push_http(&HttpCollector::default().then(html)).await;
    let error = outcome.error.unwrap().to_string();
    assert!(
        error.contains("content type text/html") && error.contains("/v1/metrics"),
        "{error}"
    );
    assert_eq!(outcome.points_dropped, 4);
}

#[tokio::test]
async fn pushes_one_at_a_time() {
    let address = misbehave(|stream| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop(stream);
    });
    let exporter = impatient(address.await, Protocol::Grpc);
    let payloads = payloads();
    let (first, second) = tokio::join!(
        exporter.push(payloads.clone().into()),
        exporter.push(payloads.clone().into())
    );
    assert!(matches!(first.error, Some(PushError::Timeout { .. })));
    assert_eq!(second.error, Some(PushError::Busy));
    assert_eq!(exporter.stats().points_dropped, 8);
}

#[tokio::test]
async fn counts_a_push_that_nobody_waits_for_any_more() {
    let address = misbehave(|stream| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop(stream);
    });
    let exporter = exporter(address.await, Protocol::Grpc);
    let payloads = payloads();
    let push = tokio::time::timeout(
        Duration::from_millis(50),
        exporter.push(payloads.clone().into()),
    );
    assert!(push.await.is_err());
    let stats = exporter.stats();
    assert_eq!((stats.pushes_failed, stats.points_dropped), (1, 4));
    assert_eq!(stats.last_error, Some(PushError::GivenUp.to_string()));
}

#[tokio::test]
async fn survives_a_wish_for_ever() {
    let ever = format!("retry-after: {}\r\n", u64::MAX);
    let collector = HttpCollector::default().then(answer("429 Slow", &ever, b""));
    let outcome = push_http(&collector).await;
    assert!(
        matches!(outcome.error, Some(PushError::Http { status: 429, .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn refuses_headers_that_grpc_cannot_carry() {
    let address = "127.0.0.1:1".parse().unwrap();
    let settings = OtlpSettings {
        headers: Headers::new([("trace-bin", "x")]).unwrap(),
        ..settings(address, Protocol::Grpc)
    };
    let error = Exporter::new(settings).unwrap_err();
    assert!(matches!(error, SetupError::Header { name } if name == "trace-bin"));
}
