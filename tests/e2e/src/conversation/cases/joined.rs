//! Connections older than the agent.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::super::peer::Peer;
use super::super::plan::{Batch, Plan, Turn, joined};
use super::super::stream::{RecvBy, SendBy, Stream};
use super::{Case, When};

pub(super) fn cases() -> Vec<Case> {
    let before =
        |name, server, client| Case::peers(name, server, client).when(When::BeforeTheAgent);
    vec![
        before("opened-before-the-agent", old_server, old_client),
        before("used-before-the-agent", used_server, used_client),
        before("receive-waits-at-attach", waiting_server, old_client).first_unseen_on(
            &["fexit", "kprobe"],
            "the return of a receive that was waiting when the agent attached is not seen",
        ),
        before("joined-in-mid-upload", upload_server, upload_client),
        before(
            "long-before-the-end-of-an-upload",
            slow_upload_server,
            upload_client,
        ),
        before("joined-in-mid-download", download_server, download_client),
    ]
}

fn plan(count: usize) -> Plan {
    const STATUSES: [u16; 5] = [200, 201, 202, 203, 206];
    let turn = |index: usize| Turn::new("GET", "/old", STATUSES[index % STATUSES.len()]);
    Plan::of_turns((0..count).map(turn)).without_lockstep()
}

fn serve(peer: &mut Peer, stream: &Stream, count: usize) -> Result<()> {
    let plan = plan(count);
    plan.serve(peer, stream, &plan.connections[0])
}

fn request(peer: &mut Peer, stream: &Stream, count: usize) -> Result<()> {
    let plan = plan(count);
    plan.request(peer, stream, &plan.connections[0])
}

fn old_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    stream.wait_readable()?;
    serve(peer, &stream, 50)?;
    stream.drain()?;
    Ok(())
}

/// As servers with a thread for each connection do: the receive of the first request waits already.
fn waiting_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    serve(peer, &stream, 50)?;
    stream.drain()?;
    Ok(())
}

fn old_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    peer.mark("before-done")?;
    peer.wait_for("agent-ready")?;
    request(peer, &stream, 50)
}

/// Requests of the time before are nobody's; those after count.
fn used_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let plan = plan(7);
    let uncounted = &mut Peer::new(
        "nobody",
        peer.transport,
        &peer.directory,
        peer.scale.clone(),
    );
    plan.serve(uncounted, &stream, &plan.connections[0])?;
    stream.wait_readable()?;
    serve(peer, &stream, 50)?;
    stream.drain()?;
    Ok(())
}

fn used_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let plan = plan(7);
    let uncounted = &mut Peer::new(
        "nobody",
        peer.transport,
        &peer.directory,
        peer.scale.clone(),
    );
    plan.request(uncounted, &stream, &plan.connections[0])?;
    peer.mark("before-done")?;
    peer.wait_for("agent-ready")?;
    request(peer, &stream, 50)
}

/// Bytes that a body may well have: text with lines that look like heads, and binary.
fn body(length: usize) -> Vec<u8> {
    let mut pattern = b"GET /inner HTTP/1.1\r\nHost: inner.test\r\n\r\n".to_vec();
    pattern.extend((0..=255).cycle().take(4096));
    pattern.extend(b"HTTP/1.1 500 Inner\r\nContent-Length: 0\r\n\r\n");
    pattern.into_iter().cycle().take(length).collect()
}

fn upload_head(length: usize) -> Vec<u8> {
    format!("PUT /upload HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {length}\r\n\r\n")
        .into_bytes()
}

fn upload_server(peer: &mut Peer) -> Result<()> {
    take_upload(peer, Duration::ZERO)
}

/// By the time of its response the hooks have settled: a connection that is met then might be a new one.
fn slow_upload_server(peer: &mut Peer) -> Result<()> {
    let pause = peer.scale.pause;
    take_upload(peer, pause)
}

fn take_upload(peer: &mut Peer, pause: Duration) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let body = body(peer.scale.upload_bytes);
    let (first, rest) = body.split_at(body.len() / 2);
    stream.expect(&upload_head(body.len()), &RecvBy::Recv)?;
    stream.expect(first, &RecvBy::Recv)?;
    peer.mark("before-done")?;
    peer.wait_for("agent-ready")?;
    let (second, rest) = rest.split_at(rest.len() / 2);
    stream.expect(second, &RecvBy::Recv)?;
    sleep(pause);
    stream.expect(rest, &RecvBy::Recv)?;
    stream.send(
        &joined(&Turn::new("PUT", "/upload", 200).response),
        &SendBy::Send,
    )?;
    let count = peer.scale.requests_after_upload;
    serve(peer, &stream, count)?;
    stream.drain()?;
    Ok(())
}

fn upload_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let body = body(peer.scale.upload_bytes);
    stream.send(&upload_head(body.len()), &SendBy::Send)?;
    for chunk in body.chunks(50_000) {
        stream.send(chunk, &SendBy::Send)?;
    }
    stream.expect(
        &joined(&Turn::new("PUT", "/upload", 200).response),
        &RecvBy::Recv,
    )?;
    let count = peer.scale.requests_after_upload;
    request(peer, &stream, count)
}

fn download(length: usize) -> Turn {
    let mut turn = Turn::new("GET", "/download", 200);
    let mut bytes = format!("HTTP/1.1 200 Word\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend(body(length));
    turn.response[0].bytes = bytes;
    turn
}

fn download_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let turn = download(peer.scale.upload_bytes / 10);
    stream.expect(&joined(&turn.request), &RecvBy::Recv)?;
    for chunk in joined(&turn.response).chunks(50_000) {
        stream.send(chunk, &SendBy::Send)?;
    }
    stream.wait_readable()?;
    let batches: Vec<Batch> = plan(200).connections.remove(0);
    plan(0).serve(peer, &stream, &batches)?;
    stream.drain()?;
    Ok(())
}

fn download_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let turn = download(peer.scale.upload_bytes / 10);
    stream.send(&joined(&turn.request), &SendBy::Send)?;
    let response = joined(&turn.response);
    let (first, rest) = response.split_at(response.len() / 2);
    stream.expect(first, &RecvBy::Recv)?;
    peer.mark("before-done")?;
    peer.wait_for("agent-ready")?;
    stream.expect(rest, &RecvBy::Recv)?;
    request(peer, &stream, 200)
}
