//! Interim responses, and exchanges that end a connection's HTTP.

use anyhow::Result;

use super::super::Scale;
use super::super::peer::Peer;
use super::super::plan::{Plan, Turn, joined, part};
use super::super::stream::{RecvBy, SendBy, Stream};
use super::Case;
use crate::truth::{Key, Role};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 Word\r\nContent-Length: 4\r\n\r\nfine";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("interim-in-own-send", interim_in_own_send),
        Case::plan("interim-with-final", interim_with_final),
        Case::plan("interim-cut-anywhere", interim_cut_anywhere),
        Case::peers("expect-continue", continue_server, continue_client),
        Case::peers("switching-protocols", upgrade_server, upgrade_client),
        Case::peers(
            "switching-protocols-with-data",
            upgrade_data_server,
            upgrade_data_client,
        ),
        Case::peers("connect", connect_server, connect_client),
        Case::plan("connect-refused", connect_refused),
    ]
}

fn interim_in_own_send(_: &Scale) -> Plan {
    let turn = |parts: &[&str]| {
        Turn::new("GET", "/hinted", 200)
            .with_response(parts.iter().map(|text| part(*text)).collect())
    };
    Plan::of_turns([
        turn(&[CONTINUE, FINAL]),
        turn(&[HINTS, FINAL]),
        turn(&[HINTS, HINTS, FINAL]),
        Turn::new("GET", "/hinted", 201),
    ])
}

fn interim_with_final(_: &Scale) -> Plan {
    let turn = |text: String| Turn::new("GET", "/hinted", 200).with_response(vec![part(text)]);
    Plan::of_turns([
        turn(format!("{CONTINUE}{FINAL}")),
        turn(format!("{HINTS}{FINAL}")),
        turn(format!("{CONTINUE}{HINTS}{FINAL}")),
        Turn::new("GET", "/hinted", 201),
    ])
}

fn interim_cut_anywhere(_: &Scale) -> Plan {
    let turn =
        || Turn::new("GET", "/hinted", 200).with_response(vec![part(format!("{HINTS}{FINAL}"))]);
    Plan::of_turns((1..joined(&turn().response).len()).map(|at| turn().response_cut_at(at)))
}

fn continue_head() -> &'static str {
    "POST /big HTTP/1.1\r\nHost: peer.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
}

fn continue_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    for _ in 0..5 {
        let begin = stream
            .expect(continue_head().as_bytes(), &RecvBy::Recv)?
            .first();
        stream.send(CONTINUE.as_bytes(), &SendBy::Send)?;
        stream.expect(b"hello", &RecvBy::Recv)?;
        let end = stream.send(FINAL.as_bytes(), &SendBy::Send)?.last();
        peer.count_since(Key::answered(Role::Server, "POST", "/big", 200), begin, end);
    }
    stream.drain()?;
    Ok(())
}

fn continue_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    for _ in 0..5 {
        let begin = stream
            .send(continue_head().as_bytes(), &SendBy::Send)?
            .first();
        stream.expect(CONTINUE.as_bytes(), &RecvBy::Recv)?;
        stream.send(b"hello", &SendBy::Send)?;
        let end = stream.expect(FINAL.as_bytes(), &RecvBy::Recv)?.last();
        peer.count_since(Key::answered(Role::Client, "POST", "/big", 200), begin, end);
    }
    Ok(())
}

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: peer.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const INNER_REQUEST: &[u8] = b"GET /inner HTTP/1.1\r\nHost: inner.test\r\n\r\n";
const INNER_RESPONSE: &[u8] = b"HTTP/1.1 200 Inner\r\nContent-Length: 0\r\n\r\n";

/// What follows on the connection is no HTTP of this connection any more, whatever it looks like.
fn inner_server(stream: &Stream) -> Result<()> {
    for _ in 0..5 {
        stream.expect(&[0x81, 0x85, 1, 2, 3, 4], &RecvBy::Recv)?;
        stream.send(&[0x81, 0x05, 9, 9], &SendBy::Send)?;
        stream.expect(INNER_REQUEST, &RecvBy::Recv)?;
        stream.send(INNER_RESPONSE, &SendBy::Send)?;
    }
    stream.drain()?;
    Ok(())
}

fn inner_client(stream: &Stream) -> Result<()> {
    for _ in 0..5 {
        stream.send(&[0x81, 0x85, 1, 2, 3, 4], &SendBy::Send)?;
        stream.expect(&[0x81, 0x05, 9, 9], &RecvBy::Recv)?;
        stream.send(INNER_REQUEST, &SendBy::Send)?;
        stream.expect(INNER_RESPONSE, &RecvBy::Recv)?;
    }
    Ok(())
}

fn upgrade_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = stream.expect(UPGRADE.as_bytes(), &RecvBy::Recv)?.first();
    let end = stream.send(SWITCHING.as_bytes(), &SendBy::Send)?.last();
    peer.count_since(Key::answered(Role::Server, "GET", "/chat", 101), begin, end);
    inner_server(&stream)
}

fn upgrade_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = stream.send(UPGRADE.as_bytes(), &SendBy::Send)?.first();
    let end = stream.expect(SWITCHING.as_bytes(), &RecvBy::Recv)?.last();
    peer.count_since(Key::answered(Role::Client, "GET", "/chat", 101), begin, end);
    inner_client(&stream)
}

/// The new protocol's first bytes come in the same send as the 101.
fn upgrade_data_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = stream.expect(UPGRADE.as_bytes(), &RecvBy::Recv)?.first();
    let both = [SWITCHING.as_bytes(), INNER_RESPONSE].concat();
    let end = stream.send(&both, &SendBy::Send)?.last();
    peer.count_since(Key::answered(Role::Server, "GET", "/chat", 101), begin, end);
    inner_server(&stream)
}

fn upgrade_data_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = stream.send(UPGRADE.as_bytes(), &SendBy::Send)?.first();
    let both = [SWITCHING.as_bytes(), INNER_RESPONSE].concat();
    let end = stream.expect(&both, &RecvBy::Recv)?.last();
    peer.count_since(Key::answered(Role::Client, "GET", "/chat", 101), begin, end);
    inner_client(&stream)
}

const CONNECT: &str = "CONNECT inner.test:80 HTTP/1.1\r\nHost: inner.test:80\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection Established\r\n\r\n";

fn connect_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = stream.expect(CONNECT.as_bytes(), &RecvBy::Recv)?.first();
    let end = stream.send(ESTABLISHED.as_bytes(), &SendBy::Send)?.last();
    peer.count_since(Key::answered(Role::Server, "CONNECT", "", 200), begin, end);
    inner_server(&stream)
}

fn connect_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = stream.send(CONNECT.as_bytes(), &SendBy::Send)?.first();
    let end = stream.expect(ESTABLISHED.as_bytes(), &RecvBy::Recv)?.last();
    peer.count_since(Key::answered(Role::Client, "CONNECT", "", 200), begin, end);
    inner_client(&stream)
}

fn connect_refused(_: &Scale) -> Plan {
    let refused = Turn::new("CONNECT", "/", 403).with_request(vec![part(CONNECT)]);
    Plan::of_turns([
        refused.clone(),
        Turn::new("GET", "/after", 200),
        refused,
        Turn::new("GET", "/after", 201),
    ])
}
