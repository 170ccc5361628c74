//! Conversations that the checks play: a load that goes on until it is told to stop, and planted secrets.

use anyhow::{Result, ensure};

use super::super::Scale;
use super::super::peer::Peer;
use super::super::plan::{Batch, Plan, Turn, joined, part};
use super::super::stream::{RecvBy, SendBy, Stream};
use super::{Case, When};

/// What must be found nowhere.
pub(in super::super) const SECRETS: [&str; 5] = [
    "planted-bearer-5f3a9c",
    "planted-cookie-77e1b0",
    "planted-query-c41d22",
    "planted-body-90aa6e",
    "planted-response-3b8d17",
];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::peers("load", load_server, load_client).when(When::ByCheck),
        Case::plan("secrets", secrets).when(When::ByCheck),
    ]
}

fn turn() -> Turn {
    Turn::new("GET", "/load", 200)
}

fn load_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    while !peer.is_marked("client-done") {
        let stream = listener.accept()?;
        while let Some(first) = next_byte(&stream)? {
            let request = joined(&turn().request);
            ensure!(first == request[0], "the request differs");
            stream.expect(&request[1..], &RecvBy::Recv)?;
            stream.send(&joined(&turn().response), &SendBy::Send)?;
        }
    }
    Ok(())
}

/// `None` at the end of the connection.
fn next_byte(stream: &Stream) -> Result<Option<u8>> {
    let mut byte = [0];
    Ok((stream.receive_some(&mut byte)? == 1).then_some(byte[0]))
}

/// Keep-alive connections of a hundred requests each; any error of the service ends it with a failure.
fn load_client(peer: &mut Peer) -> Result<()> {
    peer.mark("running")?;
    while !peer.is_marked("stop") {
        let stream = peer.connect()?;
        let plan = Plan::of_batches(vec![Batch::one(turn()); 100]).without_lockstep();
        plan.request(peer, &stream, &plan.connections[0])?;
    }
    peer.mark("client-done")?;
    // Wakes the server from its accept; it may be gone already.
    peer.connect().ok();
    Ok(())
}

fn secrets(_: &Scale) -> Plan {
    let [bearer, cookie, query, body, response] = SECRETS;
    let head = |method: &str, framing: &str| {
        format!(
            "{method} /vault?token={query} HTTP/1.1\r\nHost: peer.test\r\nAuthorization: Bearer {bearer}\r\n\
             Cookie: session={cookie}\r\nX-Api-Key: {bearer}\r\n{framing}\r\n"
        )
    };
    let get = Turn::new("GET", "/vault", 200).with_request(vec![part(head("GET", ""))]).with_response(
        vec![part(format!(
            "HTTP/1.1 200 Word\r\nSet-Cookie: session={cookie}\r\nX-Token: {response}\r\nContent-Length: {}\r\n\r\n{response}",
            response.len()
        ))],
    );
    let framing = format!("Content-Length: {}\r\n", body.len());
    let post = Turn::new("POST", "/vault", 500)
        .with_request(vec![part(format!("{}{body}", head("POST", &framing)))]);
    let refused = Turn::new("GET", "/vault", 401)
        .with_route("/vault")
        .with_request(vec![part(head("GET", ""))]);
    Plan::of_turns([get.clone(), post, refused, get])
}
