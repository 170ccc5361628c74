//! Collectors that are slow, busy, or never stop talking.

use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    super::{PushError, RESPONSE_BYTES},
    PROTOBUF, answer, exporter, grpc_script, impatient, misbehave, partial, payloads, push_http,
};
use crate::{collector::HttpCollector, endpoint::Protocol};

const OVERLOAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn tries_again_after_every_answer_that_may_pass() {
    let codes = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    let over_grpc = codes.map(|code| async move {
        let collector = grpc_script(vec![Err(Status::new(code, "later"))]);
        let exporter = exporter(collector.serve().await, Protocol::Grpc);
        let outcome = exporter.push(payloads().into()).await;
        assert!(outcome.accepted(), "{code:?}: {outcome:?}");
        assert_eq!((outcome.retries, outcome.points_sent), (1, 4), "{code:?}");
    });
    let statuses = ["429 Slow", "502 Bad", "503 Busy", "504 Late"];
    let over_http = statuses.map(|status| async move {
        let collector = HttpCollector::default().then(answer(status, "", b""));
        let outcome = push_http(&collector).await;
        assert!(outcome.accepted(), "{status}: {outcome:?}");
        assert_eq!((outcome.retries, outcome.points_sent), (1, 4), "{status}");
    });
    let mut all = tokio::task::JoinSet::new();
    for case in over_grpc {
        all.spawn(case);
    }
    for case in over_http {
        all.spawn(case);
    }
    all.join_all().await;
}

#[tokio::test]
async fn waits_as_long_as_retry_info_or_a_date_say() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    let busy = Status::with_error_details(Code::ResourceExhausted, "full", details);
    let collector = grpc_script(vec![Err(busy)]);
    let started = Instant::now();
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    let outcome = exporter.push(payloads().into()).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));

    // A date has no parts of a second: two from now are more than one.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    let head = format!("retry-after: {date}\r\n");
    let collector = HttpCollector::default().then(answer("503 Busy", &head, b""));
    let started = Instant::now();
    let outcome = push_http(&collector).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_slow_collector_is_waited_for() {
    let address = misbehave(|mut stream| async move {
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        for part in answer("200 OK", PROTOBUF, b"").chunks(16) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(stream.write_all(part).await);
        }
    });
    let exporter = exporter(address.await, Protocol::HttpProtobuf);
    let outcome = exporter.push(payloads().into()).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert_eq!(outcome.retries, 0);
}

#[tokio::test]
async fn an_answer_without_an_end_costs_its_limit_at_most() {
    let address = misbehave(|mut stream| async move {
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        let chunk = [&b"10000\r\n"[..], &vec![0; 0x10000], b"\r\n"].concat();
        let mut sent = stream.write_all(OVERLOAD).await;
        let mut bytes = 0;
        while sent.is_ok() {
            sent = stream.write_all(&chunk).await;
            bytes += chunk.len();
            assert!(bytes < 4 * RESPONSE_BYTES, "somebody still listens");
        }
    });
    let exporter = exporter(address.await, Protocol::HttpProtobuf);
    let outcome = exporter.push(payloads().into()).await;
    assert_eq!(outcome.error, Some(PushError::ResponseTooLarge));
    assert_eq!((outcome.points_dropped, outcome.retries), (4, 0));
}

#[tokio::test]
async fn an_answer_that_drips_costs_the_timeout() {
    let address = misbehave(|mut stream| async move {
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        let mut sent = stream.write_all(OVERLOAD).await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            sent = stream.write_all(b"1\r\nx\r\n").await;
        }
    });
    let exporter = impatient(address.await, Protocol::HttpProtobuf);
    let outcome = exporter.push(payloads().into()).await;
    assert!(
        matches!(outcome.error, Some(PushError::Timeout { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn never_repeats_what_was_taken_in_part() {
    let collector = grpc_script(vec![Ok(partial(4, "none of it"))]);
    let exporter = exporter(collector.serve().await, Protocol::Grpc);
    let outcome = exporter.push(payloads().into()).await;
    assert!(outcome.accepted());
    assert_eq!((outcome.retries, collector.requests().len()), (0, 1));
    let stats = exporter.stats();
    assert_eq!((stats.points_sent, stats.points_rejected), (0, 4));
}
