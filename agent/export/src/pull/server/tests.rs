use std::{io::Read as _, net::SocketAddr, sync::Arc};

use flate2::read::GzDecoder;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{accepts_gzip, serve};
use crate::{
    fixture::{snapshot, template},
    pull::{Nothing, Pull, SCRAPES},
};

async fn served() -> (SocketAddr, Arc<Pull>) {
    let pull = Arc::new(Pull::new(template()));
    pull.publish(template(), Arc::new(Nothing(snapshot())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::clone(&pull)));
    (address, pull)
}

/// Head and body of one answer.
async fn ask(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}host: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let body = bytes.split_off(end.unwrap() + 4);
    (String::from_utf8(bytes).unwrap().to_lowercase(), body)
}

#[tokio::test]
async fn serves_the_form_that_is_asked_for() {
    let (address, _) = served().await;
    for (accept, content_type) in [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "accept: application/openmetrics-text\r\n",
            "application/openmetrics-text; version=1.0.0",
        ),
        (
            "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n",
            "application/vnd.google.protobuf; proto=",
        ),
    ] {
        let (head, body) = ask(address, &format!("GET /metrics HTTP/1.1\r\n{accept}")).await;
        assert!(head.starts_with("http/1.1 200 ok"), "{head}");
        assert!(
            head.contains(&format!("content-type: {content_type}")),
            "{head}"
        );
        let name = b"http_server_request_duration_seconds";
        assert!(body.windows(name.len()).any(|window| window == name));
    }
}

#[tokio::test]
async fn compresses_for_whom_it_helps() {
    let (address, _) = served().await;
    // Without chunks the end of the connection is the end of the body.
    let (head, body) = ask(
        address,
        "GET /metrics HTTP/1.0\r\naccept-encoding: deflate, gzip\r\n",
    )
    .await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    let (_, plain) = ask(address, "GET /metrics HTTP/1.0\r\n").await;
    assert_eq!(text.as_bytes(), plain);
    assert!(!accepts_gzip("gzip;q=0, deflate") && !accepts_gzip("") && accepts_gzip("GZIP;q=0.5"));
}

#[tokio::test]
async fn has_one_page_and_only_shows_it() {
    let (address, _) = served().await;
    let (head, _) = ask(address, "GET / HTTP/1.1\r\n").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    let (head, _) = ask(address, "POST /metrics HTTP/1.1\r\n").await;
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let (head, body) = ask(address, "HEAD /metrics HTTP/1.1\r\n").await;
    assert!(
        head.starts_with("http/1.1 200") && body.is_empty(),
        "{head}"
    );
}

#[tokio::test]
async fn turns_away_more_scrapes_than_it_has_room_for() {
    let (address, pull) = served().await;
    let permits = Arc::clone(&pull.scrapes)
        .acquire_many_owned(u32::try_from(SCRAPES).unwrap())
        .await
        .unwrap();
    let (head, _) = ask(address, "GET /metrics HTTP/1.1\r\n").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    drop(permits);
    for _ in 0..2 * SCRAPES {
        let (head, _) = ask(address, "GET /metrics HTTP/1.1\r\n").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }
}

#[tokio::test]
async fn survives_requests_that_are_none() {
    let (address, _) = served().await;
    for bytes in [
        &b"\x00\xff\r\n\r\n"[..],
        b"GET",
        b"GET /metrics HTTP/9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
    }
    let (head, _) = ask(address, "GET /metrics HTTP/1.1\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}
